//! Failback: who returns, when, and who does not.

use super::super::failback::SUPPORTED;
use super::*;

const DELAY: u64 = 5000;

fn cluster(failback: Failback) -> Cluster {
    let mut c = Cluster::of(3);
    c.pool("web", &["10.0.0.0/24"]).unwrap();
    c.vip("www", VipSpec { failback, ..v4() }).unwrap();
    c.move_to("www", "n2").unwrap();
    c.release_all();
    assert_eq!(c.at("www").unwrap(), "n2");
    c
}

fn after(ms: u64) -> Failback {
    Failback::After { delay: Millis(ms) }
}

/// Lets what is due return.
fn fail_back(c: &mut Cluster) {
    c.pass(SUPPORTED.0);
    c.apply(Command::FailBack).unwrap();
    c.release_all();
}

fn now(c: &Cluster) -> Millis {
    Millis((c.state.applied() + 1) * 10)
}

#[test]
fn never_stays_where_it_failed_over_to() {
    let mut c = cluster(Failback::Never);
    c.down(c.id("n2")).unwrap();
    let there = c.at("www");
    c.up(c.id("n2"));
    assert_eq!(c.state.failback_due(), None);
    c.apply(Command::FailBack).unwrap();
    c.release_all();
    assert_eq!(c.at("www"), there);
}

#[test]
fn always_returns_as_soon_as_its_home_had_time_to_be_supported() {
    let mut c = cluster(after(0));
    c.down(c.id("n2")).unwrap();
    assert_ne!(c.at("www").unwrap(), "n2");
    c.up(c.id("n2"));
    c.release_all();
    assert_ne!(c.at("www").unwrap(), "n2", "nobody would answer yet");
    let due = c.state.failback_due().unwrap();
    let up = c.state.node(c.id("n2")).unwrap().steady_since;
    assert_eq!(due.0, up.0 + SUPPORTED.0);
    fail_back(&mut c);
    assert_eq!(c.at("www").unwrap(), "n2");
}

#[test]
fn after_a_delay_returns_once_its_home_was_up_for_that_long() {
    let mut c = cluster(after(DELAY));
    c.down(c.id("n2")).unwrap();
    assert_eq!(c.state.failback_due(), None, "nowhere to return to");
    c.pass(5000);
    c.up(c.id("n2"));
    let due = c.state.failback_due().unwrap();
    assert_eq!(
        due.0,
        c.state.node(c.id("n2")).unwrap().steady_since.0 + DELAY
    );
    c.apply(Command::FailBack).unwrap();
    c.release_all();
    assert_ne!(c.at("www").unwrap(), "n2", "asked too early");
    c.pass(DELAY);
    assert!(c.state.failback_due().unwrap() <= now(&c));
    c.apply(Command::FailBack).unwrap();
    assert_eq!(c.state.failback_due(), None, "under way");
    c.release_all();
    assert_eq!(c.at("www").unwrap(), "n2");
    assert_eq!(c.state.failback_due(), None);
}

#[test]
fn a_home_that_flaps_begins_its_delay_anew() {
    let mut c = cluster(after(DELAY));
    let n2 = c.id("n2");
    c.down(n2).unwrap();
    c.up(n2);
    let first = c.state.failback_due().unwrap();
    c.pass(DELAY / 2);
    c.down(n2).unwrap();
    c.up(n2);
    let second = c.state.failback_due().unwrap();
    assert!(second.0 >= first.0 + DELAY / 2);
    // A link that comes back counts like a node that does.
    c.pass(DELAY / 2);
    for up in [false, true] {
        c.apply(Command::NodeReport {
            node: n2,
            interfaces: subnets(up),
            membership: 0,
        })
        .unwrap();
    }
    assert!(c.state.failback_due().unwrap().0 >= second.0 + DELAY / 2);
}

#[test]
fn a_drain_is_no_change_of_home() {
    let mut c = cluster(after(0));
    c.drain("n2", true);
    c.release_all();
    assert_ne!(c.at("www").unwrap(), "n2");
    c.drain("n2", false);
    fail_back(&mut c);
    assert_eq!(c.at("www").unwrap(), "n2");
}

#[test]
fn a_move_is_a_change_of_home() {
    let mut c = cluster(after(0));
    c.move_to("www", "n3").unwrap();
    c.release_all();
    assert_eq!(c.state.failback_due(), None);
    c.down(c.id("n3")).unwrap();
    c.up(c.id("n3"));
    fail_back(&mut c);
    assert_eq!(c.at("www").unwrap(), "n3");
}

#[test]
fn a_policy_decided_later_counts_for_what_failed_over_before() {
    let mut c = cluster(Failback::Never);
    c.down(c.id("n2")).unwrap();
    c.up(c.id("n2"));
    let spec = VipSpec {
        failback: after(0),
        ..v4()
    };
    c.vip("www", spec).unwrap();
    assert!(c.state.failback_due().is_some());
    fail_back(&mut c);
    assert_eq!(c.at("www").unwrap(), "n2");
}

#[test]
fn a_group_returns_together_and_when_its_most_reluctant_vip_does() {
    let mut c = Cluster::of(3);
    c.pool("web", &["10.0.0.0/24"]).unwrap();
    let of = |failback| VipSpec {
        group: Some(name("db")),
        failback,
        ..v4()
    };
    c.vip("a", of(after(0))).unwrap();
    c.vip("b", of(after(DELAY))).unwrap();
    c.vip("c", of(after(0))).unwrap();
    let home = c.at("a").unwrap();
    c.down(c.id(&home)).unwrap();
    // One that joins while the group is away has the group's home.
    c.vip("d", of(after(0))).unwrap();
    c.up(c.id(&home));
    fail_back(&mut c);
    assert_ne!(c.at("a").unwrap(), home, "one of them waits, so all wait");
    c.pass(DELAY);
    c.apply(Command::FailBack).unwrap();
    c.release_all();
    for vip in ["a", "b", "c", "d"] {
        assert_eq!(c.at(vip).unwrap(), home, "{vip}");
    }
    c.vip("c", of(Failback::Never)).unwrap();
    c.down(c.id(&home)).unwrap();
    c.up(c.id(&home));
    assert_eq!(c.state.failback_due(), None, "one never does, so none does");
}

#[test]
fn a_home_that_was_removed_is_forgotten() {
    let mut c = cluster(after(0));
    c.down(c.id("n2")).unwrap();
    c.apply(Command::RemoveNode { node: name("n2") }).unwrap();
    let here = c.at("www").unwrap();
    assert_eq!(c.state.failback_due(), None);
    c.drain(&here, true);
    c.release_all();
    c.drain(&here, false);
    fail_back(&mut c);
    assert_eq!(c.at("www"), Some(here), "at home where it was");
}

#[test]
fn a_home_of_weight_0_takes_nobody_back() {
    let mut c = cluster(after(0));
    c.down(c.id("n2")).unwrap();
    c.weigh("n2", 0);
    c.up(c.id("n2"));
    assert_eq!(c.state.failback_due(), None);
    c.weigh("n2", 100);
    fail_back(&mut c);
    assert_eq!(c.at("www").unwrap(), "n2");
}
