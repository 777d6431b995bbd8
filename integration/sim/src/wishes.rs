//! What clients ask of a VIP: most ask for an address, and some for company, for distance, for a home or for backends.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use vipd_core::health::{AllDown, Check, Question};
use vipd_core::name::{Labels, Name};
use vipd_core::service::{Backend, Endpoint, Mode, Port, PortSpec, Protocol};
use vipd_core::time::Millis;
use vipd_core::vip::{Failback, Families, VipSpec};

use crate::clients::POOLS;
use crate::dice::Dice;

/// The label by which policies tell VIPs apart.
pub(crate) const TIER: &str = "tier";
/// Its values; one VIP in three has none.
pub(crate) const TIERS: [&str; 2] = ["a", "b"];

/// Groups, and keys of what is to be apart.
const KEYS: u64 = 3;
/// The longest delay before a VIP goes home, in milliseconds.
const HOME: u64 = 4_000;

/// Some wish, and the labels of the VIP.
pub(crate) fn some(dice: &mut Dice) -> (VipSpec, Labels) {
    let pool = dice.pick(&POOLS).copied().unwrap_or(POOLS[0]);
    let asked = dice.one_in(4).then(|| {
        let low = u8::try_from(dice.below(200)).unwrap_or(0);
        IpAddr::V4(Ipv4Addr::new(10, pool.1, 130, low))
    });
    let plain = VipSpec {
        pool: Name::new(pool.0).ok(),
        addresses: asked.into_iter().collect(),
        families: Families::Ipv4,
        ..VipSpec::default()
    };
    let spec = match dice.below(10) {
        0 | 1 => VipSpec {
            group: key(dice, "group"),
            ..plain
        },
        2 => VipSpec {
            apart: key(dice, "apart"),
            ..plain
        },
        3 | 4 => VipSpec {
            failback: Failback::After {
                delay: Millis(dice.below(HOME)),
            },
            ..plain
        },
        5 => balanced(plain),
        _ => plain,
    };
    let tier = TIERS.get(usize::try_from(dice.below(3)).unwrap_or(0));
    let labels = tier.map(|tier| (TIER.to_owned(), (*tier).to_owned()));
    (spec, labels.into_iter().collect())
}

fn key(dice: &mut Dice, what: &str) -> Option<Name> {
    Name::new(&format!("{what}-{}", dice.below(KEYS))).ok()
}

/// With a backend, and going elsewhere when its holder does not see it.
fn balanced(plain: VipSpec) -> VipSpec {
    let port = Port {
        protocol: Protocol::Tcp,
        port: 80,
    };
    let endpoint = Endpoint {
        address: IpAddr::V4(Ipv4Addr::new(10, 79, 0, 1)),
        port: 0,
    };
    let check = Check {
        question: Question::Tcp,
        port: 0,
        interval: Millis(1_000),
        timeout: Millis(500),
        fall: 3,
        rise: 2,
        all_down: AllDown::Withdraw,
    };
    VipSpec {
        mode: Mode::Nat,
        ports: [(port, PortSpec::default())].into(),
        backends: [(endpoint, Backend::default())].into(),
        health: Some(Arc::new(check)),
        ..plain
    }
}
