//! `vipctl node`.

use clap::Subcommand;
use vipd_api_types::{Interface, Node, NodePatch, NodeSpecPatch};
use vipd_client::{Client, Written};

use crate::cli::{self, Format, Global, TryArgs, WriteArgs, label};
use crate::failure::Failure;
use crate::output::{self, Mood};
use crate::wait::{WaitArgs, few};
use crate::{connect, render};

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List all nodes
    List,
    /// Show one node with its interfaces
    Get {
        /// Its name
        name: String,
    },
    /// Take every address off a node and keep them off
    Drain {
        /// Its name
        name: String,
        #[command(flatten)]
        wait: WaitArgs,
        #[command(flatten)]
        write: TryArgs,
    },
    /// Change a node's weight or labels; what is not named stays
    #[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
    Set {
        /// Its name
        name: String,
        /// How much it shall hold, relative to the others; at 0 it keeps what it has and is given nothing new
        #[arg(long, value_name = "0..100", group = "what", value_parser = clap::value_parser!(u8).range(0..=100))]
        weight: Option<u8>,
        /// A label to set, key=value; repeat for more
        #[arg(long = "label", value_parser = label, value_name = "KEY=VALUE", group = "what")]
        labels: Vec<(String, String)>,
        /// A label to take back, so that what the node's own config says holds again; repeat for more
        #[arg(long = "unlabel", value_name = "KEY", group = "what")]
        unlabels: Vec<String>,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Let a drained node hold addresses again
    Undrain {
        /// Its name
        name: String,
        #[command(flatten)]
        write: TryArgs,
    },
}

pub(crate) async fn run(verb: Verb, global: &Global) -> Result<(), Failure> {
    let client = connect::client(global)?;
    match verb {
        Verb::List => {
            let nodes = client.list::<Node>().await?;
            output::show(&nodes, global.output, || table(&nodes.items))
        }
        Verb::Get { name } => {
            let node = client.get::<Node>(&name).await?;
            output::show(&node, global.output, || {
                format!(
                    "{}\n{}\n{}\n{}",
                    table(std::slice::from_ref(&node)),
                    settings(&node),
                    bounds(&node),
                    interfaces(&node)
                )
            })
        }
        Verb::Drain { name, wait, write } => {
            drain(&client, &name, wait, write, global.output).await
        }
        Verb::Set {
            name,
            weight,
            labels,
            unlabels,
            write,
        } => {
            let set = labels.into_iter().map(|(key, value)| (key, Some(value)));
            let unset = unlabels.into_iter().map(|key| (key, None));
            let spec = NodeSpecPatch {
                weight,
                labels: cli::labels(set.chain(unset))?,
                drained: None,
            };
            let patch = NodePatch { spec };
            let object = format!("node/{name}");
            match client.patch_node(&name, &patch, write.into()).await? {
                Written::Done(node) => output::show(&node, global.output, || match &node {
                    Some(node) => format!("{object} set: {}", settings(node)),
                    None => format!("{object} set"),
                }),
                Written::Tried(tried) => render::dry_run(&tried, &object, global.output),
            }
        }
        Verb::Undrain { name, write } => match client.drain(&name, false, write.into()).await? {
            Written::Done(_) => output::line(&format!("node/{name} undrained")),
            Written::Tried(tried) => {
                render::dry_run(&tried, &format!("node/{name}"), global.output)
            }
        },
    }
}

async fn drain(
    client: &Client,
    name: &str,
    wait: WaitArgs,
    write: TryArgs,
    format: Format,
) -> Result<(), Failure> {
    match client.drain(name, true, write.into()).await? {
        Written::Tried(tried) => return render::dry_run(&tried, &format!("node/{name}"), format),
        Written::Done(_) if wait.wait == 0 => {
            return output::line(&format!("node/{name} is being drained"));
        }
        Written::Done(_) => {}
    }
    wait.until(async || {
        let held = client.get::<Node>(name).await?.status.held;
        Ok((!held.is_empty()).then(|| format!("{name} still holds {}", few(&held))))
    })
    .await?;
    output::line(&format!("node/{name} drained: it holds nothing"))
}

/// One line per node.
pub(crate) fn table(nodes: &[Node]) -> String {
    let mut table = output::table(&[
        "NODE",
        "ID",
        "ROLE",
        "STATE",
        "HOLDS",
        "LEASE",
        "LAST SEEN",
        "PEER",
        "VERSION",
    ]);
    for node in nodes {
        let (state, mood) = state(node);
        let role = serde_json::to_string(&node.status.role).unwrap_or_default();
        let milliseconds =
            |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms}ms"));
        table.add_row(vec![
            node.name.as_str().into(),
            node.id.into(),
            format!(
                "{}{}",
                role.trim_matches('"'),
                if node.status.leader { ", leader" } else { "" }
            )
            .into(),
            output::mood(state, mood),
            node.status.held.len().into(),
            milliseconds(node.status.lease.expires_in_ms).into(),
            milliseconds(node.status.last_seen_ms).into(),
            node.status.peer.as_str().into(),
            output::or_dash(Some(&node.status.version)).into(),
        ]);
    }
    output::draw(table)
}

/// Weight and labels on one line.
fn settings(node: &Node) -> String {
    let labels = node.spec.labels.iter();
    let labels: Vec<_> = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let labels = if labels.is_empty() {
        "no labels".to_owned()
    } else {
        format!("labels {}", labels.join(" "))
    };
    format!("weight {}, {labels}", node.spec.weight)
}

/// How much of connections it remembers, as a line of its own; nothing for another node than the one that answers.
fn bounds(node: &Node) -> String {
    let Some(bounds) = &node.status.balance else {
        return String::new();
    };
    format!(
        "flows: {} elements, {} new a second; forgotten after TCP opening {}, open {}, half closed {}, closing {}, UDP question {}, \
         stream {}; looked for each {}\n",
        bounds.flows,
        bounds.new_flows,
        bounds.tcp_opening,
        bounds.tcp_open,
        bounds.tcp_half_closed,
        bounds.tcp_closing,
        bounds.udp_question,
        bounds.udp_stream,
        bounds.collect
    )
}

fn interfaces(node: &Node) -> String {
    let mut table = output::table(&["INTERFACE", "STATE", "PREFIXES", "XDP"]);
    for interface in &node.status.interfaces {
        let state = if interface.up {
            output::mood("up", Mood::Good)
        } else {
            output::mood("down", Mood::Bad)
        };
        table.add_row(vec![
            interface.name.as_str().into(),
            state,
            interface.prefixes.join(" ").into(),
            output::or_dash(xdp(interface).as_deref()).into(),
        ]);
    }
    output::draw(table)
}

/// Whether XDP sends packets of open connections on; nothing for another node than the one that answers.
fn xdp(interface: &Interface) -> Option<String> {
    let xdp = interface.xdp.as_ref()?;
    let used = if xdp.used { "yes" } else { "no" };
    Some(format!("{used}: {}", xdp.why))
}

fn state(node: &Node) -> (String, Mood) {
    let mut words = vec![if node.status.up { "up" } else { "down" }];
    if node.spec.drained {
        words.push("drained");
    }
    if node.spec.weight == 0 {
        words.push("weight 0");
    }
    if node.status.retiring {
        words.push("shutting down");
    }
    words.extend(render::complaints(&node.status.conditions));
    let mood = match (node.status.up, words.len()) {
        (false, _) => Mood::Bad,
        (true, 1) => Mood::Good,
        (true, _) => Mood::Odd,
    };
    (words.join(", "), mood)
}
