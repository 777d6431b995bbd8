//! Backups: what is restored is as it was, nobody loses an address that stays, and epochs only grow.

use alloc::collections::BTreeMap;

use proptest::prelude::*;

use super::random::{Step, step};
use super::*;
use crate::backup::{Backup, SavedAllocation};
use crate::event::What;
use crate::node::Lease;
use crate::token::{Access, ApiToken};

const UPLOAD: u128 = 7;

impl Cluster {
    /// Brings a backup in, in parts of so many bytes, and restores it.
    pub(super) fn restore(&mut self, backup: &Backup, part: usize) -> Outcome {
        for (number, bytes) in backup.to_bytes().chunks(part).enumerate() {
            let stage = Command::Stage {
                upload: UPLOAD,
                part: u32::try_from(number).unwrap(),
                bytes: bytes.into(),
            };
            self.apply(stage).unwrap();
        }
        self.apply(Command::Restore { upload: UPLOAD })
    }
}

fn v4() -> VipSpec {
    VipSpec {
        families: Families::Ipv4,
        ..VipSpec::default()
    }
}

/// Whose each address is.
fn owners(allocations: &[SavedAllocation]) -> BTreeMap<IpAddr, Vec<Name>> {
    let allocations = allocations.iter();
    allocations
        .map(|saved| (saved.address, saved.vips.clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]
    /// The harness checks the invariants after each entry, among them that a holder is replaced only after it let go.
    #[test]
    fn whatever_has_happened_since_a_backup_is_restored_and_a_second_time_changes_nothing(
        before in prop::collection::vec(step(), 1..60),
        after in prop::collection::vec(step(), 0..60),
        part in 1usize..400,
    ) {
        let mut c = Cluster::of(3);
        before.into_iter().for_each(|step| step.take(&mut c));
        let backup = c.state.backup();
        after.into_iter().for_each(|step| step.take(&mut c));
        let was = c.state.clone();
        c.restore(&backup, part).unwrap();
        for (address, old) in was.allocations().iter() {
            let runs = |id: &NodeId| was.node(*id).is_some_and(|node| node.lease == Lease::Up);
            let Some(new) = c.state.allocations().get(&address) else {
                prop_assert!(!old.holder.is_some_and(|holder| runs(&holder)), "{} was freed under its holder", address);
                continue;
            };
            prop_assert!(new.epoch >= old.epoch, "{}: epoch {} after {}", address, new.epoch, old.epoch);
            if old.holder.is_some_and(|holder| runs(&holder)) {
                prop_assert_eq!(new.holder, old.holder, "{}", address);
            }
        }
        let now = c.state.backup();
        prop_assert_eq!(&now.pools, &backup.pools);
        prop_assert_eq!(&now.policies, &backup.policies);
        // Who waits may have been given more; what was his is his.
        let owned = owners(&now.allocations);
        for (address, vips) in owners(&backup.allocations) {
            prop_assert_eq!(owned.get(&address), Some(&vips), "{}", address);
        }
        let bytes = now.to_bytes();
        let events = c.state.events().len();
        c.restore(&now, part).unwrap();
        prop_assert_eq!(c.state.backup().to_bytes(), bytes);
        prop_assert_eq!(c.state.events().len(), events, "a second time nothing is to be done");
    }

    #[test]
    fn in_an_empty_cluster_every_vip_has_what_it_had(
        steps in prop::collection::vec(step(), 1..100),
    ) {
        let mut c = Cluster::of(3);
        let steps = steps.into_iter().filter(|step| matches!(step, Step::Do(_)));
        steps.for_each(|step| step.take(&mut c));
        c.release_all();
        let mut other = Cluster::of(3);
        other.restore(&c.state.backup(), 1 << 18).unwrap();
        let (here, there) = (c.state.backup(), other.state.backup());
        let owned = owners(&there.allocations);
        for (address, vips) in owners(&here.allocations) {
            prop_assert_eq!(owned.get(&address), Some(&vips), "{}", address);
        }
        let names = |backup: &Backup| -> Vec<Name> { backup.vips.iter().map(|vip| vip.name.clone()).collect() };
        prop_assert_eq!(names(&there), names(&here), "in the order of their age");
        prop_assert_eq!(&there.pools, &here.pools);
    }
}

#[test]
fn an_address_that_went_to_another_vip_meanwhile_goes_back_and_keeps_its_holder() {
    let mut c = Cluster::of(3);
    c.pool("web", &["10.0.0.1"]).unwrap();
    c.vip("www", v4()).unwrap();
    let backup = c.state.backup();
    let delete = Command::DeleteVip {
        name: name("www"),
        expect: Expect::Any,
    };
    c.apply(delete).unwrap();
    c.release_all();
    c.vip("other", v4()).unwrap();
    let held = c.state.allocations()[&ip("10.0.0.1")].clone();
    assert_eq!(held.vip, name("other"));
    c.restore(&backup, 10).unwrap();
    let back = c.state.allocations()[&ip("10.0.0.1")].clone();
    assert_eq!((back.vip.clone(), back.holder), (name("www"), held.holder));
    assert!(back.epoch > held.epoch && back.vacating.is_none());
    assert!(!c.state.vips().contains_key(&name("other")));
}

#[test]
fn who_waited_longer_still_does_so_and_newcomers_come_behind() {
    let mut c = Cluster::of(2);
    for vip in ["c", "a", "b"] {
        c.vip(vip, v4()).unwrap();
    }
    let mut other = Cluster::of(2);
    other.restore(&c.state.backup(), 1000).unwrap();
    other.vip("0-new", v4()).unwrap();
    other.pool("web", &["10.0.0.1-10.0.0.3"]).unwrap();
    assert_eq!(other.addresses("c"), ["10.0.0.1"]);
    assert_eq!(other.addresses("a"), ["10.0.0.2"]);
    assert_eq!(other.addresses("b"), ["10.0.0.3"]);
    assert!(other.addresses("0-new").is_empty());
}

#[test]
fn a_vip_that_a_restore_has_need_more_lacks_it_since_then() {
    let mut c = Cluster::of(2);
    c.pool("web", &["10.0.0.1-10.0.0.3"]).unwrap();
    let prefers = VipSpec {
        families: Families::PreferDual,
        ..VipSpec::default()
    };
    c.vip("www", prefers).unwrap();
    let mut backup = c.state.backup();
    for (families, lacks) in [(Families::RequireDual, true), (Families::PreferDual, false)] {
        backup.vips[0].spec.families = families;
        c.restore(&backup, 1 << 16).unwrap();
        let since = lacks.then_some(Millis(c.state.applied() * 10));
        assert_eq!(c.state.vips()[&name("www")].unsatisfied_since, since);
        assert_eq!(c.addresses("www"), ["10.0.0.1"]);
    }
}

#[test]
fn a_backup_is_whole_or_it_is_refused_and_says_why() {
    let mut c = Cluster::of(2);
    c.pool("web", &["10.0.0.1-10.0.0.3"]).unwrap();
    c.vip("www", v4()).unwrap();
    let good = c.state.backup();
    let spoilt = |spoil: &dyn Fn(&mut Backup)| {
        let mut backup = good.clone();
        spoil(&mut backup);
        backup
    };
    for (backup, said) in [
        (spoilt(&|b| b.pools.clear()), "in no block of pool web"),
        (
            spoilt(&|b| b.vips.clear()),
            "VIP www, which does not have it",
        ),
        (
            spoilt(&|b| b.allocations.clear()),
            "of which nothing else is said",
        ),
        (
            spoilt(&|b| b.vips.push(b.vips[0].clone())),
            "VIP www is in it twice",
        ),
        (
            spoilt(&|b| b.allocations.push(b.allocations[0].clone())),
            "address 10.0.0.1 is in it twice",
        ),
        (
            spoilt(&|b| {
                // The same address for another VIP that says it has it, with nothing to share it by.
                let mut other = b.vips[0].clone();
                other.name = name("other");
                b.vips.push(other);
                let mut again = b.allocations[0].clone();
                again.vips = vec![name("other")];
                b.allocations.push(again);
            }),
            "address 10.0.0.1 is in it twice",
        ),
        (
            spoilt(&|b| b.allocations[0].vips.push(name("www"))),
            "shared by VIPs www and www",
        ),
        (
            spoilt(&|b| {
                let more = ip("10.0.0.2");
                b.vips[0].addresses.push(more);
                let mut again = b.allocations[0].clone();
                again.address = more;
                b.allocations.push(again);
            }),
            "VIP www has 2 addresses, and asks for 1",
        ),
        (
            spoilt(&|b| b.pools[0].spec.blocks.clear()),
            "in no block of pool web",
        ),
    ] {
        // In one part: of two uploads by one number those that are alike would be taken for the same.
        let refused = c.restore(&backup, 1 << 16).unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
    let unknown = c.apply(Command::Restore { upload: 1 }).unwrap_err();
    assert!(unknown.to_string().contains("parts are not there"));
    c.restore(&good, 100).unwrap();
    let again = c.apply(Command::Restore { upload: UPLOAD });
    assert!(again.is_err(), "what was restored is not kept");
}

#[test]
fn parts_come_once_and_in_order() {
    let mut c = Cluster::of(1);
    let part = |upload, part, byte| Command::Stage {
        upload,
        part,
        bytes: vec![byte],
    };
    c.apply(part(1, 0, 1)).unwrap();
    c.apply(part(1, 0, 1)).unwrap();
    c.apply(part(1, 1, 2)).unwrap();
    let refused = c.apply(part(1, 3, 3)).unwrap_err().to_string();
    assert!(refused.contains("came after 2 parts"), "{refused}");
    c.apply(part(2, 0, 1)).unwrap();
    assert!(
        c.apply(part(1, 2, 3)).is_err(),
        "another one took its place"
    );
}

#[test]
fn a_token_that_is_here_is_not_replaced_and_one_that_is_not_comes_back() {
    let mut c = Cluster::of(1);
    let put = |hash: u8, token: &str| Command::PutApiToken {
        token: [hash; 32],
        name: name(token),
        access: Access::Read,
        expires: None,
    };
    c.apply(put(1, "ci")).unwrap();
    c.apply(put(2, "looker")).unwrap();
    let backup = c.state.backup();
    let mut other = Cluster::of(1);
    other.apply(put(9, "ci")).unwrap();
    other.restore(&backup, 100).unwrap();
    let named = |(hash, token): (&[u8; 32], &ApiToken)| (hash[0], token.name.to_string());
    let tokens: Vec<_> = other.state.api_tokens().iter().map(named).collect();
    assert_eq!(tokens, [(2, "looker".to_string()), (9, "ci".to_string())]);
}

#[test]
fn what_was_said_of_nodes_comes_back_and_the_restore_is_one_event() {
    let mut c = Cluster::of(2);
    c.pool("web", &["10.0.0.1-10.0.0.3"]).unwrap();
    c.vip("www", v4()).unwrap();
    let set = Command::SetNode {
        node: name("n2"),
        weight: Some(Weight::new(50).unwrap()),
        labels: [("rack".to_string(), Some("b".to_string()))].into(),
        drained: Some(true),
        expect: Expect::Any,
    };
    c.apply(set).unwrap();
    let mut other = Cluster::of(2);
    other.restore(&c.state.backup(), 100).unwrap();
    let node = other.state.node_named(&name("n2")).unwrap();
    assert_eq!(
        (node.weight, node.drained),
        (Weight::new(50).unwrap(), true)
    );
    assert_eq!(node.set_labels["rack"], "b");
    let told = other.state.events().iter();
    let told = told.filter(|event| {
        matches!(
            event.what,
            What::Restored {
                pools: 1,
                vips: 1,
                addresses: 1,
                ..
            }
        )
    });
    assert_eq!(told.count(), 1);
}
