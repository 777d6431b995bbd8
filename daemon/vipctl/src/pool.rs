//! `vipctl pool`.

use clap::{Args, Subcommand};
use vipd_api_types::{Block, Count, Duration, Pool, PoolSpec, PoolWrite, Selector};
use vipd_client::{WriteOptions, Written};

use crate::apply::{self, ApplyArgs};
use crate::cli::{Global, TryArgs, WriteArgs, label, labels};
use crate::edit::{self, EditArgs};
use crate::failure::Failure;
use crate::manifest::Kind;
use crate::output::{self, Mood};
use crate::{connect, render};

/// What to do with pools.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List all pools
    List,
    /// Show one pool
    Get {
        /// Its name
        name: String,
    },
    /// Make a pool
    Create(CreateArgs),
    /// Make or replace pools from a file
    Apply(ApplyArgs),
    /// Change a pool in your editor (VISUAL, EDITOR, else vi)
    Edit(EditArgs),
    /// Delete a pool that no VIP has an address of
    Delete {
        /// Its name
        name: String,
        /// Even so: take its addresses from their VIPs, which ask anew
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        write: WriteArgs,
    },
}

/// A pool on the command line.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its name
    name: String,
    /// A prefix (10.0.0.0/28), a range (10.0.0.1-10.0.0.9) or one address; repeat for more
    #[arg(long = "block", required = true, value_name = "BLOCK")]
    blocks: Vec<String>,
    /// A label, key=value; repeat for more
    #[arg(long = "label", value_parser = label, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
    /// Keep the first and last address of each prefix back
    #[arg(long)]
    no_first_last: bool,
    /// Give addresses only to VIPs that name the pool
    #[arg(long)]
    no_auto_assign: bool,
    /// Hand out nothing for now
    #[arg(long)]
    disabled: bool,
    /// Pools with a lower number are tried first
    #[arg(
        long,
        default_value_t = 0,
        value_name = "N",
        allow_negative_numbers = true
    )]
    priority: i32,
    /// Serve only VIPs with this label, key=value, also vipd/name and vipd/namespace; repeat for more
    #[arg(long = "serve", value_parser = label, value_name = "KEY=VALUE")]
    serves: Vec<(String, String)>,
    /// For so long give an address that was freed to nobody (500ms, 10s, 5m, 1h)
    #[arg(long, default_value_t, value_name = "TIME")]
    cooldown: Duration,
    /// Within that time, give it again to a VIP that returns under the same name
    #[arg(long)]
    reclaim: bool,
    /// Refuse blocks that overlap others, rather than wait until that ends
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    write: TryArgs,
}

pub(crate) async fn run(verb: Verb, global: &Global) -> Result<(), Failure> {
    match verb {
        Verb::List => {
            let pools = connect::client(global)?.list::<Pool>().await?;
            output::show(&pools, global.output, || table(&pools.items))
        }
        Verb::Get { name } => {
            let pool = connect::client(global)?.get::<Pool>(&name).await?;
            output::show(&pool, global.output, || {
                let table = table(std::slice::from_ref(&pool));
                render::with_complaints(table, &pool.status.conditions)
            })
        }
        Verb::Create(args) => create(args, global).await,
        Verb::Apply(args) => apply::run(&args, Some(Kind::Pool), global).await,
        Verb::Edit(args) => edit::run::<Pool>(&args, global).await,
        Verb::Delete { name, force, write } => {
            let how = WriteOptions {
                force,
                ..write.into()
            };
            match connect::client(global)?.delete::<Pool>(&name, how).await? {
                Written::Done(_) => output::line(&format!("pool/{name} deleted")),
                Written::Tried(tried) => {
                    render::dry_run(&tried, &format!("pool/{name}"), global.output)
                }
            }
        }
    }
}

