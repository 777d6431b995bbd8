//! What the API asks of this node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::warn;
use vipd_api::{Balancing, Control, ControlError, JoinTicket, LocalAddress, LocalStatus};
use vipd_core::asker::Who;
use vipd_core::command::{Command, Outcome};
use vipd_core::id::NodeId;
use vipd_core::lease::Timing;
use vipd_core::node::Role;
use vipd_core::state::State;
use vipd_core::time::Instant;
use vipd_datapath::{Counts, Gate, Lens, Meter};
use vipd_raft::beat::{self, BeatStats};
use vipd_raft::{ProposeError, RaftNode, RemovalError, TokenRequestError};

use super::looker::Looker;
use super::notices::Claim;
use super::shared::Shared;

pub(super) struct NodeControl {
    raft: RaftNode,
    shared: Arc<Shared>,
    beats: Arc<BeatStats>,
    timing: Timing,
    meter: Box<dyn Meter>,
    looker: Arc<Looker>,
}

impl NodeControl {
    pub(super) fn new(
        raft: RaftNode,
        shared: Arc<Shared>,
        beats: Arc<BeatStats>,
        timing: Timing,
        meter: Box<dyn Meter>,
        lens: Box<dyn Lens>,
    ) -> Self {
        Self {
            raft,
            shared,
            beats,
            timing,
            meter,
            looker: Arc::new(Looker::new(lens)),
        }
    }

    fn addresses(&self, now: Instant) -> BTreeMap<std::net::IpAddr, LocalAddress> {
        let running = now.0 < self.beats.deadline_ns();
        let claims = self.shared.notices().claims().clone();
        let observed = self.shared.observed().addresses;
        let counted = self.meter.counters(&mut observed.keys().copied());
        let mut counted = counted.unwrap_or_else(|error| {
            warn!("the counters cannot be read: {error}");
            Counts::new()
        });
        let local = observed.into_iter().map(|(address, seen)| {
            let answering = running && seen.gate == Gate::Open && seen.present;
            (
                address,
                LocalAddress {
                    interface: seen.interface,
                    answering,
                    claimed_by: claims.get(&address).map(|claim| claimed_by(claim, now)),
                    counters: counted.remove(&address).unwrap_or_default(),
                },
            )
        });
        local.collect()
    }

    /// What operators call a node.
    fn called(&self, node: NodeId) -> String {
        self.read(|state| match state.node(node) {
            Some(known) => known.name.to_string(),
            None => node.to_string(),
        })
    }
}

impl Control for NodeControl {
    async fn propose(&self, who: Who, command: Command) -> Result<Outcome, ControlError> {
        let proposed = self.raft.propose_for(who, command).await;
        proposed.map_err(refused)
    }

    fn refuses(&self, command: &Command) -> Option<ControlError> {
        self.raft.refuses(command).map(refused)
    }

    async fn linearize(&self) -> Result<(), ControlError> {
        self.raft.linearizable().await.map_err(|error| match error {
            vipd_raft::ReadError::NoLeader(_) => ControlError::NoLeader,
            vipd_raft::ReadError::Behind { patience, .. } => ControlError::TimedOut(patience),
        })
    }

    fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.raft.state().read())
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.raft.applied()
    }

    fn node(&self) -> NodeId {
        self.raft.id()
    }

    fn local(&self) -> LocalStatus {
        let (now, status) = (beat::now(), self.raft.status());
        let remaining = Instant(self.beats.deadline_ns()).since(now);
        let heard = self.raft.words().heard().into_iter();
        let last_seen = heard.map(|(node, at)| (node, Duration::from_nanos(now.since(at).0)));
        LocalStatus {
            node: self.raft.id(),
            name: self.raft.name().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            leader: status.leader,
            term: status.term,
            committed: status.committed,
            quorum_ok: status.quorum_ok,
            timing: self.timing,
            lease_remaining: (remaining.0 > 0).then(|| Duration::from_nanos(remaining.0)),
            addresses: self.addresses(now),
            last_seen: last_seen.collect(),
            beat_lateness: Some(Duration::from_micros(self.beats.late_p9999_us())),
            frozen: self.shared.frozen(),
            beats_late: self.shared.late(),
            backends: self.shared.backends().clone(),
            slowed: self.shared.slowed(),
            bounds: Some(self.looker.bounds()),
            xdp: self.looker.xdp(),
            datapath_fault: self.shared.fault(),
            noticed: self.shared.notices().counts().clone(),
            beats: BTreeMap::from([
                ("sent", self.beats.sent()),
                ("received", self.beats.received()),
                ("rejected", self.beats.rejected()),
            ]),
            beats_realtime: self.beats.realtime(),
        }
    }

    fn balancing(&self) -> Arc<dyn Balancing> {
        self.looker.clone()
    }

    async fn remove_member(&self, who: Who, node: NodeId) -> Result<(), ControlError> {
        self.raft
            .remove_node(who, node)
            .await
            .map_err(refused)?
            .map_err(|why| match why {
                RemovalError::Rejected(rejection) => ControlError::Rejected(rejection),
                RemovalError::Refused(why) => ControlError::Refused {
                    what: format!("node {} is not removed: {why}", self.called(node)),
                    next: "see who is up and who votes, then try again: vipctl node list".into(),
                },
            })
    }

    async fn snapshot(&self) -> Result<u64, ControlError> {
        let failed = |error: std::io::Error| ControlError::Failed {
            what: format!("no snapshot was written: {error}"),
            next: "ask a voter".into(),
        };
        self.raft.snapshot().await.map_err(failed)?;
        Ok(self.raft.status().applied)
    }

    async fn join_token(
        &self,
        who: Who,
        role: Role,
        ttl: Duration,
        uses: u32,
    ) -> Result<JoinTicket, ControlError> {
        let token =
            self.raft
                .issue_token(who, role, ttl, uses)
                .await
                .map_err(|error| match error {
                    TokenRequestError::Propose(error) => refused(error),
                    TokenRequestError::Rejected(rejection) => ControlError::Rejected(rejection),
                })?;
        let command = crate::join_command(self.raft.peer(), &token);
        Ok(JoinTicket {
            expires: token.expires,
            command,
            token: token.to_string(),
        })
    }
}

fn claimed_by(claim: &Claim, now: Instant) -> String {
    let mac = claim.mac.map(|byte| format!("{byte:02x}")).join(":");
    let ago = Duration::from_nanos(now.since(claim.heard).0).as_secs();
    format!("{mac}, heard on {} {ago} s ago", claim.interface)
}

fn refused(error: ProposeError) -> ControlError {
    match error {
        ProposeError::NoLeader { .. } => ControlError::NoLeader,
        ProposeError::Unknown { patience, .. } => ControlError::TimedOut(patience),
        ProposeError::Stopping => ControlError::Stopping,
        ProposeError::Agent(_) => ControlError::Refused {
            what: error.to_string(),
            next: "ask a voter: on its host, or with vipctl --server https://…; `vipctl cluster members` shows who votes"
                .into(),
        },
        ProposeError::TooLarge { size, limit } => ControlError::TooLarge { size, limit },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_does_not_hand_on_is_a_refusal_that_names_whom_to_ask() {
        let ControlError::Refused { what, next } = refused(ProposeError::Agent("lets nobody in"))
        else {
            panic!("it is refused as things are");
        };
        assert_eq!(what, "this node is an agent: it lets nobody in");
        assert!(next.starts_with("ask a voter"), "{next}");
    }
}
