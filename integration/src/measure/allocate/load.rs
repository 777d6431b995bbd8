//! The load: clients that allocate one address after the other, each over a connection of its own.

use std::sync::atomic::AtomicU32;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::contender::Contender;
use super::http::Connection;
use crate::cluster::Cluster;
use crate::measure::stats::Sample;
use crate::measure::system::SERVERS;

/// Clients at the same time, as many of each member as of the others, give or take one.
pub(super) const CLIENTS: usize = 64;

/// What came of one trial.
pub(super) struct Trial {
    /// How long each allocation took.
    pub(super) latencies: Sample,
    /// Allocations per second.
    pub(super) rate: f64,
}

/// Allocates with all clients for `span`. `next` numbers the VIPs of this contender, over all trials.
pub(super) fn run(
    contender: Contender,
    cluster: &Cluster,
    next: &'static AtomicU32,
    span: Duration,
) -> Result<Trial> {
    let began = Instant::now();
    let until = began + span;
    let mut clients: Vec<JoinHandle<Result<Vec<Duration>>>> = Vec::new();
    for (client, server) in (0..CLIENTS).zip(SERVERS.into_iter().cycle()) {
        let host = cluster.lab().host(server);
        let place = contender.place(cluster, host);
        let work = move || {
            let mut connection = Connection::open(&place)?;
            let mut took = Vec::new();
            while Instant::now() < until {
                let asked = Instant::now();
                contender.allocate(&mut connection, next)?;
                took.push(asked.elapsed());
            }
            Ok(took)
        };
        clients.push(host.netns()?.thread(&format!("client-{client}"), work)?);
    }
    let mut latencies = Vec::new();
    for client in clients {
        let done = client
            .join()
            .unwrap_or_else(|_| Err(anyhow!("a client panicked")));
        latencies.extend(done.with_context(|| format!("a client of {}", contender.name()))?);
    }
    let took = began.elapsed();
    let rate = latencies.len() as f64 / took.as_secs_f64();
    let latencies = Sample::new(latencies).context("nothing was allocated")?;
    Ok(Trial { latencies, rate })
}
