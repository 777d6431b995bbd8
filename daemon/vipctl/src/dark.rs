//! VIPs that no node may hold, told after a write that may be why. The write was done as it was asked for, so it is no failure.

use std::collections::BTreeSet;
use std::io::Write as _;

use vipd_api_types::{Condition, Policy, Vip};
use vipd_client::Client;

use crate::manifest::Kind;

/// How many VIPs are named.
const SHOWN: usize = 5;

/// So many are asked for one by one; of a large cluster, that is less than all.
const FEW: usize = 16;

/// Whether a condition says that no node may hold an address, or only nodes that may not.
pub(crate) fn is_dark(known: &Condition) -> bool {
    known.kind == "held"
        && !known.status
        && ["no_candidate", "ineligible"].contains(&known.reason.as_str())
}

/// What the cluster says against the VIP's addresses being held.
fn why(vip: &Vip) -> Option<&str> {
    let addresses = vip.status.addresses.iter();
    let mut conditions = addresses.flat_map(|address| &address.conditions);
    let dark = conditions.find(|known| is_dark(known))?;
    Some(&dark.message)
}

/// Warns on stderr of dark VIPs among those that were written, or that a written policy selects. What can't be asked is left
/// unsaid: the write itself is done.
pub(crate) async fn warn(client: &Client, written: &[(Kind, &str)]) {
    let of = |kind: Kind| written.iter().filter(move |(of, _)| *of == kind);
    let mut names: BTreeSet<String> = of(Kind::Vip).map(|(_, name)| (*name).to_owned()).collect();
    if of(Kind::Policy).next().is_some() {
        let Ok(policies) = client.list::<Policy>().await else {
            return;
        };
        let policies = policies.items.into_iter();
        let own = policies.filter(|policy| of(Kind::Policy).any(|(_, name)| *name == policy.name));
        names.extend(own.flat_map(|policy| policy.status.vips));
    }
    let vips = those(client, &names).await;
    let dark = vips.iter().filter_map(|vip| Some((vip, why(vip)?)));
    let dark: Vec<_> = dark.collect();
    let mut lines: Vec<String> = dark
        .iter()
        .take(SHOWN)
        .map(|(vip, why)| {
            format!(
                "warning: vip/{} has no node that may hold it: {why}",
                vip.name
            )
        })
        .collect();
    match dark.len() {
        0 => return,
        n if n > SHOWN => lines.push(format!("warning: and {} more", n - SHOWN)),
        _ => {}
    }
    lines.push(
        "next: compare vipctl policy list with the labels and interfaces of vipctl node list -o yaml\n"
            .to_owned(),
    );
    // Nobody is left to warn when stderr is gone.
    let _gone = std::io::stderr().write_all(lines.join("\n").as_bytes());
}

/// The VIPs of these names, as far as they can be had.
async fn those(client: &Client, names: &BTreeSet<String>) -> Vec<Vip> {
    if names.len() > FEW {
        let all = client.list::<Vip>().await.map(|list| list.items);
        let all = all.unwrap_or_default().into_iter();
        return all.filter(|vip| names.contains(&vip.name)).collect();
    }
    let mut vips = Vec::new();
    for name in names {
        vips.extend(client.get::<Vip>(name).await);
    }
    vips
}
