//! The datapath in memory keeps the same promises as the real one.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use vipd_datapath::{
    Datapath, DatapathError, Gate, Interface, Twin, TwinHandle, Wanted, WantedAddress, boottime_ns,
};

const SECOND: u64 = 1_000_000_000;

fn vip() -> IpAddr {
    "10.9.0.100".parse().unwrap()
}

fn wanted(gate: Gate) -> Wanted {
    let address = WantedAddress {
        interface: "lan".to_owned(),
        gate,
        epoch: 1,
    };
    Wanted {
        addresses: [(vip(), address)].into(),
        interfaces: ["lan".to_owned()].into(),
        ..Wanted::default()
    }
}

fn host() -> (Twin, TwinHandle) {
    Twin::new(vec![Interface {
        name: "lan".to_owned(),
        index: 2,
        mac: [2; 6],
        up: true,
        prefixes: vec![("10.9.0.1".parse().unwrap(), 24)],
    }])
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(test);
}

#[test]
fn an_open_address_is_answered_until_the_deadline() {
    run(async {
        let (mut twin, handle) = host();
        let mut node = twin.node_gate().unwrap();
        node.set_deadline(boottime_ns() + 60 * SECOND);
        twin.apply(&wanted(Gate::Open)).await.unwrap();
        assert!(
            !handle.answers(vip()),
            "the lease counts only after the first apply"
        );
        node.set_deadline(boottime_ns() + 60 * SECOND);
        assert!(handle.answers(vip()));
        assert!(twin.observe().await.unwrap().addresses[&vip()].answering);
        node.set_deadline(boottime_ns());
        assert!(!handle.answers(vip()));
    });
}

#[test]
fn a_shut_or_homeless_address_is_not_answered() {
    run(async {
        let (mut twin, handle) = host();
        twin.apply(&wanted(Gate::Shut)).await.unwrap();
        twin.node_gate()
            .unwrap()
            .set_deadline(boottime_ns() + 60 * SECOND);
        assert!(!handle.answers(vip()));
        twin.apply(&wanted(Gate::Open)).await.unwrap();
        handle.set_interfaces(Vec::new());
        assert!(!handle.answers(vip()));
        let error = twin
            .apply(&wanted(Gate::Open))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("lan does not exist"), "{error}");
    });
}

#[test]
fn a_failure_happens_once_and_removal_leaves_nothing() {
    run(async {
        let (mut twin, handle) = host();
        handle.fail_next_apply(DatapathError::Incomplete { what: "map" });
        twin.apply(&wanted(Gate::Open)).await.unwrap_err();
        assert!(handle.history().is_empty());
        twin.apply(&wanted(Gate::Open)).await.unwrap();
        assert_eq!(handle.history(), [wanted(Gate::Open)]);
        twin.remove().await.unwrap();
        assert!(handle.is_removed() && handle.wanted() == Wanted::default());
    });
}

#[test]
fn an_address_that_is_handed_on_or_taken_is_not_answered_for() {
    run(async {
        let (mut twin, handle) = host();
        twin.apply(&wanted(Gate::Open)).await.unwrap();
        let mut node = twin.node_gate().unwrap();
        node.set_deadline(boottime_ns() + 60 * SECOND);
        assert!(handle.answers(vip()));
        let (to, from, until_ns) = ([9; 6], [9; 6], u64::MAX);
        for (gate, present) in [
            (
                Gate::Hand {
                    to,
                    until_ns,
                    leased: true,
                },
                false,
            ),
            (Gate::Take { from }, true),
        ] {
            twin.apply(&wanted(gate)).await.unwrap();
            let seen = &twin.observe().await.unwrap().addresses[&vip()];
            assert_eq!((seen.answering, seen.present), (false, present), "{gate:?}");
        }
    });
}
