//! Addresses that cool down: the leader says when that is over.

use super::*;

#[test]
fn the_leader_lets_an_address_be_given_again_once_it_has_cooled_down() {
    let (mut state, holder, me) = two_nodes();
    let mut spec = state.pools()[&name("p")].spec.clone();
    spec.cooldown = Millis(5000);
    let put = Command::PutPool {
        name: name("p"),
        labels: Labels::new(),
        spec,
        expect: Expect::Any,
        care: crate::pool::Care::default(),
    };
    apply(&mut state, put);
    let delete = Command::DeleteVip {
        name: name("v"),
        expect: Expect::Any,
    };
    apply(&mut state, delete);
    let epoch = state.allocations()[&address()].epoch;
    let release = Command::Released {
        node: holder,
        addresses: vec![(address(), epoch)],
    };
    apply(&mut state, release);
    let due = state.ripe_at().unwrap().0 - 1;
    let mut it = steward(me);
    let scene = Scene::of(&state, me);
    scene.tell(&mut it, 0, Some(me), Event::Support { held: true });
    assert_eq!(purposes(&scene.look(&mut it, 100, Some(me))), []);
    assert_eq!(it.next_look(), Some(scene.facts(due, None).now));
    let early = scene.look(&mut it, due, Some(holder));
    assert_eq!(purposes(&early), [], "another leads");
    let look = scene.look(&mut it, due, Some(me));
    assert_eq!(purposes(&look), [Purpose::Ripen]);
}
