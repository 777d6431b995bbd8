//! `vipctl wait`: until objects are as they should be, with a bound; for scripts.

use std::net::IpAddr;
use std::time::{Duration as Time, Instant};

use clap::Args;
use vipd_api_types::{Condition, Duration, Node, Policy, Pool, Vip};
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
    /// condition=NAME or delete. Of VIPs: satisfied, held, settled, answering; of pools: usable; of nodes: up, drained; also
    /// whatever else `-o yaml` shows as a condition; no- in front means that it is not so
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
                return Err(Failure::new(
                    format!("{title}: after {} {missing}", args.timeout),
                    "it goes on by itself; wait longer with --timeout, or see vipctl vip list",
                ));
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

/// What is missing, if something is.
async fn missing(
    client: &Client,
    what: What,
    name: &str,
    goal: &Goal,
) -> Result<Option<String>, Failure> {
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
        What::Node => client.get::<Node>(name).await.map(|node| of_node(&node)),
    };
    let conditions = match (looked, goal) {
        (Ok(_), Goal::Gone) => return Ok(Some("it is still there".to_owned())),
        (Err(error), Goal::Gone) if error.is_not_found() => return Ok(None),
        // It may yet be made: whoever waits for a condition waits for that too.
        (Err(error), Goal::Is { .. }) if error.is_not_found() => {
            return Ok(Some(error.to_string()));
        }
        // A daemon that restarts is waited for, too.
        (Err(error), _) if error.reason().is_none() => return Ok(Some(error.to_string())),
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
        known.dedup();
        return Err(Failure::new(
            format!("{}/{name} has no condition {condition}", noun(what)),
            format!("one of: {}", known.join(", ")),
        ));
    }
    let so = about.iter().all(|known| known.status);
    let first = about.iter().find(|known| known.status != *wanted);
    Ok((so != *wanted).then(|| first.map_or_else(String::new, |known| known.message.clone())))
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

/// Its own conditions, those of its addresses, and what stands beside them. An address says only what is amiss with it, so
/// what it does not complain of is well.
fn of_vip(vip: &Vip) -> Vec<Condition> {
    let mut all = vip.status.conditions.clone();
    let well = |kind: &str| condition(kind, true, format!("it is {kind}"));
    let addresses = &vip.status.addresses;
    all.extend(
        addresses
            .iter()
            .flat_map(|address| address.conditions.clone()),
    );
    if addresses.is_empty() {
        let none = || "it has no address".to_owned();
        all.extend(["held", "settled", "answering"].map(|kind| condition(kind, false, none())));
    }
    for address in addresses {
        let at = address.address;
        all.push(match (&address.holder, address.answering) {
            (_, Some(true)) => well("answering"),
            (Some(holder), Some(false)) => condition(
                "answering",
                false,
                format!("{at} is held by {holder}, which does not answer yet"),
            ),
            (Some(holder), None) => condition(
                "answering",
                false,
                format!("{at} is held by {holder}, and only that node knows whether it answers"),
            ),
            (None, _) => condition("answering", false, format!("{at} is held by nobody")),
        });
    }
    for kind in ["held", "settled", "unique"] {
        all.push(well(kind));
    }
    all
}

/// A pool complains, or is usable.
fn of_pool(pool: &Pool) -> Vec<Condition> {
    let mut all = pool.status.conditions.clone();
    all.push(condition("usable", true, "it is usable".to_owned()));
    all
}

fn of_node(node: &Node) -> Vec<Condition> {
    let mut all = node.status.conditions.clone();
    all.push(condition("up", node.status.up, "it is down".to_owned()));
    let held = node.status.held.len();
    let message = match node.spec.drained {
        true => format!("it still holds {held} addresses"),
        false => "it is not drained".to_owned(),
    };
    all.push(condition(
        "drained",
        node.spec.drained && held == 0,
        message,
    ));
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
}
