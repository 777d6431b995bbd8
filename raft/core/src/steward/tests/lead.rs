//! A leader that nobody answers.

use super::*;

/// Whether `it`, which leads, is quiet at `ms`.
fn quiet(scene: &Scene<'_>, it: &mut Steward, ms: u64, answered: bool) -> bool {
    let leader = Some(it.me);
    let facts = Facts {
        answered,
        ..scene.facts(ms, leader)
    };
    it.look(&facts, scene.state).quiet
}

fn support(scene: &Scene<'_>, it: &mut Steward, ms: u64, held: bool) {
    let leader = Some(it.me);
    scene.tell(it, ms, leader, Event::Support { held });
}

#[test]
fn a_leader_that_nobody_answers_is_quiet_for_a_while_and_speaks_for_as_long() {
    let (state, me, _) = two_nodes();
    let scene = Scene::of(&state, me);
    let mut it = steward(me);
    support(&scene, &mut it, 0, true);
    assert!(!quiet(&scene, &mut it, 0, true));
    assert!(!quiet(&scene, &mut it, 1_000, true));
    support(&scene, &mut it, 1_100, false);
    assert!(!quiet(&scene, &mut it, 1_100, true), "Raft is answered");
    let soon = Instant(0).after(Span::millis(1_125));
    assert!(it.next_look().is_some_and(|at| at <= soon));
    for (ms, silent) in [
        (1_150, true),
        (2_040, true),
        (2_050, false),
        (2_940, false),
        (2_950, true),
    ] {
        assert_eq!(quiet(&scene, &mut it, ms, false), silent, "at {ms}");
    }
    assert!(!quiet(&scene, &mut it, 3_000, true), "answered again");
    assert!(quiet(&scene, &mut it, 3_100, false));
    support(&scene, &mut it, 3_110, true);
    assert!(!quiet(&scene, &mut it, 3_110, false), "supported again");
}

#[test]
fn a_leader_whose_beats_are_answered_goes_on_however_late_raft_is() {
    let (state, me, _) = two_nodes();
    let scene = Scene::of(&state, me);
    let mut it = steward(me);
    support(&scene, &mut it, 0, true);
    for ms in [0, 200, 400, 5_000] {
        assert!(!quiet(&scene, &mut it, ms, false), "at {ms}");
    }
}

#[test]
fn support_that_a_node_gives_itself_while_frozen_is_no_answer() {
    let (state, me, _) = two_nodes();
    let scene = Scene::of(&state, me);
    let mut it = steward(me);
    support(&scene, &mut it, 0, true);
    assert!(!quiet(&scene, &mut it, 0, true));
    scene.tell(&mut it, 1_000, Some(me), Event::Frozen { frozen: true });
    assert!(quiet(&scene, &mut it, 1_000, false));
    scene.tell(&mut it, 1_010, Some(me), Event::Frozen { frozen: false });
    assert!(!quiet(&scene, &mut it, 1_010, false));
}

#[test]
fn a_leader_that_was_only_just_elected_speaks_and_so_does_one_that_leads_no_more() {
    let (state, me, other) = two_nodes();
    let scene = Scene::of(&state, me);
    let mut it = steward(me);
    assert!(!quiet(&scene, &mut it, 1_000, false));
    assert!(!quiet(&scene, &mut it, 1_130, false));
    assert!(quiet(&scene, &mut it, 1_150, false));
    let facts = Facts {
        answered: false,
        ..scene.facts(1_200, Some(other))
    };
    assert!(!it.look(&facts, &state).quiet);
    assert!(!quiet(&scene, &mut it, 1_300, false), "elected anew");
}
