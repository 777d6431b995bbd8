//! `vipctl status`: everything at a glance.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use vipd_api_types::{Cluster, Node, Vip};
use vipd_client::Client;

use crate::cli::{Format, Global};
use crate::failure::Failure;
use crate::{cluster, connect, node, output, vip};

/// How to show the status.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Show it again and again until interrupted
    #[arg(short, long)]
    watch: bool,
    /// Milliseconds between two looks
    #[arg(long, default_value_t = 500, value_name = "MS", requires = "watch", value_parser = clap::value_parser!(u64).range(20..))]
    interval: u64,
}

/// What a node knows, at one moment.
#[derive(Debug, Serialize)]
struct Status {
    cluster: Cluster,
    nodes: Vec<Node>,
    vips: Vec<Vip>,
}

const CLEAR: &str = "\x1b[H\x1b[2J";

pub(crate) async fn run(args: &StatusArgs, global: &Global) -> Result<(), Failure> {
    // Local reads: the status is wanted most when there is no quorum.
    let client = connect::client_reading(global, true)?;
    let clear = args.watch
        && output::is_terminal()
        && matches!(global.output, Format::Table | Format::Wide);
    loop {
        let looked = look(&client).await;
        match (looked, args.watch) {
            (Ok(status), _) => {
                let prefix = if clear { CLEAR } else { "" };
                output::show(&status, global.output, || {
                    format!("{prefix}{}", draw(&status))
                })?;
            }
            (Err(failure), false) => return Err(failure),
            // A watcher outlives a restart of the daemon.
            (Err(failure), true) => drop(failure.report()),
        }
        if !args.watch {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(args.interval)).await;
    }
}

async fn look(client: &Client) -> Result<Status, Failure> {
    Ok(Status {
        cluster: client.cluster().await?,
        nodes: client.list::<Node>().await?.items,
        vips: client.list::<Vip>().await?.items,
    })
}

fn draw(status: &Status) -> String {
    let vips = if status.vips.is_empty() {
        "no VIPs; make one: vipctl vip create NAME --pool POOL".to_owned()
    } else {
        vip::table(&status.vips)
    };
    format!(
        "{}\n\n{}\n\n{vips}",
        cluster::headline(&status.cluster),
        node::table(&status.nodes)
    )
}
