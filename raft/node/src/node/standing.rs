//! What a member may ask, by the number in its certificate.

use vipd_core::command::Command;
use vipd_core::id::NodeId;

use super::handle::Core;
use crate::peer::{Refused, Request, Response};
use crate::types::Vote;

/// What `from` is answered instead of what it asks, if it may not. Raft believes what it is told of votes, so it is told only what
/// comes from the candidate or leader itself, and nothing of what an agent says; and an agent proposes nothing that is
/// [beyond](beyond_agents) it, and moves no lead.
///
/// The listener asks about removals, too, but as it reads a frame, and that may wait for its turn. What a removed node asks meanwhile
/// must not pass for what an unknown one asks.
///
/// Raft's words of a node whose record is not here yet are let through: a voter that lags, or is new, does not know the node that
/// leads since. Nobody does for it what only voters may ask: it may be an agent. If it is none, it asks again.
pub(super) fn refuse(core: &Core, from: NodeId, request: &Request) -> Option<Response> {
    if core.was_removed(from) {
        return Some(Response::Failed(Refused::Removed.to_string()));
    }
    let (what, unknown) = match (vote_of(request), request) {
        (Some(vote), _) => {
            let speaker = NodeId(vote.leader_id.voted_for);
            if speaker != from {
                let why = format!("node {from} speaks for node {speaker}");
                return Some(Response::Failed(why));
            }
            (LEADS_NOT, None)
        }
        (None, Request::Propose { command, .. }) => (beyond_agents(from, command)?, NOT_YET),
        (None, Request::Remove(..)) => (FOR_ADMINS, NOT_YET),
        (None, Request::Handover(_)) => (LEADS_NOT, NOT_YET),
        (None, _) => return None,
    };
    let replica = core.shared.read();
    match replica.state.node(from) {
        Some(node) if node.role.votes() => None,
        Some(_) => Some(Response::Failed(format!(
            "node {from} is an agent: it {what}"
        ))),
        None => unknown,
    }
}

/// The answer to a node of which it is not known here whether it votes: nothing was done.
const NOT_YET: Option<Response> = Some(Response::NotLeader(None));

/// What an agent does about leaders and votes.
const LEADS_NOT: &str = "neither leads nor votes";

/// What an agent does about all that needs the role `admin`.
pub(super) const FOR_ADMINS: &str = "hands on nothing that only an admin may ask";

