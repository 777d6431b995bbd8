//! Addresses that were chosen for VIPs and that somebody outside has: the VIPs are given others, within bounds.

use super::*;
use crate::event::What;
use crate::pool::PoolSpec;
use crate::proof::Rule;

/// For how long an address is set aside.
const A_WHILE: u64 = 10 * 60 * 1000;

/// Three nodes, a pool of these addresses, and a VIP that takes what it is given: it has the first of them.
fn site(blocks: &[&str]) -> Cluster {
    let mut c = Cluster::of(3);
    c.pool("web", blocks).unwrap();
    c.vip("www", v4()).unwrap();
    c
}

impl Cluster {
    fn only_address(&self, vip: &str) -> String {
        let addresses = &self.state.vips()[&name(vip)].addresses;
        assert_eq!(addresses.len(), 1, "{addresses:?}");
        addresses[0].to_string()
    }

    /// All nodes ask, and somebody outside has what is `taken`; until nobody has anything new to tell.
    fn all_ask(&mut self, rule: Rule, taken: impl Fn(&IpAddr) -> bool) {
        for round in 0.. {
            assert!(round < 100, "it goes on for ever");
            let before = self.state.allocations().clone();
            for node in self.ids() {
                self.asks(node, rule, &taken).unwrap();
            }
            self.release_all();
            if *self.state.allocations() == before {
                return;
            }
        }
    }

    fn aside(&self, pool: &str) -> Vec<String> {
        let pool = name(pool);
        let aside = self.state.set_aside(&pool);
        aside.map(|(address, _)| address.to_string()).collect()
    }

    fn available(&self) -> u128 {
        let pool = &self.state.pools()[&name("web")];
        let usage = self.state.usage(pool, crate::block::Family::V4);
        usage.available.unwrap()
    }

    fn ripen_after(&mut self, ms: u64) {
        let at = self.state.ripe_at().unwrap().0.max(ms);
        self.apply_at(Millis(at), Command::Ripen).unwrap();
    }
}

fn is(address: &'static str) -> impl Fn(&IpAddr) -> bool {
    move |it| *it == ip(address)
}

#[test]
fn a_vip_whose_chosen_address_is_in_use_is_given_another_and_that_one_is_set_aside() {
    let mut c = site(&["10.0.0.10-10.0.0.19"]);
    assert_eq!(c.only_address("www"), "10.0.0.10");
    c.all_ask(Rule::Refuse, is("10.0.0.10"));
    assert_eq!(c.only_address("www"), "10.0.0.11");
    assert!(
        c.state.allocations()[&ip("10.0.0.11")]
            .proof
            .lets_announce()
    );
    let told = c.state.events().iter().map(|event| &event.what);
    let told = told.filter(|what| matches!(what, What::SetAside { .. }));
    let told: Vec<String> = told.map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("VIP www is given another"), "{told:?}");

    // Shown with who has it, and given to nobody.
    let web = name("web");
    let (address, aside) = c.state.set_aside(&web).next().unwrap();
    assert_eq!(address, ip("10.0.0.10"));
    assert!(
        aside
            .in_use
            .as_ref()
            .unwrap()
            .to_string()
            .contains("heard on eth0")
    );
    assert_eq!(c.available(), 8);
    c.vip("next", v4()).unwrap();
    assert_eq!(c.only_address("next"), "10.0.0.12");

    // After a while it is offered again, and asked about again.
    c.ripen_after(A_WHILE);
    assert_eq!(c.aside("web"), [] as [&str; 0]);
    c.vip("last", v4()).unwrap();
    assert_eq!(c.only_address("last"), "10.0.0.10");
}

