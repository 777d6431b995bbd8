//! Who stands for election, and when.

use super::super::election::{Candidacy, Step};
use super::*;

#[test]
fn a_voter_stands_for_election_in_its_turn_when_the_leader_is_fenced_and_nobody_else_has() {
    let (mut state, leader, me) = two_nodes();
    state.apply_membership(state.applied() + 1, &[[leader, NodeId(0), me].into()]);
    let scene = Scene::of(&state, me);
    let fencing = |node| Event::Fencing {
        node,
        epoch: Epoch(1),
    };
    let mut it = steward(me);
    scene.tell(&mut it, 100, Some(leader), fencing(me));
    assert_eq!(it.next_look(), None, "not the leader");
    scene.tell(&mut it, 100, Some(leader), fencing(leader));
    assert!(
        !scene.look(&mut it, 109, Some(leader)).elect,
        "another voter's turn"
    );
    assert!(scene.look(&mut it, 110, Some(leader)).elect);
    assert!(!scene.look(&mut it, 111, Some(leader)).elect);
    assert!(
        scene.look(&mut it, 140, Some(leader)).elect,
        "refused: again"
    );
    let mut facts = scene.facts(150, Some(leader));
    facts.vote.term = 9;
    assert!(!it.look(&facts, &state).elect, "somebody else stands");
    assert_eq!(it.next_look(), None);
}

/// When the voter of this rank stands that fences its leader at `fenced` and is refused each time, in milliseconds.
fn tries(rank: usize, fenced: u64) -> Vec<u64> {
    let leader = NodeId(0);
    let voters: Vec<NodeId> = (1..=6).map(NodeId).collect();
    let mut state = State::default();
    let members = voters.iter().chain([&leader]).copied().collect();
    state.apply_membership(1, &[members]);
    let facts = |ms| Facts {
        now: Instant(0).after(Span::millis(ms)),
        wall: Millis(ms),
        leader: Some(leader),
        vote: VoteMark::default(),
        answered: false,
        counted: 0,
        interfaces: &[],
    };
    let begun = Candidacy::of(voters[rank], leader, LAN, &facts(fenced), &state);
    let mut candidacy = begun.unwrap();
    let stands = |ms: &u64| matches!(candidacy.step(&facts(*ms)), Step::Stand);
    (fenced..fenced + 1_000).filter(stands).collect()
}

#[test]
fn two_candidates_that_have_stood_at_the_same_time_do_not_meet_the_next_time() {
    let half_a_turn = LAN.election_rank.as_millis() / 2;
    for (one, other) in (0..6).flat_map(|a| (a + 1..6).map(move |b| (a, b))) {
        // The promise of one voter runs out up to this much before or after that of the other.
        for late in 0..=200 {
            let (first, second) = (tries(one, 100), tries(other, late));
            let meets = |at: &u64| second.iter().any(|it| it.abs_diff(*at) < half_a_turn);
            let again = first.windows(2).find(|pair| pair.iter().all(meets));
            assert_eq!(
                again, None,
                "ranks {one} and {other}, {late}: {first:?}, {second:?}"
            );
        }
    }
}

#[test]
fn a_candidate_that_is_always_refused_gives_up() {
    assert_eq!(tries(0, 0).len(), 20);
    assert!(tries(5, 0).len() >= 10);
}
