//! The agent's end of its stream.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use vipd_core::codec::Wire;
use vipd_core::id::NodeId;

use super::message::{Feed, From};
use super::pace::Pace;
use crate::machine::Replica;
use crate::node::Core;
use crate::peer::{LARGE, Lane, read_frame, write_frame};
use crate::types::Entry;

/// The voter's first word comes at once, even from a busy host.
const FIRST: Duration = Duration::from_millis(300);
/// A snapshot may be large, and is the next frame after it, where it is needed at all.
const SNAPSHOT: Duration = Duration::from_secs(5);
/// A voter that has no majority this long is left for another, which may have one.
const ALONE: Duration = Duration::from_millis(1000);
/// The pause between two voters that do not answer. A stream that lasted longer is followed by the next at once.
const PAUSE: Duration = Duration::from_millis(50);

/// Follows one voter after the other, for as long as the node runs.
pub(crate) async fn follow(core: Arc<Core>) {
    let mut turn = rand::random_range(0..1024usize);
    loop {
        let voters = voters(&core);
        let began = Instant::now();
        if let Some(voter) = (!voters.is_empty()).then(|| voters[turn % voters.len()]) {
            let error = follow_one(&core, voter).await;
            tracing::debug!(%voter, ?error, "the stream ended; going to another voter");
        }
        core.leader
            .send_if_modified(|leader| leader.take().is_some());
        turn = turn.wrapping_add(1);
        if began.elapsed() < PAUSE {
            sleep(PAUSE).await;
        }
    }
}

/// The voters by the state, or by what the join answered and was seen last.
fn voters(core: &Core) -> Vec<NodeId> {
    let known: Vec<NodeId> = core
        .shared
        .read()
        .membership
        .voter_ids()
        .map(NodeId)
        .collect();
    if known.is_empty() {
        core.directory.hints()
    } else {
        known
    }
}

async fn follow_one(core: &Core, voter: NodeId) -> io::Result<()> {
    let mut stream = core.directory.open(voter, Lane::Follow).await?;
    let at = core.shared.read().applied;
    let pace = Pace::of(core.settings.election_max);
    write_frame(&mut stream, &From { at, pace }.to_bytes()).await?;
    let mut patience = [FIRST, SNAPSHOT].into_iter();
    let mut known = Vec::new();
    let mut vouched = Instant::now();
    loop {
        let wait = patience.next().unwrap_or(pace.silent());
        let bytes = timeout(wait, read_frame(&mut stream, LARGE)).await??;
        match Feed::from_bytes(&bytes).map_err(invalid)? {
            Feed::Snapshot { meta, body } => {
                let replica = Replica::restore(&meta, &body).map_err(invalid)?;
                // A voter that lags would take back what this node has acted on: an address it has given away.
                if replica.applied < core.shared.read().applied {
                    return Err(io::Error::other(
                        "its snapshot is older than what is known here",
                    ));
                }
                core.shared.write(|own| *own = replica);
                core.shared.announce();
            }
            Feed::Entries(entries) => apply(core, &entries)?,
            Feed::Alive { leader, quorum } => {
                if quorum {
                    core.hear();
                    vouched = Instant::now();
                } else if vouched.elapsed() > ALONE {
                    return Err(io::Error::other("it has had no majority for long"));
                }
                core.leader
                    .send_if_modified(|known| std::mem::replace(known, leader) != leader);
                remember(core, &mut known).await;
            }
        }
    }
}

fn apply(core: &Core, entries: &[Entry]) -> io::Result<()> {
    let whole = core.shared.write(|replica| {
        for entry in entries {
            let next = replica.applied.map_or(0, |id| id.index + 1);
            if entry.log_id.index != next {
                return Err(io::Error::other(format!(
                    "entry {} came, {next} was next",
                    entry.log_id.index
                )));
            }
            replica.apply(entry);
        }
        Ok(())
    });
    core.shared.announce();
    whole
}

/// Keeps the voters' addresses on disk, for the next start: an agent has no log to read them from.
async fn remember(core: &Core, known: &mut Vec<(NodeId, std::net::SocketAddr)>) {
    let now: Vec<_> = {
        let replica = core.shared.read();
        let nodes = replica.membership.membership().nodes();
        nodes
            .map(|(id, member)| (NodeId(*id), member.peer))
            .collect()
    };
    if now.is_empty() || now == *known {
        return;
    }
    known.clone_from(&now);
    if core.identity.members == now {
        return;
    }
    let mut identity = core.identity.clone();
    identity.members = now;
    let dir = core.settings.data_dir.clone();
    let saved = tokio::task::spawn_blocking(move || identity.save(&dir)).await;
    if let Ok(Err(error)) = saved {
        tracing::warn!(%error, "the voters' addresses were not noted; a restart will use older ones");
    }
}

fn invalid(error: vipd_core::codec::DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
