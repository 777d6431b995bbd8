//! VIPs return to their homes when their delays are over.

use super::*;

#[test]
fn the_leader_returns_a_vip_to_its_home_when_its_delay_is_over_and_looks_again_just_then() {
    let (mut state, home, me) = two_nodes();
    let delay = Millis(2000);
    let spec = VipSpec {
        failback: Failback::After { delay },
        ..state.vips().values().next().unwrap().spec.as_ref().clone()
    };
    let put = Command::PutVip {
        name: state.vips().keys().next().unwrap().clone(),
        labels: Labels::new(),
        spec,
        expect: Expect::Any,
    };
    apply(&mut state, put);
    let node = state.node(home).unwrap().clone();
    let down = Command::NodeDown {
        node: home,
        epoch: node.epoch,
        membership: 0,
    };
    apply(&mut state, down);
    let mut it = steward(me);
    let scene = Scene::of(&state, me);
    scene.tell(&mut it, 0, Some(me), Event::Support { held: true });
    assert_eq!(purposes(&scene.look(&mut it, 900, Some(me))), [], "no home");
    let up = Command::NodeUp {
        node: home,
        version: String::new(),
        interfaces: node.interfaces,
        labels: Labels::new(),
    };
    apply(&mut state, up);
    let scene = Scene::of(&state, me);
    assert_eq!(purposes(&scene.look(&mut it, 100, Some(me))), []);
    assert_eq!(it.next_look(), Some(scene.facts(2000, None).now));
    assert_eq!(
        purposes(&scene.look(&mut it, 2000, Some(home))),
        [],
        "another leads"
    );
    assert_eq!(it.next_look(), None);
    let due = scene.look(&mut it, 2000, Some(me));
    assert_eq!(purposes(&due), [Purpose::FailBack]);
}
