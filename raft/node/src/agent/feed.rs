//! The voter's end of an agent's stream.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use vipd_core::codec::Wire;
use vipd_core::id::NodeId;

use super::message::{Feed, From};
use crate::node::Core;
use crate::peer::{Feeder, read_frame, write_frame};
use crate::types::LogId;

/// How often a quiet stream says that it is alive.
pub(super) const ALIVE: Duration = Duration::from_millis(100);
/// The most entries in one frame.
const BATCH: usize = 256;
/// How long the agent may take to say where it is, and to take in a frame.
const PATIENCE: Duration = Duration::from_secs(5);

/// Feeds `agent` over `stream` until one of them is gone.
pub(crate) async fn feed(core: Arc<Core>, agent: NodeId, mut stream: Feeder) -> io::Result<()> {
    let Some(voter) = &core.voter else {
        return Err(io::Error::other("an agent feeds nobody"));
    };
    let bytes = timeout(PATIENCE, read_frame(&mut stream, 64)).await??;
    let From(mut at) = From::from_bytes(&bytes).map_err(invalid)?;
    tracing::info!(%agent, from = at.map_or(0, |id| id.index), "an agent follows");
    let mut applied = core.shared.applied();
    let mut leader = core.leader.subscribe();
    loop {
        let upto = { core.shared.read().applied };
        if at < upto {
            // Only what is applied here is certainly committed.
            match voter.log.following(at, BATCH) {
                Some(mut entries) => {
                    entries.retain(|entry| Some(entry.log_id) <= upto);
                    at = entries.last().map(|entry| entry.log_id).or(at);
                    if !entries.is_empty() {
                        send(&mut stream, &Feed::Entries(entries)).await?;
                        continue;
                    }
                }
                None => {
                    let (meta, body) = {
                        let replica = core.shared.read();
                        (replica.meta(), replica.body())
                    };
                    at = meta.last_log_id;
                    send(&mut stream, &Feed::Snapshot { meta, body }).await?;
                    continue;
                }
            }
        } else if ahead(at, upto) {
            return Err(io::Error::other("the agent is ahead of this voter"));
        }
        let leading = *leader.borrow_and_update();
        send(&mut stream, &Feed::Alive { leader: leading }).await?;
        let quiet = sleep_until(Instant::now() + ALIVE);
        applied.mark_unchanged();
        if core.shared.read().applied != upto {
            continue;
        }
        tokio::select! {
            result = applied.changed() => result.map_err(io::Error::other)?,
            result = leader.changed() => result.map_err(io::Error::other)?,
            () = quiet => {}
        }
    }
}

/// An agent that followed another voter may know more than this one; it should stay there.
fn ahead(at: Option<LogId>, upto: Option<LogId>) -> bool {
    at > upto
}

async fn send(stream: &mut Feeder, feed: &Feed) -> io::Result<()> {
    timeout(PATIENCE, write_frame(stream, &feed.to_bytes())).await?
}

fn invalid(error: vipd_core::codec::DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
