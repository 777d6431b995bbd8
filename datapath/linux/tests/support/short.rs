//! The way in front of ingress: what the host must know of its neighbours for it, and benches on which flows are open.

use super::balance::{BACKEND, Balanced, Case, Forward};
use super::bench::Verdict;
use super::run;
use super::segment::{ACK, SYN, Segment};

/// The router to all clients, the client's own end of the link.
pub const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// All backends.
pub const NEIGHBOUR: [u8; 6] = [2, 0, 0, 0, 0, 0x21];

/// Routes to clients, MACs of backends and router, and forwarding: in the namespace of the host.
pub fn prepare() {
    for (family, router, backend) in [
        ("-4", "10.9.0.2", "10.9.0.21"),
        ("-6", "fd09::2", "fd09::21"),
    ] {
        for (address, mac) in [(router, ROUTER), (backend, NEIGHBOUR)] {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            let known = [
                "neigh",
                "replace",
                address,
                "lladdr",
                &mac,
                "dev",
                "lan",
                "nud",
                "permanent",
            ];
            run("ip", &known);
        }
        run(
            "ip",
            &[
                family, "route", "add", "default", "via", router, "dev", "lan",
            ],
        );
    }
    forward(true);
}

/// Whether the host forwards what comes in on `lan`.
pub fn forward(on: bool) {
    for family in ["ipv4", "ipv6"] {
        let setting = format!("/proc/sys/net/{family}/conf/lan/forwarding");
        std::fs::write(setting, if on { "1" } else { "0" }).unwrap();
    }
}

/// A bench of a case whose backend is on `lan`, where clients come from, too.
pub fn bench(case: &Case) -> Balanced {
    let mut balanced = case.bench();
    let mut backend = balanced.backends.get(&BACKEND, 0).unwrap();
    backend.ifindex = balanced.bench.ifindex;
    balanced.backends.insert(BACKEND, backend, 0).unwrap();
    balanced
}

/// The same with a flow that is open, by the long way.
pub fn opened(case: &Case) -> Balanced {
    let balanced = bench(case);
    balanced.ingress(&case.asks(SYN));
    if case.how != Forward::Dsr {
        balanced
            .bench
            .run(case.way_back(), &case.answers(SYN | ACK).frame());
        balanced
            .bench
            .run(case.way_back(), &case.answers(ACK).frame());
    }
    balanced.ingress(&case.asks(ACK));
    balanced
}

/// Has the half of a flow that a packet belongs to look as if one had come by at this instant (CLOCK_BOOTTIME ns).
pub fn last_seen(balanced: &mut Balanced, segment: &Segment, now: u64) {
    let key = super::balance::key(segment);
    let mut half = balanced.flows.get(&key, 0).unwrap();
    half.flow.seen = now;
    balanced.flows.insert(key, half, 0).unwrap();
}

/// Packets of an open flow that go the short way, with what they are sent to.
pub fn plain(case: &Case) -> Vec<(Segment, [u8; 6])> {
    match case.how {
        Forward::Nat => vec![(case.asks(ACK), NEIGHBOUR), (case.answers(ACK), ROUTER)],
        Forward::Dsr => vec![(case.asks(ACK), NEIGHBOUR)],
        // Up the stack, or left to ingress.
        Forward::Local | Forward::Keep => Vec::new(),
    }
}

/// The frame must be left to ingress, as it came.
pub fn left(balanced: &Balanced, frame: &[u8], what: &str) {
    let (verdict, out) = balanced.bench.short(frame).unwrap();
    assert_eq!((verdict, out.as_slice()), (Verdict::Pass, frame), "{what}");
}
