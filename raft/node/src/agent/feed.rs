//! The voter's end of an agent's stream.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use vipd_core::codec::Wire;
use vipd_core::id::NodeId;

use super::message::{Feed, From};
use crate::node::{Core, RaftNode};
use crate::peer::{Feeder, read_frame, write_frame};
use crate::store::SharedLog;
use crate::types::LogId;

/// The most entries in one frame.
const BATCH: usize = 256;
/// How long the agent may take to say where it is, and to take in a frame.
const PATIENCE: Duration = Duration::from_secs(5);

/// Feeds `agent` over `stream` until one of them is gone.
pub(crate) async fn feed(node: RaftNode, agent: NodeId, mut stream: Feeder) -> io::Result<()> {
    let core = &node.core;
    let Some(voter) = &core.voter else {
        return Err(io::Error::other("an agent feeds nobody"));
    };
    let bytes = timeout(PATIENCE, read_frame(&mut stream, 64)).await??;
    let From { mut at, pace } = From::from_bytes(&bytes).map_err(invalid)?;
    tracing::info!(%agent, from = at.map_or(0, |id| id.index), "an agent follows");
    let mut applied = core.shared.applied();
    let mut leader = core.leader.subscribe();
    // At once: what follows may be large, and the agent must know whether anybody is there.
    let leads = *leader.borrow();
    send(&mut stream, &alive(&node, leads)).await?;
    let mut said: Option<(Instant, Option<NodeId>)> = None;
    loop {
        if core.was_removed(agent) {
            // Its next greeting is told why.
            return Err(io::Error::other("the agent was removed from the cluster"));
        }
        applied.mark_unchanged();
        at = catch_up(core, &voter.log, &mut stream, at).await?;
        let leads = *leader.borrow_and_update();
        if said.is_none_or(|(when, who)| who != leads || when.elapsed() >= pace.alive()) {
            send(&mut stream, &alive(&node, leads)).await?;
            said = Some((Instant::now(), leads));
        }
        tokio::select! {
            result = applied.changed() => result.map_err(io::Error::other)?,
            result = leader.changed() => result.map_err(io::Error::other)?,
            () = sleep(pace.alive()) => {}
        }
    }
}

fn alive(node: &RaftNode, leader: Option<NodeId>) -> Feed {
    let quorum = node.status().quorum_ok;
    Feed::Alive { leader, quorum }
}

/// Sends everything that is applied here after `at`: only that is certainly committed.
async fn catch_up(
    core: &Core,
    log: &SharedLog,
    stream: &mut Feeder,
    mut at: Option<LogId>,
) -> io::Result<Option<LogId>> {
    loop {
        let applied = core.shared.read().applied;
        let Some(upto) = applied.filter(|applied| at < Some(*applied)) else {
            if at == applied {
                return Ok(at);
            }
            // It followed another voter, which knows more; it should go back there.
            return Err(io::Error::other("the agent is ahead of this voter"));
        };
        let feed = match log.following(at, upto, BATCH) {
            Some(entries) => {
                let Some(last) = entries.last() else {
                    return Err(io::Error::other("the log ends before what is applied"));
                };
                at = Some(last.log_id);
                Feed::Entries(entries)
            }
            None => {
                let replica = core.shared.read();
                at = replica.applied;
                Feed::Snapshot {
                    meta: replica.meta(),
                    body: replica.body(),
                }
            }
        };
        send(stream, &feed).await?;
    }
}

async fn send(stream: &mut Feeder, feed: &Feed) -> io::Result<()> {
    timeout(PATIENCE, write_frame(stream, &feed.to_bytes())).await?
}

fn invalid(error: vipd_core::codec::DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
