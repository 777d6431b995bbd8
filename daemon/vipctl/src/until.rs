//! `vipctl wait`: until objects are as they should be, with a bound; for scripts.

use std::net::IpAddr;
use std::time::{Duration as Time, Instant};

use clap::Args;
use vipd_api_types::{Condition, Duration, Mode, Node, Policy, Pool, Vip};
use vipd_client::Client;

use crate::cli::Global;
use crate::failure::Failure;
use crate::{connect, output};

/// Between two questions.
const PAUSE: Time = Time::from_millis(200);

/// What to wait for.
#[derive(Debug, Args)]
pub(crate) struct UntilArgs {
    /// Objects: vip/www, pool/web, policy/edge, node/n1
    #[arg(required = true, value_name = "KIND/NAME", value_parser = object)]
    objects: Vec<(What, String)>,
    /// condition=NAME or delete. Of VIPs: satisfied, held, settled, answering, unique, served, healthy, seen, in_time; of pools:
    /// usable, unclaimed; of nodes: up, drained, eligible, beats, datapath; no- in front means that it is not so
    #[arg(long = "for", value_name = "GOAL", value_parser = goal)]
    goal: Goal,
    /// How long to wait (500ms, 10s, 5m, 1h)
    #[arg(long, default_value = "30s", value_name = "TIME")]
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Vip,
    Pool,
    Policy,
    Node,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Goal {
    Gone,
    Is { condition: String, wanted: bool },
}

fn object(text: &str) -> Result<(What, String), String> {
    let (kind, name) = text
        .split_once('/')
        .ok_or("write KIND/NAME, for example vip/www")?;
    let what = match kind {
        "vip" | "vips" => What::Vip,
        "pool" | "pools" => What::Pool,
        "policy" | "policies" => What::Policy,
        "node" | "nodes" => What::Node,
        other => return Err(format!("{other:?} is not one of vip, pool, policy, node")),
    };
    Ok((what, name.to_owned()))
}

fn goal(text: &str) -> Result<Goal, String> {
    if text == "delete" {
        return Ok(Goal::Gone);
    }
    let condition = text
        .strip_prefix("condition=")
        .filter(|name| !name.is_empty());
    let condition =
        condition.ok_or("write condition=NAME, for example condition=satisfied, or delete")?;
    Ok(match condition.strip_prefix("no-") {
        Some(name) => Goal::Is {
            condition: name.to_owned(),
            wanted: false,
        },
        None => Goal::Is {
            condition: condition.to_owned(),
            wanted: true,
        },
    })
}

pub(crate) async fn run(args: &UntilArgs, global: &Global) -> Result<(), Failure> {
    let client = connect::client(global)?;
    let deadline = Instant::now() + Time::from_millis(args.timeout.0);
    for (what, name) in &args.objects {
        let title = format!("{}/{name}", noun(*what));
        loop {
            let Some(missing) = missing(&client, *what, name, &args.goal).await? else {
                break;
            };
            if Instant::now() >= deadline {
                let Missing { what, next } = missing;
                let what = format!("{title}: after {} {what}", args.timeout);
                return Err(Failure::new(what, next));
            }
            tokio::time::sleep(PAUSE).await;
        }
        output::line(&format!("{title} {}", reached(&args.goal)))?;
    }
    Ok(())
}

fn noun(what: What) -> &'static str {
    match what {
        What::Vip => "vip",
        What::Pool => "pool",
        What::Policy => "policy",
        What::Node => "node",
    }
}

fn reached(goal: &Goal) -> String {
    match goal {
        Goal::Gone => "deleted".to_owned(),
        Goal::Is {
            condition,
            wanted: true,
        } => condition.clone(),
        Goal::Is {
            condition,
            wanted: false,
        } => format!("no longer {condition}"),
    }
}

/// What is missing, and what may be done about it.
#[derive(Debug)]
struct Missing {
    what: String,
    next: String,
}

