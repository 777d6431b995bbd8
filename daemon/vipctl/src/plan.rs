//! `vipctl plan`, and what it shares with `vipctl cluster rebalance`: where addresses go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use clap::Args;
use vipd_api_types::{Change, Load, Node, Plan, Rebalance};
use vipd_client::Client;

use crate::cli::Global;
use crate::connect;
use crate::failure::Failure;
use crate::output::{self, Mood, or_dash};
use crate::wait::{WaitArgs, few};

/// Which node, and how it would go.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct PlanArgs {
    /// The node that would be lost: powered off, crashed, cut off
    #[arg(long, value_name = "NODE")]
    without: Option<String>,
    /// The node that would be drained
    #[arg(long, value_name = "NODE")]
    drain: Option<String>,
}

pub(crate) async fn run(args: &PlanArgs, global: &Global) -> Result<(), Failure> {
    let client = connect::client(global)?;
    let (node, drained) = match (&args.without, &args.drain) {
        (Some(node), _) => (node, false),
        (None, Some(node)) => (node, true),
        (None, None) => return Err(Failure::new("no node is named", "give --without NODE")),
    };
    let plan = client.plan(node, drained).await?;
    output::show(&plan, global.output, || draw(&plan))
}

fn draw(plan: &Plan) -> String {
    let mut text = String::new();
    if !plan.changes.is_empty() {
        text.push_str(&table(&plan.changes));
        text.push_str("\n\n");
    }
    text.push_str(&loads(&plan.loads));
    text.push_str("\n\n");
    text.push_str(&summary(plan));
    text
}

fn summary(plan: &Plan) -> String {
    let node = &plan.without;
    let gone = if plan.drained { "drained" } else { "lost" };
    let Some(within) = plan.within_ms else {
        return format!(
            "! with {node} {gone} no majority of the voters is left: nothing is taken over, and every node falls silent \
             until a majority is back (unless lease.on_quorum_loss = \"freeze\")"
        );
    };
    let (moved, homeless): (Vec<_>, Vec<_>) =
        plan.changes.iter().partition(|change| change.to.is_some());
    let own = plan.loads.iter().find(|load| load.node == *node);
    let stay = own.map_or(0, |load| load.after);
    let mut to: BTreeMap<&str, usize> = BTreeMap::new();
    for change in &moved {
        *to.entry(or_nobody(change)).or_default() += 1;
    }
    let to: Vec<_> = to
        .iter()
        .map(|(node, n)| format!("{n} to {node}"))
        .collect();
    let mut text = match moved.len() {
        0 => format!("with {node} {gone} no address moves"),
        n => format!(
            "with {node} {gone} {n} addresses move ({}), answered for again within about {within} ms: {}",
            to.join(", "),
            plan.estimate
        ),
    };
    if !homeless.is_empty() {
        let n = homeless.len();
        text.push_str(&format!(
            "\n! {n} addresses have no holder then: no other node can take them"
        ));
    }
    if stay > 0 {
        text.push_str(&format!(
            "\n! {stay} addresses stay on {node}: no other node can take them"
        ));
    }
    text
}

fn or_nobody(change: &Change) -> &str {
    change.to.as_deref().unwrap_or("nobody")
}

/// What was moved, or would be, and what each node then holds.
pub(crate) fn rebalanced(moved: &Rebalance) -> String {
    let all: u64 = moved.loads.iter().map(|load| load.after).sum();
    let (n, loads) = (moved.changes.len(), loads(&moved.loads));
    let text = match (n, moved.dry_run) {
        (0, _) => return format!("{loads}\n\nbalanced: nothing to move"),
        (n, true) => format!("{n} of {all} addresses would move (dry run, nothing was changed)"),
        (n, false) => format!("{n} of {all} addresses moved"),
    };
    format!("{}\n\n{loads}\n\n{text}", table(&moved.changes))
}

fn table(changes: &[Change]) -> String {
    let mut table = output::table(&["VIP", "ADDRESS", "FROM", "TO"]);
    for change in changes {
        let to = match &change.to {
            Some(to) => to.as_str().into(),
            None => output::mood("nobody", Mood::Bad),
        };
        table.add_row(vec![
            change.vip.as_str().into(),
            change.address.to_string().into(),
            or_dash(change.from.as_deref()).into(),
            to,
        ]);
    }
    output::draw(table)
}

fn loads(loads: &[Load]) -> String {
    let mut table = output::table(&["NODE", "WEIGHT", "HOLDS", "THEN"]);
    for load in loads {
        table.add_row([
            load.node.clone(),
            load.weight.to_string(),
            load.before.to_string(),
            load.after.to_string(),
        ]);
    }
    output::draw(table)
}

/// Waits until every address is where it was to go.
pub(crate) async fn arrived(
    client: &Client,
    wait: WaitArgs,
    changes: &[Change],
) -> Result<(), Failure> {
    wait.until(async || {
        // Of thousands of VIPs the nodes are the cheapest question that tells who holds them.
        let nodes = client.list::<Node>().await?.items;
        let held: BTreeMap<&str, BTreeSet<IpAddr>> = nodes
            .iter()
            .map(|node| (&*node.name, node.status.held.iter().copied().collect()))
            .collect();
        // One that is gone meanwhile, or went on elsewhere, need not be waited for.
        let waits = changes.iter().filter(|change| {
            let from = change.from.as_deref().and_then(|from| held.get(from));
            from.is_some_and(|held| held.contains(&change.address))
        });
        let left: Vec<_> = waits.map(|change| change.address).collect();
        Ok((!left.is_empty()).then(|| format!("not moved yet: {}", few(&left))))
    })
    .await
}
