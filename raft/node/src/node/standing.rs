//! What a member may ask, by the number in its certificate.

use vipd_core::command::Command;
use vipd_core::id::NodeId;

use super::handle::Core;
use crate::peer::Request;
use crate::types::Vote;

/// Why `from` is refused, if it is. Raft believes what it is told of votes, so it is told only what comes from the candidate or
/// leader itself, and nothing of what an agent says. Nor does an agent let anybody in.
///
/// A node whose record is not here yet is let through: a voter that lags, or is new, does not know the node that leads since. So
/// an agent is told from a voter by those that have the entry of its joining.
pub(super) fn refuse(core: &Core, from: NodeId, request: &Request) -> Option<String> {
    let what = match (vote_of(request), request) {
        (Some(vote), _) => {
            let speaker = NodeId(vote.leader_id.voted_for);
            if speaker != from {
                return Some(format!("node {from} speaks for node {speaker}"));
            }
            "neither leads nor votes"
        }
        // A join names its token by the hash, which agents know, and a voter has seen the secret itself.
        (None, Request::Propose { command, .. }) if lets_in(command) => "lets nobody in",
        (None, _) => return None,
    };
    let replica = core.shared.read();
    let agent = replica
        .state
        .node(from)
        .is_some_and(|node| !node.role.votes());
    agent.then(|| format!("node {from} is an agent: it {what}"))
}

fn lets_in(command: &Command) -> bool {
    match command {
        Command::Join { .. } => true,
        Command::Once { command, .. } => lets_in(command.command()),
        _ => false,
    }
}

/// The vote by which a request of Raft is judged: the candidate's, or the leader's.
fn vote_of(request: &Request) -> Option<&Vote> {
    match request {
        Request::Append(rpc) => Some(&rpc.vote),
        Request::Vote(rpc) | Request::PreVote(rpc) => Some(&rpc.vote),
        Request::Snapshot { vote, .. } => Some(vote),
        Request::TransferLeader(rpc) => Some(rpc.from_leader()),
        Request::Ping
        | Request::Propose { .. }
        | Request::ReadIndex
        | Request::Handover(_)
        | Request::Remove(..)
        | Request::Records(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
    use vipd_core::command::Applied;
    use vipd_core::node::Role;
    use vipd_core::once::{Ticket, Ticketed};

    use super::*;
    use crate::join::admit;
    use crate::node::NodeService;
    use crate::peer::{Response, Service as _};
    use crate::testing::{Host, first_voter, stranger, token};
    use crate::types::SnapshotMeta;

    async fn joined(host: &Host, name: &str, role: Role) -> NodeId {
        let ask = stranger(name, &token(host, role).await);
        admit(&host.node, ask).await.unwrap().node
    }

    /// All that only voters say, in the name of `speaker`, in a term far ahead.
    fn words_of(speaker: NodeId) -> [Request; 5] {
        let leads = Vote::new_committed(1000, speaker.0);
        let stands = VoteRequest::new(Vote::new(1000, speaker.0), None);
        [
            Request::Append(AppendEntriesRequest {
                vote: leads,
                prev_log_id: None,
                entries: vec![],
                leader_commit: None,
            }),
            Request::Vote(stands.clone()),
            Request::PreVote(stands),
            Request::Snapshot {
                vote: leads,
                meta: SnapshotMeta::default(),
                body: Bytes::new(),
            },
            Request::TransferLeader(TransferLeaderRequest::new(leads, 1, None)),
        ]
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_speaks_to_raft_for_another_node_and_no_agent_for_itself() {
        let host = first_voter().await;
        let agent = joined(&host, "a1", Role::Agent).await;
        let voter = joined(&host, "n2", Role::Voter).await;
        let service = NodeService::new(&host.node.core);
        let before = host.node.vote_mark();
        for (from, speaker, why) in [
            (agent, agent, "is an agent"),
            (agent, voter, "speaks for"),
            (voter, host.node.id(), "speaks for"),
        ] {
            for request in words_of(speaker) {
                match service.answer(from, request).await {
                    Response::Failed(said) => assert!(said.contains(why), "{said}"),
                    other => panic!("node {from} for {speaker} was answered {other:?}"),
                }
            }
        }
        assert_eq!(host.node.vote_mark(), before, "the leader has not noticed");

        // The voter itself is heard, and so is a node of which nothing is known here yet.
        for speaker in [voter, NodeId(u64::MAX)] {
            let [_, _, asks, ..] = words_of(speaker);
            let reply = service.answer(speaker, asks).await;
            assert!(matches!(reply, Response::Vote(_)), "{reply:?}");
        }
        host.node.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_agent_lets_nobody_in_by_the_hash_of_a_token_that_it_was_never_shown() {
        let host = first_voter().await;
        let agent = joined(&host, "a1", Role::Agent).await;
        let voter = joined(&host, "n2", Role::Voter).await;
        let unused = token(&host, Role::Voter).await;
        let known = host.node.state();
        let known = known.read().join_tokens().contains_key(&unused.hash());
        assert!(known, "agents have it");
        let ask = stranger("n3", &unused);
        let join = Command::Join {
            token: unused.hash(),
            name: ask.name.clone(),
            peer: ask.peer,
            beat_key: ask.beat_key,
        };
        let ticket = Ticket {
            key: [1; 32],
            request: [2; 32],
        };
        let service = NodeService::new(&host.node.core);
        let propose = |command: &Command| Request::Propose {
            id: ask.number(),
            command: Box::new(command.clone()),
            by: None,
        };
        for command in [join.clone(), Ticketed::of(ticket, join.clone())] {
            match service.answer(agent, propose(&command)).await {
                Response::Failed(why) => assert!(why.contains("lets nobody in"), "{why}"),
                other => panic!("an agent was answered {other:?}"),
            }
        }
        let reply = service.answer(voter, propose(&join)).await;
        assert!(
            matches!(reply, Response::Proposed(Ok(Applied::Joined { .. }))),
            "{reply:?}"
        );
        host.node.shutdown().await;
    }
}