/// What is missing, if something is.
async fn missing(
    client: &Client,
    what: What,
    name: &str,
    goal: &Goal,
) -> Result<Option<Missing>, Failure> {
    let noun = noun(what);
    let missing = |what: String, next: String| Ok(Some(Missing { what, next }));
    let looked = match what {
        What::Vip => match client.get::<Vip>(name).await {
            Ok(vip) => {
                let asked = matches!(goal, Goal::Is { condition, .. } if condition == "answering");
                if let Some((address, holder)) = elsewhere(&vip).filter(|_| asked) {
                    return Err(Failure::new(
                        format!(
                            "vip/{name}: {address} is held by {holder}, and only that node knows whether it answers"
                        ),
                        format!(
                            "ask there: on {holder}, or with --server and the address of its API; or wait for condition=held"
                        ),
                    ));
                }
                Ok(of_vip(&vip))
            }
            Err(error) => Err(error),
        },
        What::Pool => client.get::<Pool>(name).await.map(|pool| of_pool(&pool)),
        What::Policy => client.get::<Policy>(name).await.map(|_| Vec::new()),
        What::Node => match client.get::<Node>(name).await {
            Ok(node) => {
                at_home(client, name, goal).await?;
                Ok(of_node(&node))
            }
            Err(error) => Err(error),
        },
    };
    let conditions = match (looked, goal) {
        (Ok(_), Goal::Gone) => {
            let next = match what {
                What::Node => format!("remove it: vipctl cluster remove {name}"),
                What::Vip | What::Pool | What::Policy => {
                    format!("delete it: vipctl {noun} delete {name}")
                }
            };
            return missing("it is still there".to_owned(), next);
        }
        (Err(error), Goal::Gone) if error.is_not_found() => return Ok(None),
        // It may yet be made: whoever waits for a condition waits for that too.
        (Err(error), Goal::Is { .. }) if error.is_not_found() => {
            let next = format!("make it, or compare its name with: vipctl {noun} list");
            return missing(error.to_string(), next);
        }
        // A daemon that restarts is waited for, too.
        (Err(error), _) if error.reason().is_none() => {
            return missing(error.to_string(), error.next());
        }
        (Err(error), _) => return Err(error.into()),
        (Ok(conditions), Goal::Is { .. }) => conditions,
    };
    let Goal::Is { condition, wanted } = goal else {
        return Ok(None);
    };
    let about: Vec<_> = conditions
        .iter()
        .filter(|known| known.kind == *condition)
        .collect();
    if about.is_empty() {
        let mut known: Vec<_> = conditions.iter().map(|known| known.kind.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        let next = match known.as_slice() {
            [] => format!("a {noun} has none: wait for delete"),
            some => format!("one of: {}", some.join(", ")),
        };
        let what = format!("{noun}/{name} has no condition {condition}");
        return Err(Failure::new(what, next));
    }
    if about.iter().all(|known| known.status) == *wanted {
        return Ok(None);
    }
    let first = about.iter().find(|known| known.status != *wanted);
    let first = first.map_or_else(String::new, |known| known.message.clone());
    let next = format!("mend that, or wait longer with --timeout; see vipctl {noun} get {name}");
    missing(first, next)
}

/// Beats and the datapath of a node are known to that node alone, which complains or is silent.
async fn at_home(client: &Client, name: &str, goal: &Goal) -> Result<(), Failure> {
    let own = |condition: &str| OWN_OF_NODES.contains(&condition);
    let Goal::Is { condition, .. } = goal else {
        return Ok(());
    };
    if !own(condition) || client.cluster().await?.answered_by == name {
        return Ok(());
    }
    Err(Failure::new(
        format!("node/{name}: only that node knows its condition {condition}"),
        format!("ask there: on {name}, or with --server and the address of its API"),
    ))
}

fn condition(kind: &str, status: bool, message: String) -> Condition {
    Condition {
        kind: kind.to_owned(),
        status,
        reason: String::new(),
        message,
        since: None,
    }
}

/// An address that another node than the asked one holds, and that node: whether it answers will not be known here. One that is
/// on its way may yet come here.
fn elsewhere(vip: &Vip) -> Option<(IpAddr, &str)> {
    vip.status.addresses.iter().find_map(|address| {
        let mut conditions = address.conditions.iter();
        let moving = conditions.any(|known| known.kind == "settled" && !known.status);
        let holder = address.holder.as_deref()?;
        (address.answering.is_none() && !moving).then_some((address.address, holder))
    })
}

// Of most things vipd says only what is amiss. Without these lists, nobody could wait until a complaint ends.

/// What is complained of in VIPs, or in their addresses.
const OF_VIPS: [&str; 7] = [
    "held", "settled", "unique", "served", "healthy", "seen", "in_time",
];

/// What a VIP without an address can't have.
const OF_ADDRESSES: [&str; 4] = ["held", "settled", "answering", "served"];

/// What is complained of in pools.
const OF_POOLS: [&str; 2] = ["usable", "unclaimed"];

/// What is complained of in nodes.
const OF_NODES: [&str; 3] = ["eligible", "beats", "datapath"];

/// What a node knows of itself alone.
const OWN_OF_NODES: [&str; 2] = ["beats", "datapath"];

/// What is not complained of is well.
fn well<'a>(kinds: &'a [&str]) -> impl Iterator<Item = Condition> + 'a {
    let one = |kind: &&str| condition(kind, true, format!("nothing is said against {kind}"));
    kinds.iter().map(one)
}

