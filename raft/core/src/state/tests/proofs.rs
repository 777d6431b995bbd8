//! Whether somebody outside has an address: who may say so, and what it changes.

use super::*;
use crate::event::What;
use crate::node::Mac;
use crate::proof::{Claim, Found, Proof, Rule};

impl Cluster {
    /// A node asks the link about all that it holds and is not proven; somebody outside has what is `taken`.
    pub(super) fn asks(
        &mut self,
        node: NodeId,
        rule: Rule,
        taken: impl Fn(&IpAddr) -> bool,
    ) -> Outcome {
        let held = self
            .state
            .unproven()
            .filter(|(_, of)| of.holder == Some(node));
        let found = held.map(|(address, of)| Found {
            address,
            epoch: of.epoch,
            claim: taken(&address).then(|| claim(9)),
            rule,
        });
        let found = found.collect();
        self.apply(Command::Probed { node, found })
    }

    fn proof(&self, address: &str) -> &Proof {
        &self.state.allocations()[&ip(address)].proof
    }
}

fn claim(last: u8) -> Claim {
    Claim {
        mac: Mac([2, 0, 0, 0, 0, last]),
        interface: "eth0".into(),
    }
}

const ADDRESS: &str = "10.0.0.10";

/// Three nodes, and a VIP that has one address; and who holds it.
fn one_vip() -> (Cluster, NodeId) {
    let mut c = Cluster::of(3);
    c.pool("web", &[ADDRESS]).unwrap();
    let spec = VipSpec {
        families: Families::Ipv4,
        ..VipSpec::default()
    };
    c.vip("www", spec).unwrap();
    let holder = c.holder(ADDRESS).unwrap();
    (c, holder)
}

fn last_event(c: &Cluster) -> &What {
    &c.state.events().back().unwrap().what
}

#[test]
fn an_address_that_nobody_has_is_clear_once_its_holder_has_asked_and_stays_so() {
    let (mut c, holder) = one_vip();
    assert_eq!(*c.proof(ADDRESS), Proof::Unproven);
    c.asks(holder, Rule::Refuse, |_| false).unwrap();
    assert_eq!(*c.proof(ADDRESS), Proof::Clear);
    assert!(
        matches!(last_event(&c), What::HolderChanged { .. }),
        "no news for anybody"
    );
    let epoch = c.state.allocations()[&ip(ADDRESS)].epoch;
    let late = Found {
        address: ip(ADDRESS),
        epoch,
        claim: Some(claim(9)),
        rule: Rule::Refuse,
    };
    let command = Command::Probed {
        node: holder,
        found: vec![late],
    };
    c.apply(command).unwrap();
    assert_eq!(
        *c.proof(ADDRESS),
        Proof::Clear,
        "who claims it later is in the wrong"
    );
}

#[test]
fn a_failover_and_a_move_of_a_proven_address_leave_nothing_to_ask() {
    let (mut c, holder) = one_vip();
    c.asks(holder, Rule::Refuse, |_| false).unwrap();
    c.down(holder).unwrap();
    assert_ne!(c.holder(ADDRESS), Some(holder));
    assert_eq!(c.state.unproven().count(), 0);
    c.up(holder);
    let name = c.state.node(holder).unwrap().name.to_string();
    c.move_to("www", &name).unwrap();
    c.release_all();
    assert_eq!(c.holder(ADDRESS), Some(holder));
    assert_eq!(c.state.unproven().count(), 0);
}

#[test]
fn a_holder_that_is_lost_while_it_asks_leaves_the_question_to_the_next_one() {
    let (mut c, holder) = one_vip();
    let epoch = c.state.allocations()[&ip(ADDRESS)].epoch;
    c.down(holder).unwrap();
    let next = c.holder(ADDRESS).unwrap();
    let late = |node| Command::Probed {
        node,
        found: vec![Found {
            address: ip(ADDRESS),
            epoch,
            claim: None,
            rule: Rule::Refuse,
        }],
    };
    c.apply(late(holder)).unwrap();
    c.apply(late(next)).unwrap();
    assert_eq!(
        *c.proof(ADDRESS),
        Proof::Unproven,
        "neither holds it under that token"
    );
    c.asks(next, Rule::Refuse, |_| false).unwrap();
    assert_eq!(*c.proof(ADDRESS), Proof::Clear);
}

#[test]
fn an_address_in_use_says_who_has_it_and_is_clear_when_he_is_heard_no_more() {
    let (mut c, holder) = one_vip();
    c.asks(holder, Rule::Refuse, |_| true).unwrap();
    let Proof::InUse {
        node,
        claim: heard,
        announced: false,
    } = c.proof(ADDRESS)
    else {
        panic!("{:?}", c.proof(ADDRESS));
    };
    assert_eq!((*node, heard), (holder, &claim(9)));
    let said = last_event(&c).to_string();
    assert!(said.contains("02:00:00:00:00:09, heard on eth0"), "{said}");
    assert!(said.contains("not announced"), "{said}");
    let events = c.state.events().len();
    c.asks(holder, Rule::Refuse, |_| true).unwrap();
    assert_eq!(c.state.events().len(), events, "known already");
    c.asks(holder, Rule::Refuse, |_| false).unwrap();
    assert_eq!(*c.proof(ADDRESS), Proof::Clear);
    assert!(matches!(last_event(&c), What::NotInUse { .. }));
}

#[test]
fn an_address_that_is_announced_although_in_use_stays_announced_on_a_node_that_would_refuse_it() {
    let (mut c, holder) = one_vip();
    c.asks(holder, Rule::Refuse, |_| true).unwrap();
    c.asks(holder, Rule::Warn, |_| true).unwrap();
    assert!(c.proof(ADDRESS).lets_announce());
    let said = last_event(&c).to_string();
    assert!(said.contains("announced all the same"), "{said}");
    c.down(holder).unwrap();
    let next = c.holder(ADDRESS).unwrap();
    c.asks(next, Rule::Refuse, |_| true).unwrap();
    assert!(c.proof(ADDRESS).lets_announce());
    c.asks(next, Rule::Refuse, |_| false).unwrap();
    assert_eq!(*c.proof(ADDRESS), Proof::Clear);
}

#[test]
fn a_snapshot_tells_what_is_unproven_and_an_address_given_anew_is_asked_about_anew() {
    let (mut c, holder) = one_vip();
    c.asks(holder, Rule::Refuse, |_| true).unwrap();
    let restored = State::from_bytes(&c.state.to_bytes()).unwrap();
    let unproven: Vec<IpAddr> = restored.unproven().map(|(address, _)| address).collect();
    assert_eq!(unproven, [ip(ADDRESS)]);
    assert_eq!(
        restored.allocations()[&ip(ADDRESS)].proof,
        *c.proof(ADDRESS)
    );
    let delete = Command::DeleteVip {
        name: name("www"),
        expect: Expect::Any,
    };
    c.asks(holder, Rule::Refuse, |_| false).unwrap();
    c.apply(delete).unwrap();
    c.release_all();
    assert_eq!(c.state.unproven().count(), 0);
    c.vip(
        "other",
        VipSpec {
            families: Families::Ipv4,
            ..VipSpec::default()
        },
    )
    .unwrap();
    assert_eq!(*c.proof(ADDRESS), Proof::Unproven);
}

#[test]
fn who_is_no_member_tells_nothing() {
    let (mut c, _) = one_vip();
    let found = Vec::new();
    let node = NodeId(77);
    assert!(c.apply(Command::Probed { node, found }).is_err());
}
