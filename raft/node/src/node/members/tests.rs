//! Which step is taken when, and one left half done.

use vipd_core::event::What;

use super::*;
use crate::testing::{Host, another_voter, first_voter};
use crate::types::{EntryPayload, Membership};

fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn wanted(of: &[u64]) -> BTreeMap<NodeId, Member> {
    of.iter()
        .map(|id| (NodeId(*id), Member::default()))
        .collect()
}

#[test]
fn a_new_voter_learns_first_and_votes_when_it_has_caught_up() {
    let wanted = wanted(&[1, 9]);
    let mut view = View {
        wanted: &wanted,
        voters: ids(&[1]),
        joint: false,
        leaving: false,
        learners: ids(&[]),
        matched: BTreeMap::new(),
        last: 100,
    };
    assert_eq!(
        next_step(&view),
        Some(Step::Learn(NodeId(9), Member::default()))
    );
    view.learners = ids(&[9]);
    assert_eq!(next_step(&view), None);
    view.matched = [(NodeId(9), 30)].into();
    assert_eq!(next_step(&view), None);
    view.matched = [(NodeId(9), 60)].into();
    assert_eq!(next_step(&view), Some(Step::Promote(NodeId(9))));
}

#[test]
fn the_eighth_voter_stays_a_learner() {
    let wanted = wanted(&[1, 2, 3, 4, 5, 6, 7, 8]);
    let view = View {
        wanted: &wanted,
        voters: ids(&[1, 2, 3, 4, 5, 6, 7]),
        joint: false,
        leaving: false,
        learners: ids(&[8]),
        matched: [(NodeId(8), 100)].into(),
        last: 100,
    };
    assert_eq!(next_step(&view), None);
}

#[test]
fn a_learner_whose_record_is_gone_is_forgotten() {
    let wanted = wanted(&[1]);
    let view = View {
        wanted: &wanted,
        voters: ids(&[1]),
        joint: false,
        leaving: false,
        learners: ids(&[9]),
        matched: [(NodeId(9), 100)].into(),
        last: 100,
    };
    assert_eq!(next_step(&view), Some(Step::Forget(NodeId(9))));
}

#[test]
fn a_change_that_was_left_half_done_is_finished_before_anything_else() {
    let wanted = wanted(&[1, 2, 3, 4]);
    let mut view = View {
        wanted: &wanted,
        voters: ids(&[1, 2, 3]),
        joint: true,
        leaving: false,
        learners: ids(&[9]),
        matched: [(NodeId(9), 100)].into(),
        last: 100,
    };
    assert_eq!(next_step(&view), Some(Step::Settle));
    view.leaving = true;
    assert_eq!(next_step(&view), None, "whoever removes a node is at it");
    view.joint = false;
    assert_eq!(
        next_step(&view),
        Some(Step::Learn(NodeId(4), Member::default()))
    );
}

/// The voter sets that `host` has applied last.
fn sets(host: &Host) -> Vec<BTreeSet<u64>> {
    let replica = host.node.core.shared.read();
    replica.membership.membership().get_joint_config().clone()
}

async fn until(host: &Host, what: &str, done: impl Fn(&Host) -> bool) {
    let mut applied = host.node.applied();
    let wait = async {
        while !done(host) {
            applied.changed().await.unwrap();
        }
    };
    let seen = timeout(Duration::from_secs(20), wait).await;
    assert!(seen.is_ok(), "{what}; the voters are {:?}", sets(host));
}

/// What a leader leaves that is lost between the two entries of a change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_finishes_a_change_that_another_began() {
    let first = first_voter().await;
    let second = another_voter(&first).await;
    let (one, two) = (first.node.id().0, second.node.id().0);
    let both = BTreeSet::from([one, two]);
    until(&first, "both vote", |host| sets(host) == [both.clone()]).await;

    let voter = first.node.core.voter.as_ref().unwrap();
    let nodes: BTreeMap<u64, Member> = {
        let replica = first.node.core.shared.read();
        let nodes = replica.membership.membership().nodes();
        nodes.map(|(id, member)| (*id, *member)).collect()
    };
    let half = vec![both.clone(), BTreeSet::from([one])];
    let half = Membership::new(half, nodes).unwrap();
    let begun = voter.raft.append_membership(half, EntryPayload::Blank, []);
    let at = begun.await.unwrap().log_id.index;

    // It ends as the change wanted it, with one voter; the other, whose record says that it votes, gets its vote back.
    let next = |host: &Host| {
        let state = host.node.state();
        let state = state.read();
        let mut later = state.events().iter().filter(|event| event.revision.0 > at);
        later.find_map(|event| match event.what {
            What::VotersChanged { sets } => Some(sets),
            _ => None,
        })
    };
    until(&first, "it is finished", |host| next(host).is_some()).await;
    assert_eq!(next(&first), Some(1), "the half that was missing");
    until(&first, "both vote again", |host| {
        sets(host) == [both.clone()]
    })
    .await;
    second.node.shutdown().await;
    first.node.shutdown().await;
}