/// Its own conditions, those of its addresses, and what stands beside them.
fn of_vip(vip: &Vip) -> Vec<Condition> {
    let mut all = vip.status.conditions.clone();
    let addresses = &vip.status.addresses;
    let of_addresses = addresses.iter().flat_map(|address| &address.conditions);
    all.extend(of_addresses.cloned());
    if addresses.is_empty() {
        let none = |kind| condition(kind, false, "it has no address".to_owned());
        all.extend(OF_ADDRESSES.map(none));
    }
    for address in addresses {
        let at = address.address;
        let why = match (&address.holder, address.answering) {
            (_, Some(true)) => format!("{at} answers"),
            (Some(holder), Some(false)) => {
                format!("{at} is held by {holder}, which does not answer yet")
            }
            (Some(holder), None) => {
                format!("{at} is held by {holder}, and only that node knows whether it answers")
            }
            (None, _) => format!("{at} is held by nobody"),
        };
        all.push(condition("answering", address.answering == Some(true), why));
    }
    // Nobody has asked them yet, or not from here: that they are well is not known.
    let some = vip.spec.mode == Mode::Local || !vip.spec.backends.is_empty();
    if vip.spec.health.is_some() && some && vip.status.backends.is_empty() {
        let why = "the asked node has not asked its backends: only its holder, and who would hold it next, do";
        all.push(condition("healthy", false, why.to_owned()));
    }
    all.extend(well(&OF_VIPS));
    all
}

/// A pool complains, or is well.
fn of_pool(pool: &Pool) -> Vec<Condition> {
    let own = pool.status.conditions.iter().cloned();
    own.chain(well(&OF_POOLS)).collect()
}

fn of_node(node: &Node) -> Vec<Condition> {
    let mut all = node.status.conditions.clone();
    all.extend(well(&OF_NODES));
    let (up, held) = (node.status.up, node.status.held.len());
    let message = if up { "it is up" } else { "it is down" };
    all.push(condition("up", up, message.to_owned()));
    let drained = node.spec.drained && held == 0;
    let message = match (node.spec.drained, held) {
        (true, 0) => "it is drained".to_owned(),
        (true, _) => format!("it still holds {held} addresses"),
        (false, _) => "it is not drained".to_owned(),
    };
    all.push(condition("drained", drained, message));
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn goals_and_objects_are_read_or_refused_with_an_example() {
        assert_eq!(goal("delete").unwrap(), Goal::Gone);
        let up = |wanted| Goal::Is {
            condition: "up".to_owned(),
            wanted,
        };
        assert_eq!(goal("condition=up").unwrap(), up(true));
        assert_eq!(goal("condition=no-up").unwrap(), up(false));
        assert!(goal("up").unwrap_err().contains("condition=satisfied"));
        assert_eq!(object("vip/www").unwrap(), (What::Vip, "www".to_owned()));
        assert!(object("www").unwrap_err().contains("vip/www"));
        assert!(
            object("pod/www")
                .unwrap_err()
                .contains("vip, pool, policy, node")
        );
    }

    #[test]
    fn backends_that_the_asked_node_has_not_asked_are_not_taken_for_healthy() {
        let text = r#"{"name": "shop", "generation": 1, "revision": 1, "spec": {}, "status": {"addresses": []}}"#;
        let mut vip: Vip = serde_json::from_str(text).unwrap();
        vip.spec.backends = vec!["10.9.0.2".parse().unwrap()];
        let healthy = |vip: &Vip| {
            let mut all = of_vip(vip).into_iter();
            all.all(|known| known.kind != "healthy" || known.status)
        };
        assert!(healthy(&vip), "nobody looks after them");
        vip.spec.health = Some("tcp".parse().unwrap());
        for mode in [Mode::Nat, Mode::Local] {
            vip.spec.mode = mode;
            assert!(!healthy(&vip), "{mode}");
            vip.spec.backends.clear();
        }
    }
}
