//! What a node notices on its wires, as events.

use super::*;

#[test]
fn what_a_node_notices_is_an_event_of_its_vip_and_changes_nothing_else() {
    use crate::event::What;
    use crate::notice::Notice;

    let mut c = Cluster::of(3);
    c.pool("web", &["10.0.0.10-10.0.0.12"]).unwrap();
    let spec = VipSpec {
        families: Families::Ipv4,
        ..VipSpec::default()
    };
    c.vip("www", spec).unwrap();
    let (holder, epoch) = {
        let allocation = &c.state.allocations()[&ip("10.0.0.10")];
        (allocation.holder.unwrap(), allocation.epoch)
    };
    let notice = Notice::Conflict {
        address: ip("10.0.0.10"),
        mac: [2, 0, 0, 0, 0, 9],
        interface: "eth0".into(),
    };
    let node = holder;
    c.apply(Command::Notice { node, notice }).unwrap();
    let What::Noticed { vip, notice, .. } = &c.state.events().back().unwrap().what else {
        panic!("{:?}", c.state.events().back());
    };
    assert_eq!(vip.as_ref().map(Name::as_str), Some("www"));
    assert!(notice.to_string().contains("02:00:00:00:00:09"));
    let allocation = &c.state.allocations()[&ip("10.0.0.10")];
    assert_eq!((allocation.holder, allocation.epoch), (Some(holder), epoch));
}

#[test]
fn an_interface_that_goes_down_is_an_event_and_moves_what_was_on_it() {
    let mut c = Cluster::of(3);
    c.pool("web", &["10.0.0.10-10.0.0.12"]).unwrap();
    let spec = VipSpec {
        families: Families::Ipv4,
        ..VipSpec::default()
    };
    c.vip("www", spec).unwrap();
    let holder = c.state.allocations()[&ip("10.0.0.10")].holder.unwrap();
    c.apply(Command::NodeReport {
        node: holder,
        interfaces: subnets(false),
        membership: 0,
    })
    .unwrap();
    let said = |c: &Cluster| {
        let events = c.state.events().iter();
        events
            .filter(|event| event.what.to_string().contains("is down"))
            .count()
    };
    assert_eq!(said(&c), subnets(false).len());
    c.release_all();
    let now = c.state.allocations()[&ip("10.0.0.10")].holder;
    assert!(now.is_some() && now != Some(holder));
}
