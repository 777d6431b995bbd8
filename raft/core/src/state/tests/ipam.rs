//! Addresses: pools, requests, waiting. The behaviours are those that Cilium, MetalLB and PureLB test, and some that
//! their users miss.

use super::*;
use crate::pool::Care;
use crate::selector::{NAMESPACE_LABEL, Selector};

fn v4() -> VipSpec {
    VipSpec {
        families: Families::Ipv4,
        ..VipSpec::default()
    }
}

fn asks(list: &[&str]) -> VipSpec {
    VipSpec {
        addresses: list.iter().map(|a| ip(a)).collect(),
        ..VipSpec::default()
    }
}

fn of(pool: &str, spec: VipSpec) -> VipSpec {
    VipSpec {
        pool: Some(name(pool)),
        ..spec
    }
}

impl Cluster {
    fn set_pool(&mut self, pool: &str, blocks: &[&str], change: impl FnOnce(&mut PoolSpec)) {
        let blocks = blocks.iter().map(|b| Block::parse(b).unwrap()).collect();
        let mut spec = PoolSpec {
            blocks,
            ..PoolSpec::default()
        };
        change(&mut spec);
        self.put_pool(pool, spec, Care::default()).unwrap();
    }

    fn put_pool(&mut self, pool: &str, spec: PoolSpec, care: Care) -> Outcome {
        self.apply(Command::PutPool {
            name: name(pool),
            labels: Labels::new(),
            spec,
            expect: Expect::Any,
            care,
        })
    }

    fn delete_pool(&mut self, pool: &str, force: bool) -> Outcome {
        self.apply(Command::DeletePool {
            name: name(pool),
            expect: Expect::Any,
            force,
        })
    }

    pub(super) fn delete(&mut self, vip: &str) {
        self.apply(Command::DeleteVip {
            name: name(vip),
            expect: Expect::Any,
        })
        .unwrap();
        self.release_all();
    }

    fn labelled(&mut self, vip: &str, labels: &[(&str, &str)], spec: VipSpec) {
        let labels = labels
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        self.apply(Command::PutVip {
            name: name(vip),
            labels,
            spec,
            expect: Expect::Any,
        })
        .unwrap();
    }

    fn counts(&self, pool: &str, family: Family) -> (u128, u128, u128) {
        let usage = self.state.usage(&self.state.pools()[&name(pool)], family);
        (usage.total.unwrap(), usage.used, usage.available.unwrap())
    }
}

fn label(key: &str, value: &str) -> Option<Selector> {
    Some(Selector {
        match_labels: [(key.to_string(), value.to_string())].into(),
        ..Selector::default()
    })
}

#[test]
fn a_vip_that_no_pool_can_serve_waits_with_the_reason_and_is_served_once_one_can() {
    let mut c = Cluster::of(1);
    assert_eq!(c.waits("a", v4()), "no_pool");
    c.set_pool("web", &["10.0.0.7"], |_| {});
    assert_eq!(
        (c.addresses("a"), c.waiting_for("a")),
        (vec!["10.0.0.7".to_string()], None)
    );
    assert_eq!(c.holder("10.0.0.7"), Some(NodeId(1)));
}

#[test]
fn who_waits_longest_gets_what_is_freed() {
    let mut c = Cluster::of(1);
    c.set_pool("web", &["10.0.0.7"], |_| {});
    c.vip("a", v4()).unwrap();
    assert_eq!(c.waits("z", v4()), "out_of_ips");
    assert_eq!(c.waits("b", v4()), "out_of_ips");
    // A change of what it asks for does not put it behind the others.
    c.labelled("z", &[("app", "web")], v4());
    c.delete("a");
    assert_eq!(c.addresses("z"), ["10.0.0.7"]);
    assert_eq!(c.waiting_for("b"), Some("out_of_ips"));
    c.set_pool("web", &["10.0.0.7-10.0.0.8"], |_| {});
    assert_eq!(c.addresses("b"), ["10.0.0.8"]);
}

