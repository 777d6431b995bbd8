//! What the twin tells of a host that it does not have: its interfaces, its balancing, its backends.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vipd_api_types::{BalanceBounds, Duration, XdpUse};
use vipd_core::name::Name;
use vipd_core::service::Endpoint;
use vipd_core::state::State;

use crate::control::LocalBackend;

/// What an interface has unless the configuration asks for more.
pub(super) fn without_xdp() -> XdpUse {
    XdpUse {
        used: false,
        why: "xdp is off in [balance] of vipd.toml".to_owned(),
    }
}

/// Those of a node whose configuration says nothing of them.
pub(super) fn bounds() -> BalanceBounds {
    let time = |seconds: u64| Duration(1000 * seconds);
    BalanceBounds {
        flows: 1_048_576,
        new_flows: 39_321,
        collect: time(5),
        tcp_opening: time(10),
        tcp_open: time(9000),
        tcp_half_closed: time(120),
        tcp_closing: time(10),
        udp_question: time(10),
        udp_stream: time(120),
    }
}

/// Whoever is looked after is well, but for those on addresses that end with an odd number.
pub(super) fn backends(state: &State) -> BTreeMap<Name, BTreeMap<Endpoint, LocalBackend>> {
    let looked_after = state
        .vips()
        .values()
        .filter(|vip| vip.spec.health.is_some());
    let all = looked_after.map(|vip| {
        let backends = vip.spec.backends.keys().map(|at| {
            let odd = match at.address {
                IpAddr::V4(v4) => v4.to_bits() % 2 == 1,
                IpAddr::V6(v6) => v6.to_bits() % 2 == 1,
            };
            let seen = LocalBackend {
                healthy: !odd,
                since: vip.created,
                reason: if odd {
                    "connection refused"
                } else {
                    "accepts connections"
                }
                .to_owned(),
            };
            (*at, seen)
        });
        (vip.name.clone(), backends.collect())
    });
    all.collect()
}