/// Why agent `own` does not propose this command, if it does not.
///
/// Whoever is root on its host speaks as the agent, and says himself who asked it. That must not make him a voter, which has the
/// CA's key, or an admin of the cluster. So an agent hands on what the role `write` may ask, and speaks of itself.
pub(super) fn beyond_agents(own: NodeId, command: &Command) -> Option<&'static str> {
    match command {
        // A join names its token by the hash, which agents know, and a voter has seen the secret itself.
        Command::Bootstrap { .. } | Command::Join { .. } => Some("lets nobody in"),
        Command::PutJoinToken { .. }
        | Command::PutApiToken { .. }
        | Command::DeleteApiToken { .. }
        | Command::RemoveNode { .. }
        | Command::Stage { .. }
        | Command::Restore { .. } => Some(FOR_ADMINS),
        Command::NodeDown { .. } => Some("certifies nothing"),
        Command::NodeUp { node, .. }
        | Command::NodeReport { node, .. }
        | Command::NodeRetire { node, .. }
        | Command::Released { node, .. }
        | Command::Probed { node, .. }
        | Command::Notice { node, .. }
        | Command::Sight { node, .. } => (*node != own).then_some("speaks for itself alone"),
        Command::Once { command, .. } => beyond_agents(own, command.command()),
        Command::SetDrained { .. }
        | Command::SetNode { .. }
        | Command::PutPool { .. }
        | Command::DeletePool { .. }
        | Command::PutVip { .. }
        | Command::DeleteVip { .. }
        | Command::MoveVip { .. }
        | Command::PutPolicy { .. }
        | Command::DeletePolicy { .. }
        | Command::Rebalance
        | Command::FailBack
        | Command::Ripen => None,
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
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
    use vipd_core::asker::{Asker, Who};
    use vipd_core::command::Applied;
    use vipd_core::id::Epoch;
    use vipd_core::node::Role;
    use vipd_core::once::{Ticket, Ticketed};
    use vipd_core::time::Millis;
    use vipd_core::token::Access;

    use super::*;
    use crate::join::admit;
    use crate::node::{NodeService, ProposeError, TokenRequestError};
    use crate::peer::{Lane, Service as _};
    use crate::testing::{Host, agent, first_voter, stranger, token};
    use crate::types::SnapshotMeta;

    /// How many agents that flood are removed one after the other.
    const TRIALS: u8 = 4;
    /// How many calls each of them has open: more than the leader answers at once.
    const FLOOD: usize = 1200;

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

    /// What only an admin may ask, and a word about another node.
    fn too_much(other: NodeId) -> Vec<(Command, &'static str)> {
        let name = || "ci".parse().unwrap();
        let admins = [
            Command::PutJoinToken {
                token: [1; 32],
                role: Role::Voter,
                expires: Millis(u64::MAX),
                uses: 1,
            },
            Command::PutApiToken {
                token: [1; 32],
                name: name(),
                access: Access::Admin,
                expires: None,
            },
            Command::DeleteApiToken { name: name() },
            Command::RemoveNode { node: name() },
            Command::Stage {
                upload: 1,
                part: 0,
                bytes: vec![],
            },
            Command::Restore { upload: 1 },
        ];
        let admins = admins.map(|command| (command, FOR_ADMINS));
        let words = [
            (report(other), "speaks for itself alone"),
            (
                Command::NodeDown {
                    node: other,
                    epoch: Epoch(1),
                    membership: 1,
                },
                "certifies nothing",
            ),
        ];
        admins.into_iter().chain(words).collect()
    }

    fn report(node: NodeId) -> Command {
        Command::NodeReport {
            node,
            interfaces: vec![],
            membership: 1,
        }
    }

    fn proposal(command: Command) -> Request {
        Request::Propose {
            id: 1,
            command: Box::new(command),
            by: Some(Asker {
                node: NodeId(1),
                who: Who::Local { uid: 0 },
            }),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_agent_hands_on_nothing_of_admins_and_says_nothing_of_other_nodes() {
        let host = first_voter().await;
        let core = &host.node.core;
        let agent = joined(&host, "a1", Role::Agent).await;
        let voter = joined(&host, "n2", Role::Voter).await;
        let service = NodeService::new(core);
        let ticket = Ticket {
            key: [1; 32],
            request: [2; 32],
        };
        for (command, why) in too_much(voter) {
            for command in [command.clone(), Ticketed::of(ticket, command)] {
                let request = proposal(command);
                let refused = refuse(core, voter, &request);
                assert!(refused.is_none(), "{request:?}: {refused:?}");
                match service.answer(agent, request).await {
                    Response::Failed(said) => assert!(said.contains(why), "{said}"),
                    other => panic!("an agent was answered {other:?}"),
                }
            }
        }
        let remove = Request::Remove(voter, None);
        assert!(refuse(core, voter, &remove).is_none());
        assert!(refuse(core, agent, &remove).is_some());
        // What is its own business, and what anybody with a token to write may ask.
        let drain = Command::SetDrained {
            node: "n2".parse().unwrap(),
            drained: true,
        };
        for command in [report(agent), drain] {
            assert!(refuse(core, agent, &proposal(command)).is_none());
        }
        host.node.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_agent_says_at_once_that_it_does_not_do_what_voters_would_refuse() {
        let host = first_voter().await;
        let agent = agent(&host).await;
        let root = || Who::Local { uid: 0 };
        let hour = Duration::from_secs(3600);
        let refused = agent.node.issue_token(root(), Role::Voter, hour, 1).await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(
                refused,
                TokenRequestError::Propose(ProposeError::Agent(FOR_ADMINS))
            ),
            "{refused}"
        );
        let refused = agent.node.remove_node(root(), host.node.id()).await;
        assert!(
            matches!(refused, Err(ProposeError::Agent(FOR_ADMINS))),
            "{refused:?}"
        );
        let drain = Command::SetDrained {
            node: "n1".parse().unwrap(),
            drained: true,
        };
        let done = agent.node.propose_for(root(), drain).await.unwrap();
        assert!(matches!(done, Ok(Applied::Done { .. })), "{done:?}");
        agent.node.shutdown().await;
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

    fn token_for_voters(number: u8) -> Command {
        Command::PutJoinToken {
            token: [number; 32],
            role: Role::Voter,
            expires: Millis(u64::MAX),
            uses: 100,
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_removed_agent_has_sent_before_it_was_removed_is_refused_too() {
        let host = first_voter().await;
        let agent = joined(&host, "a1", Role::Agent).await;
        let root = Who::Local { uid: 0 };
        host.node.remove_node(root, agent).await.unwrap().unwrap();
        // The listener has let it pass: it looked before.
        let service = NodeService::new(&host.node.core);
        let own = || proposal(report(agent));
        for late in [
            proposal(token_for_voters(9)),
            Request::Remove(host.node.id(), None),
            Request::Handover(None),
            own(),
        ] {
            match service.answer(agent, late).await {
                Response::Failed(why) => assert!(why.contains("removed"), "{why}"),
                other => panic!("a removed agent was answered {other:?}"),
            }
        }
        let tokens = host.node.state().read().join_tokens().clone();
        assert!(!tokens.contains_key(&[9; 32]), "{tokens:?}");
        host.node.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_node_that_is_not_known_yet_is_told_to_ask_again_for_what_only_voters_may_ask() {
        let host = first_voter().await;
        let service = NodeService::new(&host.node.core);
        for early in [
            proposal(token_for_voters(9)),
            Request::Remove(host.node.id(), None),
            Request::Handover(None),
        ] {
            let answer = service.answer(NodeId(u64::MAX), early).await;
            assert!(matches!(answer, Response::NotLeader(None)), "{answer:?}");
        }
        let tokens = host.node.state().read().join_tokens().clone();
        assert!(!tokens.contains_key(&[9; 32]), "{tokens:?}");
        host.node.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_agent_that_floods_the_leader_makes_no_voter_while_it_is_removed() {
        let host = first_voter().await;
        for trial in 0..TRIALS {
            let bad = agent(&host).await;
            let me = bad.node.id();
            let lane = bad.node.core.directory.lane(host.node.id(), Lane::Bulk);
            // Half of it is what agents may ask: it fills the leader's turns, and the other half waits behind.
            let asks = [report(me), token_for_voters(trial)].map(|c| Arc::new(proposal(c)));
            let flood: Vec<_> = (asks.iter().cycle().take(FLOOD))
                .map(|ask| {
                    let (lane, ask) = (lane.clone(), ask.clone());
                    tokio::spawn(async move {
                        while lane.call(&ask, Duration::from_secs(5)).await.is_ok() {}
                    })
                })
                .collect();
            let mut applied = host.node.applied();
            let begun = *applied.borrow() + 50;
            let flows = applied.wait_for(|applied| *applied >= begun);
            tokio::time::timeout(Duration::from_secs(20), flows)
                .await
                .unwrap()
                .unwrap();
            let root = Who::Local { uid: 0 };
            host.node.remove_node(root, me).await.unwrap().unwrap();
            // The listener hangs up on it, and each of its calls ends.
            for call in flood {
                call.await.unwrap();
            }
            let tokens = host.node.state().read().join_tokens().clone();
            assert!(!tokens.contains_key(&[trial; 32]), "removal {trial}");
            bad.node.shutdown().await;
        }
        host.node.shutdown().await;
    }
}