#[test]
fn who_named_the_address_or_may_share_it_keeps_it_and_waits() {
    let named = VipSpec {
        addresses: vec![ip("10.0.0.15")],
        ..v4()
    };
    let shares = VipSpec {
        sharing_key: Some("key".into()),
        ..v4()
    };
    for spec in [named, shares] {
        let mut c = Cluster::of(3);
        c.pool("web", &["10.0.0.10-10.0.0.19"]).unwrap();
        c.vip("www", spec).unwrap();
        let had = c.only_address("www");
        c.all_ask(Rule::Refuse, |_| true);
        assert_eq!(c.only_address("www"), had);
        assert!(!c.state.allocations()[&ip(&had)].proof.lets_announce());
        assert_eq!(c.aside("web"), [] as [&str; 0]);
    }
}

#[test]
fn who_announces_it_all_the_same_keeps_it() {
    let mut c = site(&["10.0.0.10-10.0.0.19"]);
    c.all_ask(Rule::Warn, |_| true);
    assert_eq!(c.only_address("www"), "10.0.0.10");
    assert_eq!(c.aside("web"), [] as [&str; 0]);
}

#[test]
fn who_answers_for_everything_takes_eight_addresses_of_a_pool_at_a_time_and_a_quarter_of_a_small_one()
 {
    for (block, most) in [
        ("10.0.0.0/24", 8),
        ("10.0.0.0-10.0.0.15", 4),
        ("10.0.0.0-10.0.0.2", 1),
    ] {
        let mut c = site(&[block]);
        c.vip("other", v4()).ok();
        let free = c.available();
        c.all_ask(Rule::Refuse, |_| true);
        let aside = c.aside("web").len();
        assert_eq!(aside, most.min(free as usize), "{block}");
        assert_eq!(c.available(), free - aside as u128, "{block}");
        let vips = c.state.vips().values();
        assert!(
            vips.clone().all(|vip| vip.satisfied()),
            "they keep one each, and wait"
        );
    }
}

#[test]
fn once_there_is_room_again_those_that_had_to_wait_are_given_others() {
    let mut c = site(&["10.0.0.0/24"]);
    c.all_ask(Rule::Refuse, |_| true);
    let stuck = c.only_address("www");
    assert!(!c.state.allocations()[&ip(&stuck)].proof.lets_announce());
    c.ripen_after(2 * A_WHILE);
    assert_eq!(
        c.aside("web"),
        [] as [&str; 0],
        "those of its own are let go of first"
    );
    c.all_ask(Rule::Refuse, is("10.0.0.8"));
    let now = c.only_address("www");
    assert_ne!(now, stuck);
    assert!(c.state.allocations()[&ip(&now)].proof.lets_announce());
}

#[test]
fn those_who_take_the_lowest_addresses_do_not_keep_a_vip_from_those_beyond() {
    for (block, taken) in [("10.0.0.0-10.0.0.3", 2), ("10.0.0.0/24", 20)] {
        let mut c = site(&[block]);
        let others = |it: &IpAddr| matches!(it, IpAddr::V4(it) if it.octets()[3] < taken);
        for round in 1.. {
            c.all_ask(Rule::Refuse, others);
            let has = ip(&c.only_address("www"));
            if c.state.allocations()[&has].proof.lets_announce() {
                break;
            }
            assert!(round < 5, "{block}: it has {has} again");
            c.ripen_after(2 * round * A_WHILE);
        }
    }
}

#[test]
fn it_need_not_wait_for_what_was_set_aside_when_another_address_becomes_free() {
    let mut c = site(&["10.0.0.10-10.0.0.13"]);
    for other in ["a", "b", "c"] {
        c.vip(other, v4()).unwrap();
    }
    c.all_ask(Rule::Refuse, is("10.0.0.10"));
    assert_eq!(c.only_address("www"), "10.0.0.10", "there is no other");
    let delete = Command::DeleteVip {
        name: name("b"),
        expect: Expect::Any,
    };
    c.apply(delete).unwrap();
    c.release_all();
    c.all_ask(Rule::Refuse, is("10.0.0.10"));
    assert_eq!(c.only_address("www"), "10.0.0.12");
}

