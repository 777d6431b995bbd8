//! A node that has just started.

use super::*;

#[test]
fn a_node_that_starts_leaves_the_datapath_alone_until_it_has_caught_up_and_is_supported_or_has_waited()
 {
    let (state, holder, _) = two_nodes();
    let scene = Scene::of(&state, holder);
    let mut it = steward(holder);
    scene.tell(&mut it, 1, None, Event::Support { held: true });
    assert_eq!(scene.look(&mut it, 1, None).gates, None, "not caught up");
    it.caught_up();
    let gates = scene.look(&mut it, 2, None).gates.unwrap();
    assert!(gates.values().all(|stance| stance.is_open()));
    assert_eq!(scene.look(&mut it, 3, None).gates, None, "told once");

    let mut it = steward(holder);
    it.caught_up();
    assert_eq!(
        scene.look(&mut it, 600, None).gates,
        None,
        "support may come"
    );
    let gates = scene.look(&mut it, 601, None).gates.unwrap();
    assert!(gates.values().all(|stance| !stance.is_open()));
}

#[test]
fn a_node_that_has_just_started_shuts_what_it_has_opened_itself_as_soon_as_support_ends() {
    let (state, holder, _) = two_nodes();
    let scene = Scene::of(&state, holder);
    let mut it = steward(holder);
    it.caught_up();
    scene.tell(&mut it, 1, None, Event::Support { held: true });
    assert!(scene.look(&mut it, 1, None).gates.is_some());
    scene.tell(&mut it, 200, None, Event::Support { held: false });
    let gates = scene.look(&mut it, 200, None).gates.unwrap();
    assert!(
        gates.values().all(|stance| !stance.is_open()),
        "else its next lease would open what may be another's by then"
    );
}

#[test]
fn a_node_tells_by_which_voters_it_counts_as_soon_as_its_kernel_has_nothing_of_an_earlier_life() {
    let (state, holder, _) = two_nodes();
    let scene = Scene::of(&state, holder);
    let reports = |it: &mut Steward, ms| {
        let facts = Facts {
            counted: 9,
            ..scene.facts(ms, None)
        };
        let proposals = it.look(&facts, &state).proposals;
        let told = proposals
            .into_iter()
            .find_map(|(_, command)| match command {
                Command::NodeReport { membership, .. } => Some(membership),
                _ => None,
            });
        told == Some(9)
    };
    let mut fresh = steward(holder);
    fresh.caught_up();
    assert!(reports(&mut fresh, 1), "nothing was left");
    let mut restarted = steward_after(holder, 120);
    restarted.caught_up();
    assert!(!reports(&mut restarted, 1), "a deadline of earlier runs");
    assert!(!reports(&mut restarted, 119));
    assert!(reports(&mut restarted, 120));
}