async fn create(args: CreateArgs, global: &Global) -> Result<(), Failure> {
    let body = PoolWrite {
        name: Some(args.name.clone()),
        labels: labels(args.labels)?,
        spec: PoolSpec {
            blocks: args
                .blocks
                .iter()
                .map(|block| Block::from_short(block))
                .collect(),
            allow_first_last: !args.no_first_last,
            disabled: args.disabled,
            auto_assign: !args.no_auto_assign,
            priority: args.priority,
            selector: selector(args.serves)?,
            cooldown: args.cooldown,
            reclaim: args.reclaim,
        },
    };
    let how = WriteOptions {
        strict: args.strict,
        ..args.write.into()
    };
    match connect::client(global)?.create::<Pool>(&body, how).await? {
        Written::Done(pool) => output::show(&pool, global.output, || match &pool {
            Some(pool) => format!("pool/{} created: {}", args.name, summary(pool)),
            None => format!("pool/{} created", args.name),
        }),
        Written::Tried(tried) => {
            render::dry_run(&tried, &format!("pool/{}", args.name), global.output)
        }
    }
}

/// What the pool serves, by labels.
fn selector(serves: Vec<(String, String)>) -> Result<Option<Selector>, Failure> {
    let selector = Selector {
        match_labels: labels(serves)?,
        ..Selector::default()
    };
    Ok((!selector.is_empty()).then_some(selector))
}

/// How much it has and what is against it, on one line.
fn summary(pool: &Pool) -> String {
    let complaints = render::complaints(&pool.status.conditions);
    let complaints = complaints.into_iter().map(str::to_owned);
    let parts: Vec<_> = counts(pool).into_iter().chain(complaints).collect();
    parts.join(", ")
}

fn counts(pool: &Pool) -> Vec<String> {
    let families = &pool.status.families;
    [("IPv4", families.ipv4), ("IPv6", families.ipv6)]
        .into_iter()
        .filter_map(|(family, count)| {
            count.map(|count| format!("{} {family} addresses", big(count.total)))
        })
        .collect()
}

fn table(pools: &[Pool]) -> String {
    let mut table = output::table(&[
        "POOL",
        "BLOCKS",
        "IPV4 USED",
        "IPV6 USED",
        "PRIORITY",
        "STATE",
    ]);
    for pool in pools {
        let (state, mood) = state(pool);
        table.add_row(vec![
            pool.name.as_str().into(),
            pool.spec
                .blocks
                .iter()
                .map(Block::to_short)
                .collect::<Vec<_>>()
                .join(" ")
                .into(),
            used(pool.status.families.ipv4).into(),
            used(pool.status.families.ipv6).into(),
            pool.spec.priority.into(),
            output::mood(state, mood),
        ]);
    }
    output::draw(table)
}

fn state(pool: &Pool) -> (String, Mood) {
    let complaints = render::complaints(&pool.status.conditions);
    let full = |count: Option<Count>| count.is_some_and(|count| count.available == 0);
    if pool.status.conflicting {
        ("conflicting".to_owned(), Mood::Bad)
    } else if !complaints.is_empty() {
        (complaints.join("; "), Mood::Odd)
    } else if pool.spec.disabled {
        ("disabled".to_owned(), Mood::Odd)
    } else if full(pool.status.families.ipv4) || full(pool.status.families.ipv6) {
        ("full".to_owned(), Mood::Odd)
    } else if pool.spec.auto_assign {
        ("ready".to_owned(), Mood::Good)
    } else {
        ("ready, by name only".to_owned(), Mood::Good)
    }
}

fn used(count: Option<Count>) -> String {
    count.map_or_else(
        || "-".to_owned(),
        |count| format!("{}/{}", count.used, big(count.total)),
    )
}

/// A count as people say it: beyond ten digits, as a power of two where it is one.
fn big(count: u128) -> String {
    if count > 9_999_999_999 && count.is_power_of_two() {
        format!("2^{}", count.trailing_zeros())
    } else if count > 9_999_999_999 {
        format!("~2^{}", count.ilog2())
    } else {
        count.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::big;

    #[test]
    fn big_counts_fit_a_table() {
        assert_eq!(big(11), "11");
        assert_eq!(big(1 << 64), "2^64");
        assert_eq!(big((1 << 64) - 2), "~2^63");
    }
}