#[test]
fn the_only_address_of_a_pool_is_not_set_aside() {
    let mut c = site(&["10.0.0.10"]);
    c.all_ask(Rule::Refuse, |_| true);
    let delete = Command::DeleteVip {
        name: name("www"),
        expect: Expect::Any,
    };
    c.apply(delete).unwrap();
    c.release_all();
    c.vip("www", v4()).unwrap();
    assert_eq!(c.only_address("www"), "10.0.0.10");
}

#[test]
fn a_pools_long_rest_is_not_that_of_what_was_never_announced() {
    let mut c = Cluster::of(3);
    let spec = PoolSpec {
        blocks: vec![crate::block::Block::parse("10.0.0.10-10.0.0.19").unwrap()],
        cooldown: Millis(100 * A_WHILE),
        ..PoolSpec::default()
    };
    let put = Command::PutPool {
        name: name("web"),
        labels: Labels::new(),
        spec,
        expect: Expect::Any,
        care: Default::default(),
    };
    c.apply(put).unwrap();
    c.vip("www", v4()).unwrap();
    c.all_ask(Rule::Refuse, is("10.0.0.10"));
    assert_eq!(c.aside("web"), ["10.0.0.10"]);
    c.ripen_after(2 * A_WHILE);
    assert_eq!(c.aside("web"), [] as [&str; 0]);
}

#[test]
fn where_there_is_no_other_address_it_stays_and_waits() {
    let mut c = site(&["10.0.0.10"]);
    c.all_ask(Rule::Refuse, |_| true);
    assert_eq!(c.only_address("www"), "10.0.0.10");
    // Somebody who lets go of it has it announced.
    c.all_ask(Rule::Refuse, |_| false);
    assert!(
        c.state.allocations()[&ip("10.0.0.10")]
            .proof
            .lets_announce()
    );
}

#[test]
fn who_names_an_address_that_is_set_aside_is_given_it() {
    let mut c = site(&["10.0.0.10-10.0.0.19"]);
    c.all_ask(Rule::Refuse, is("10.0.0.10"));
    let spec = VipSpec {
        addresses: vec![ip("10.0.0.10")],
        ..v4()
    };
    c.vip("mine", spec).unwrap();
    assert_eq!(c.only_address("mine"), "10.0.0.10");
    assert_eq!(c.aside("web"), [] as [&str; 0]);
}

#[test]
fn what_never_was_announced_does_not_come_back_though_its_vip_names_it_for_a_while() {
    let mut c = site(&["10.0.0.10-10.0.0.19"]);
    c.all_ask(Rule::Refuse, is("10.0.0.10"));
    let spec = VipSpec {
        addresses: vec![ip("10.0.0.10")],
        ..v4()
    };
    c.vip("www", spec).unwrap();
    c.all_ask(Rule::Refuse, is("10.0.0.10"));
    assert_eq!(c.only_address("www"), "10.0.0.10");
    c.vip("www", v4()).unwrap();
    c.all_ask(Rule::Refuse, is("10.0.0.10"));
    assert_eq!(c.only_address("www"), "10.0.0.11");
}

#[test]
fn a_pool_that_lets_vips_come_back_to_their_addresses_does_not_give_them_those_in_use() {
    let mut c = Cluster::of(3);
    let spec = PoolSpec {
        blocks: vec![crate::block::Block::parse("10.0.0.10-10.0.0.19").unwrap()],
        cooldown: Millis(1000),
        reclaim: true,
        ..PoolSpec::default()
    };
    let put = Command::PutPool {
        name: name("web"),
        labels: Labels::new(),
        spec: spec.clone(),
        expect: Expect::Any,
        care: Default::default(),
    };
    c.apply(put).unwrap();
    c.vip("www", v4()).unwrap();
    c.all_ask(Rule::Refuse, is("10.0.0.10"));
    assert_eq!(c.only_address("www"), "10.0.0.11");
    // That is not the pool's own rest, which a change of the pool ends.
    let changed = Command::PutPool {
        name: name("web"),
        labels: Labels::new(),
        spec: PoolSpec {
            cooldown: Millis(0),
            ..spec
        },
        expect: Expect::Any,
        care: Default::default(),
    };
    c.apply(changed).unwrap();
    assert_eq!(c.aside("web"), ["10.0.0.10"]);
    let restored = State::from_bytes(&c.state.to_bytes()).unwrap();
    assert_eq!(restored.set_aside(&name("web")).count(), 1);
    restored.check().unwrap();
}

