//! The one definition: options, nouns and verbs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::{
    apply, cluster, events, files, flow, lb, map, node, plan, policy, pool, status, token, until,
    validate, vip,
};

/// Ask vipd, and tell it what to do.
#[derive(Debug, Parser)]
#[command(name = "vipctl", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) noun: Noun,
}

const EXAMPLES: &str = "\
Examples:
  vipctl pool create web --block 10.0.0.10-10.0.0.20 --block fd00::10-fd00::20
  vipctl vip create www --pool web --families require_dual
  vipctl status --watch
  vipctl vip move www --to n2
  vipctl node drain n1
  vipctl plan --without n1
  vipctl validate -f site/ && vipctl diff -f site/; vipctl apply -f site/
  vipctl wait vip/www --for condition=satisfied --timeout 1m
  vipctl --server https://192.0.2.1:7480 --ca ca.pem --token-file token vip list -o yaml";

const GLOBAL: &str = "Options of every command";

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// API to ask: unix:/path or https://host:port [default: unix:/run/vipd/api.sock]
    #[arg(
        long,
        global = true, help_heading = GLOBAL,
        env = "VIPD_SERVER",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) server: Option<String>,
    /// File with the bearer token, for https
    #[arg(
        long,
        global = true, help_heading = GLOBAL,
        env = "VIPD_TOKEN_FILE",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// File with the cluster's CA certificate, for https
    #[arg(
        long,
        global = true, help_heading = GLOBAL,
        env = "VIPD_CA",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub(crate) ca: Option<PathBuf>,
    /// How to show the answer
    #[arg(
        short,
        long,
        global = true, help_heading = GLOBAL,
        value_enum,
        default_value = "table",
        value_name = "FORMAT"
    )]
    pub(crate) output: Format,
    /// Be content with what the asked node knows, even without a quorum
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) local: bool,
}

/// How to show an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people, as wide as the terminal
    Table,
    /// The same, and nothing is cut off
    Wide,
    /// For scripts
    Json,
    /// For files that `apply -f` takes
    Yaml,
}

/// What to act on.
#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// Pools of addresses
    #[command(subcommand, visible_alias = "pools")]
    Pool(pool::Verb),
    /// Virtual IPs
    #[command(subcommand, visible_alias = "vips")]
    Vip(vip::Verb),
    /// Policies: which VIPs may be announced from which nodes, on which interfaces
    #[command(subcommand, visible_alias = "policies")]
    Policy(policy::Verb),
    /// Nodes of the cluster
    #[command(subcommand, visible_alias = "nodes")]
    Node(node::Verb),
    /// Members, leader, quorum, join tokens
    #[command(subcommand)]
    Cluster(cluster::Verb),
    /// What the asked node's kernel balances: services, backends, connections, tables
    #[command(subcommand)]
    Lb(lb::Verb),
    /// Connections that the asked node's kernel balances: the same as lb connections
    #[command(subcommand, visible_alias = "flows")]
    Flow(flow::Verb),
    /// The maps that a node shares with its kernel's programs, decoded
    #[command(subcommand)]
    Map(map::Verb),
    /// What would happen if a node were lost, or drained; changes nothing
    Plan(plan::PlanArgs),
    /// Everything at a glance, as the asked node sees it
    Status(status::StatusArgs),
    /// What happened, and why
    Events(events::EventsArgs),
    /// Tokens for the API over TLS
    #[command(subcommand, visible_alias = "tokens")]
    Token(token::Verb),
    /// Make or replace everything that files describe
    Apply(apply::ApplyArgs),
    /// Show what apply would change; exits with 0 if nothing, 1 if something, 2 if it can't be told
    Diff(files::FilesArgs),
    /// Find what is wrong with files, or with the cluster as it is: overlaps, pools that no node can announce, selectors
    /// that select nothing, VIPs that nothing can satisfy
    Validate(validate::ValidateArgs),
    /// Wait until objects are as they should be
    Wait(until::UntilArgs),
    /// Completions for a shell, on stdout
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Man pages, into a directory
    #[command(hide = true)]
    Man {
        /// Where to
        dir: PathBuf,
    },
}

/// Options of a write that does not depend on what an object was.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct TryArgs {
    /// Only say what would happen
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl From<TryArgs> for vipd_client::WriteOptions {
    fn from(args: TryArgs) -> Self {
        Self {
            dry_run: args.dry_run,
            ..Self::default()
        }
    }
}

/// Options of a write that replaces, changes or deletes an object.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    pub(crate) tried: TryArgs,
    /// Only if the object is still at this revision
    #[arg(long, value_name = "N")]
    pub(crate) if_revision: Option<u64>,
}

impl From<WriteArgs> for vipd_client::WriteOptions {
    fn from(args: WriteArgs) -> Self {
        Self {
            dry_run: args.tried.dry_run,
            if_revision: args.if_revision,
            ..Self::default()
        }
    }
}

/// Reads `key=value`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        None if text.len() > 1 && text.ends_with('-') => Err(format!(
            "a label is key=value; to take one back from a node: vipctl node set NODE --unlabel {}",
            text.trim_end_matches('-')
        )),
        Some(_) | None => Err("a label is key=value".to_owned()),
    }
}

/// All labels of a command line by key.
///
/// # Errors
/// When a key is named twice: which of its values was meant is not for this program to choose.
pub(crate) fn labels<V>(
    given: impl IntoIterator<Item = (String, V)>,
) -> Result<BTreeMap<String, V>, Failure> {
    let mut labels = BTreeMap::new();
    for (key, value) in given {
        if labels.contains_key(&key) {
            return Err(Failure::new(
                format!("label {key} is named twice"),
                format!("name {key} once: a label has one value"),
            ));
        }
        labels.insert(key, value);
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        super::Cli::command().debug_assert();
    }
}