#[test]
fn a_29_that_keeps_its_first_and_last_gives_six_and_keeps_what_it_has_given() {
    let mut c = Cluster::of(1);
    c.set_pool("web", &["10.0.0.0/29"], |pool| {
        pool.allow_first_last = false
    });
    assert_eq!(c.counts("web", Family::V4), (6, 0, 6));
    assert_eq!(c.waits("first", asks(&["10.0.0.0"])), "reserved");
    c.set_pool("web", &["10.0.0.0/29"], |_| {});
    assert_eq!(c.addresses("first"), ["10.0.0.0"], "it waited for that");
    assert_eq!(c.counts("web", Family::V4), (8, 1, 7));
    c.set_pool("web", &["10.0.0.0/29"], |pool| {
        pool.allow_first_last = false
    });
    assert_eq!(
        c.addresses("first"),
        ["10.0.0.0"],
        "what is given is not revoked"
    );
    assert_eq!(c.waits("last", asks(&["10.0.0.7"])), "reserved");
}

#[test]
fn of_three_addresses_asked_for_two_are_given_and_the_third_says_why_not() {
    let mut c = Cluster::of(1);
    c.set_pool("web", &["10.0.0.0/29"], |_| {});
    c.vip("a", asks(&["10.0.0.2"])).unwrap();
    assert_eq!(
        c.waits("b", asks(&["10.0.0.1", "10.0.0.2", "10.0.0.3"])),
        "already_allocated"
    );
    assert_eq!(c.addresses("b"), ["10.0.0.1", "10.0.0.3"]);
    assert!(!c.state.vips()[&name("b")].satisfied());
    c.delete("a");
    assert_eq!(c.addresses("b"), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    c.vip("b", asks(&["10.0.0.3"])).unwrap();
    c.release_all();
    assert_eq!(
        c.addresses("b"),
        ["10.0.0.3"],
        "what it no longer lists is freed"
    );
    assert_eq!(c.counts("web", Family::V4), (8, 1, 7));
    c.vip("b", asks(&["10.0.0.3"])).unwrap();
    assert_eq!(
        c.addresses("b"),
        ["10.0.0.3"],
        "to ask again changes nothing"
    );
}

#[test]
fn each_reason_why_an_address_is_not_given_is_told() {
    let mut c = Cluster::of(1);
    c.set_pool("web", &["10.0.0.0/30", "fd00::1"], |_| {});
    c.set_pool("off", &["10.0.1.0/30"], |pool| pool.disabled = true);
    c.set_pool("own", &["10.0.2.0/30"], |pool| {
        pool.selector = label("app", "db")
    });
    c.set_pool("late", &["10.0.0.2/31", "10.0.3.0/30"], |_| {});
    let told = [
        (asks(&["10.9.9.9"]), "not_in_any_pool"),
        (of("web", asks(&["10.0.1.1"])), "not_in_any_pool"),
        (asks(&["10.0.1.1"]), "pool_disabled"),
        (asks(&["10.0.2.1"]), "pool_selector_mismatch"),
        (asks(&["10.0.3.1"]), "pool_conflicting"),
        (of("off", v4()), "pool_disabled"),
        (of("own", v4()), "pool_selector_mismatch"),
        (of("late", v4()), "pool_conflicting"),
        (of("none", v4()), "no_pool"),
        (
            of(
                "own",
                VipSpec {
                    families: Families::Ipv6,
                    ..VipSpec::default()
                },
            ),
            "no_pool",
        ),
    ];
    for (spec, reason) in told {
        assert_eq!(c.waits("a", spec.clone()), reason, "{spec:?}");
        assert!(c.addresses("a").is_empty());
    }
}

#[test]
fn of_two_pools_that_overlap_the_younger_one_waits_until_that_ends() {
    let mut c = Cluster::of(1);
    c.set_pool("old", &["10.0.0.0/24"], |_| {});
    c.set_pool("new", &["10.0.1.0/24"], |_| {});
    c.vip("a", of("new", v4())).unwrap();
    c.set_pool("new", &["10.0.1.0/24", "10.0.0.128/25"], |_| {});
    let clash = c.state.clash(&name("new")).unwrap();
    let said = format!("{} {} {}", clash.block, clash.other, clash.pool);
    assert_eq!(said, "10.0.0.128/25 10.0.0.0/24 old");
    assert!(c.state.clash(&name("old")).is_none());
    assert_eq!(c.addresses("a"), ["10.0.1.0"], "what it has given stays");
    assert_eq!(c.waits("b", of("new", v4())), "pool_conflicting");
    c.set_pool("old", &["10.0.0.0/25"], |_| {});
    assert!(c.state.clash(&name("new")).is_none());
    assert_eq!(c.addresses("b"), ["10.0.0.128"]);
}

#[test]
fn a_pool_whose_own_blocks_overlap_waits_too_and_strict_writes_are_refused() {
    let mut c = Cluster::of(1);
    c.set_pool("web", &["10.0.0.0/24", "10.0.0.9"], |_| {});
    assert_eq!(c.state.clash(&name("web")).unwrap().pool, name("web"));
    let spec = PoolSpec {
        blocks: vec![Block::parse("10.0.0.0/16").unwrap()],
        ..PoolSpec::default()
    };
    let strict = Care {
        strict: true,
        force: false,
    };
    assert_eq!(
        Cluster::refusal(c.put_pool("more", spec.clone(), strict)),
        "overlap"
    );
    c.put_pool("more", spec, Care::default()).unwrap();
}

#[test]
fn a_disabled_pool_keeps_what_it_has_given_and_conflicts_and_goes_on_when_enabled() {
    let mut c = Cluster::of(1);
    c.set_pool("web", &["10.0.0.0/30"], |_| {});
    c.vip("a", v4()).unwrap();
    c.set_pool("web", &["10.0.0.0/30"], |pool| pool.disabled = true);
    assert_eq!(c.addresses("a"), ["10.0.0.0"]);
    assert_eq!(c.waits("b", v4()), "pool_disabled");
    c.set_pool("other", &["10.0.0.0/24"], |_| {});
    assert!(c.state.clash(&name("other")).is_some());
    c.set_pool("web", &["10.0.0.0/30"], |_| {});
    assert_eq!(c.addresses("b"), ["10.0.0.1"]);
}

#[test]
fn a_pool_serves_whom_it_selects_by_label_name_or_namespace_and_nobody_can_pretend() {
    let mut c = Cluster::of(1);
    c.set_pool("db", &["10.0.0.0/30"], |pool| {
        pool.selector = label("app", "db")
    });
    c.set_pool("blue", &["10.0.1.0/30"], |pool| {
        pool.selector = label(NAMESPACE_LABEL, "blue");
    });
    c.labelled("a", &[("app", "db")], v4());
    assert_eq!(c.addresses("a"), ["10.0.0.0"]);
    c.labelled("b", &[(NAMESPACE_LABEL, "blue")], v4());
    assert_eq!(c.waiting_for("b"), Some("pool_selector_mismatch"));
    let blue = VipSpec {
        namespace: Some(name("blue")),
        ..v4()
    };
    c.labelled("b", &[], blue);
    assert_eq!(c.addresses("b"), ["10.0.1.0"]);
}

#[test]
fn a_pool_s_changed_selector_revokes_nothing_and_a_vip_s_changed_label_does() {
    let mut c = Cluster::of(1);
    c.set_pool("db", &["10.0.0.0/30"], |pool| {
        pool.selector = label("app", "db")
    });
    c.labelled("a", &[("app", "db")], v4());
    c.set_pool("db", &["10.0.0.0/30"], |pool| {
        pool.selector = label("app", "sql")
    });
    assert_eq!(c.addresses("a"), ["10.0.0.0"]);
    c.labelled("a", &[("app", "web")], v4());
    assert_eq!(c.waiting_for("a"), Some("pool_selector_mismatch"));
    assert!(c.addresses("a").is_empty());
    c.labelled("a", &[("app", "sql")], v4());
    c.release_all();
    assert_eq!(c.addresses("a").len(), 1);
}

#[test]
fn pools_are_tried_by_priority_then_those_with_a_selector_then_by_name() {
    let mut c = Cluster::of(1);
    c.set_pool("a-general", &["10.0.0.0"], |_| {});
    c.set_pool("b-general", &["10.0.1.0"], |_| {});
    c.set_pool("c-pinned", &["10.0.2.0"], |pool| {
        pool.selector = label("app", "db")
    });
    c.set_pool("d-first", &["10.0.3.0"], |pool| pool.priority = -1);
    c.set_pool("e-explicit", &["10.0.4.0"], |pool| {
        pool.priority = -2;
        pool.auto_assign = false;
    });
    for (vip, address) in [
        ("1", "10.0.3.0"),
        ("2", "10.0.2.0"),
        ("3", "10.0.0.0"),
        ("4", "10.0.1.0"),
    ] {
        c.labelled(vip, &[("app", "db")], v4());
        assert_eq!(c.addresses(vip), [address]);
    }
    c.labelled("5", &[], v4());
    assert_eq!(c.waiting_for("5"), Some("out_of_ips"));
    c.vip("6", of("e-explicit", v4())).unwrap();
    assert_eq!(c.addresses("6"), ["10.0.4.0"]);
}

#[test]
fn families_change_and_what_stays_is_kept() {
    let mut c = Cluster::of(1);
    c.set_pool("web", &["10.0.0.0/30", "fd00::10-fd00::1f"], |_| {});
    let families = |families| VipSpec {
        families,
        ..VipSpec::default()
    };
    for (wanted, given) in [
        (Families::Ipv4, vec!["10.0.0.0"]),
        (Families::RequireDual, vec!["10.0.0.0", "fd00::10"]),
        (Families::Ipv6, vec!["fd00::10"]),
        (Families::PreferDual, vec!["10.0.0.0", "fd00::10"]),
        (Families::Ipv4, vec!["10.0.0.0"]),
    ] {
        c.vip("a", families(wanted)).unwrap();
        c.release_all();
        assert_eq!(c.addresses("a"), given, "{wanted:?}");
    }
}

#[test]
fn one_who_requires_both_families_gets_both_or_nothing_and_one_who_prefers_them_gets_the_other_later()
 {
    let mut c = Cluster::of(1);
    c.set_pool("web", &["10.0.0.0/30"], |_| {});
    assert_eq!(c.waits("a", dual()), "no_pool");
    assert!(c.addresses("a").is_empty());
    c.vip("b", VipSpec::default()).unwrap();
    assert_eq!(c.addresses("b"), ["10.0.0.0"]);
    assert!(c.state.vips()[&name("b")].satisfied());
    c.set_pool("six", &["fd00::1-fd00::2"], |_| {});
    assert_eq!(c.addresses("a"), ["10.0.0.1", "fd00::1"]);
    assert_eq!(c.addresses("b"), ["10.0.0.0", "fd00::2"]);
}

#[test]
fn a_vip_lacks_what_it_needs_since_it_lost_that_or_asked_for_it_not_since_it_wanted_more() {
    let mut c = Cluster::of(2);
    let since = |c: &Cluster| c.state.vips()[&name("www")].unsatisfied_since;
    let now = |c: &Cluster| Some(Millis(c.state.applied() * 10));
    let prefers = VipSpec {
        families: Families::PreferDual,
        ..VipSpec::default()
    };
    c.set_pool("four", &["10.0.0.0/28"], |_| {});
    c.vip("www", prefers).unwrap();
    assert_eq!((c.waiting_for("www"), since(&c)), (Some("no_pool"), None));
    c.delete_pool("four", true).unwrap();
    let lost = now(&c);
    assert_eq!(since(&c), lost);
    c.set_pool("four", &["10.0.0.0/28"], |spec| spec.disabled = true);
    assert_eq!(c.waiting_for("www"), Some("pool_disabled"));
    assert_eq!(since(&c), lost, "for another reason");
    c.set_pool("four", &["10.0.0.0/28"], |_| {});
    assert_eq!((c.waiting_for("www"), since(&c)), (Some("no_pool"), None));
    c.vip("www", dual()).unwrap();
    let asked = now(&c);
    assert_eq!(since(&c), asked);
    c.vip("www", asks(&["fd00::1"])).unwrap();
    assert_eq!(since(&c), asked, "whatever it asks for instead");
}

#[test]
fn a_pool_is_not_shrunk_or_deleted_under_its_allocations_except_by_force() {
    let mut c = Cluster::of(1);
    c.set_pool("web", &["10.0.0.0/30"], |_| {});
    c.vip("a", asks(&["10.0.0.1"])).unwrap();
    c.vip("b", v4()).unwrap();
    let smaller = PoolSpec {
        blocks: vec![Block::parse("10.0.0.2/31").unwrap()],
        ..PoolSpec::default()
    };
    let refused = c
        .put_pool("web", smaller.clone(), Care::default())
        .unwrap_err();
    assert!(
        refused.to_string().contains("10.0.0.0 (b) 10.0.0.1 (a)"),
        "{refused}"
    );
    assert_eq!(Cluster::refusal(c.delete_pool("web", false)), "pool_in_use");
    let force = Care {
        strict: false,
        force: true,
    };
    c.put_pool("web", smaller, force).unwrap();
    c.release_all();
    assert_eq!(c.addresses("b"), ["10.0.0.2"], "renumbered");
    assert_eq!(
        c.waiting_for("a"),
        Some("not_in_any_pool"),
        "it asked for that one"
    );
    c.delete_pool("web", true).unwrap();
    c.release_all();
    assert_eq!(c.waiting_for("b"), Some("no_pool"));
    assert!(c.state.allocations().is_empty());
}

#[test]
fn a_pool_is_renamed_or_split_without_renumbering() {
    let mut c = Cluster::of(1);
    c.set_pool("web", &["10.0.0.0/30"], |_| {});
    c.vip("a", v4()).unwrap();
    c.set_pool("www", &["10.0.0.0/31"], |_| {});
    c.delete_pool("web", false).unwrap();
    assert_eq!(c.addresses("a"), ["10.0.0.0"]);
    assert_eq!(c.state.allocations()[&ip("10.0.0.0")].pool, name("www"));
    assert_eq!(c.counts("www", Family::V4), (2, 1, 1));
}

#[test]
fn an_address_cools_down_before_anybody_else_is_given_it_and_who_returns_gets_it_back() {
    let mut c = Cluster::of(1);
    let cooling = |reclaim| {
        move |pool: &mut PoolSpec| {
            pool.cooldown = Millis(1000);
            pool.reclaim = reclaim;
        }
    };
    c.set_pool("web", &["10.0.0.0/31"], cooling(true));
    c.vip("a", v4()).unwrap();
    c.vip("b", v4()).unwrap();
    c.delete("a");
    assert_eq!(c.counts("web", Family::V4), (2, 1, 0));
    assert_eq!(c.waits("c", asks(&["10.0.0.0"])), "cooling_down");
    c.vip("a", v4()).unwrap();
    assert_eq!(c.addresses("a"), ["10.0.0.0"], "its own again");
    c.delete("a");
    let ripe = c.state.ripe_at().unwrap();
    c.apply(Command::Ripen).unwrap();
    assert!(c.addresses("c").is_empty(), "not yet");
    c.apply_at(ripe, Command::Ripen).unwrap();
    assert_eq!(c.addresses("c"), ["10.0.0.0"]);
    assert_eq!(c.state.ripe_at(), None);
    c.delete("b");
    c.set_pool("web", &["10.0.0.0/31"], |_| {});
    assert_eq!(
        c.counts("web", Family::V4),
        (2, 1, 1),
        "a pool that asks for it no more"
    );
}

#[test]
fn a_pool_of_all_private_addresses_and_a_v6_prefix_of_any_size_cost_nothing_and_count_exactly() {
    let mut c = Cluster::of(1);
    c.set_pool("web", &["10.0.0.0/8", "2001:db8::/32"], |_| {});
    c.vip("a", dual()).unwrap();
    assert_eq!(c.counts("web", Family::V4).0, 1 << 24);
    assert_eq!(c.counts("web", Family::V6), (1 << 96, 1, (1 << 96) - 1));
    assert!(c.state.to_bytes().len() < 4000);
}