#[test]
fn what_a_restore_gave_back_is_kept_whoever_answers_for_it() {
    let mut was = site(&["10.0.0.10-10.0.0.19"]);
    was.all_ask(Rule::Refuse, |_| false);
    let backup = was.state.backup();
    let mut here = was;
    here.delete("www");
    for mut c in [here, Cluster::of(3)] {
        c.restore(&backup, 1000).unwrap();
        c.state = State::from_bytes(&c.state.to_bytes()).unwrap();
        c.all_ask(Rule::Refuse, is("10.0.0.10"));
        assert_eq!(c.only_address("www"), "10.0.0.10");
        let proof = |c: &Cluster| c.state.allocations()[&ip("10.0.0.10")].proof.clone();
        assert!(proof(&c).refused_for().is_some(), "it waits");
        // What is new is exchanged as ever, and when that is over, what came back is not.
        c.vip("new", v4()).unwrap();
        c.all_ask(Rule::Refuse, |it| *it <= ip("10.0.0.11"));
        assert_eq!(c.only_address("new"), "10.0.0.12");
        assert_eq!(c.aside("web"), ["10.0.0.11"]);
        c.ripen_after(A_WHILE);
        assert_eq!(c.only_address("www"), "10.0.0.10");
        c.all_ask(Rule::Refuse, |_| false);
        assert!(proof(&c).lets_announce());
    }
}

#[test]
fn who_came_back_to_his_address_keeps_it_and_it_has_its_pools_rest_whoever_answers_for_it() {
    let day = 24 * 60 * 60 * 1000;
    let mut c = Cluster::of(3);
    let spec = PoolSpec {
        blocks: vec![crate::block::Block::parse("10.0.0.10-10.0.0.19").unwrap()],
        cooldown: Millis(day),
        reclaim: true,
        ..PoolSpec::default()
    };
    let put = Command::PutPool {
        name: name("web"),
        labels: Labels::new(),
        spec,
        expect: Expect::Any,
        care: Default::default(),
    };
    c.apply(put).unwrap();
    c.vip("www", v4()).unwrap();
    c.all_ask(Rule::Refuse, |_| false);
    c.delete("www");
    c.vip("www", v4()).unwrap();
    c.all_ask(Rule::Refuse, is("10.0.0.10"));
    assert_eq!(c.only_address("www"), "10.0.0.10");

    // Nor does it lose it by coming back before its holder has let go.
    let delete = Command::DeleteVip {
        name: name("www"),
        expect: Expect::Any,
    };
    c.apply(delete).unwrap();
    c.vip("www", v4()).unwrap();
    c.release_all();
    assert_eq!(c.only_address("www"), "10.0.0.10");

    c.delete("www");
    assert_eq!(c.aside("web"), [] as [&str; 0]);
    assert!(c.state.ripe_at().unwrap() > Millis(day));
    let named = VipSpec {
        addresses: vec![ip("10.0.0.10")],
        ..v4()
    };
    assert_eq!(c.waits("other", named), "cooling_down");
}

#[test]
fn of_two_families_only_the_one_in_use_is_replaced() {
    let mut c = Cluster::of(3);
    c.pool("web", &["10.0.0.10-10.0.0.19", "2001:db8::10-2001:db8::19"])
        .unwrap();
    let spec = VipSpec {
        families: Families::RequireDual,
        ..VipSpec::default()
    };
    c.vip("www", spec).unwrap();
    let had = c.state.vips()[&name("www")].addresses.clone();
    c.all_ask(Rule::Refuse, is("10.0.0.10"));
    let has = &c.state.vips()[&name("www")].addresses;
    assert_eq!((has[0], has[1]), (ip("10.0.0.11"), had[1]));
}
