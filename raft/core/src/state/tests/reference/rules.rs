//! What is promised of blocks, pools and sharing (rules 1 to 3, 5, 7 and 8 of the specification of addresses), said once more and by no
//! function of the code that keeps it: a block is the list of its addresses, and ports are tried one by one.

use alloc::collections::BTreeSet;
use core::iter::successors;

use super::super::*;
use super::model::AVip;
use crate::service::{Mode, Protocol, TrafficPolicy};

/// A pool, and what it comes to.
pub(super) struct APool {
    pub(super) name: Name,
    pub(super) spec: PoolSpec,
    /// The addresses of all blocks, those too that a block keeps to itself.
    has: BTreeSet<IpAddr>,
    /// Whether an address lies in two of its blocks.
    pub(super) overlaps_itself: bool,
    /// What it may hand out.
    pub(super) offers: BTreeSet<IpAddr>,
}

impl APool {
    pub(super) fn new(name: &Name, spec: &PoolSpec) -> Self {
        let (mut has, mut offers) = (BTreeSet::new(), BTreeSet::new());
        let mut overlaps_itself = false;
        for block in &spec.blocks {
            let all = addresses(block);
            let prefix = matches!(block, Block::Cidr(_));
            let kept = prefix && !spec.allow_first_last && all.len() > 2;
            let ends = [all[0], all[all.len() - 1]];
            for address in all {
                overlaps_itself |= !has.insert(address);
                if !(kept && ends.contains(&address)) {
                    offers.insert(address);
                }
            }
        }
        Self {
            name: name.clone(),
            spec: spec.clone(),
            has,
            overlaps_itself,
            offers,
        }
    }

    /// Whether the address lies in a block, be it one that keeps it to itself.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.has.contains(&address)
    }

    pub(super) fn has_family(&self, family: Family) -> bool {
        self.has.iter().any(|it| is_of(*it, family))
    }

    /// Whether two pools have an address in common.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.has.iter().any(|it| other.has(*it))
    }

    /// Whether it serves this VIP. The namespace is a label that nobody can give himself.
    pub(super) fn selects(&self, vip: &AVip) -> bool {
        let wanted = self.spec.selector.iter().flat_map(|it| &it.match_labels);
        wanted.into_iter().all(|(key, value)| match key.as_str() {
            "vipd/namespace" => namespace(&vip.spec) == value,
            key => vip.labels.get(key) == Some(value),
        })
    }
}

/// All addresses of a block, in order.
fn addresses(block: &Block) -> Vec<IpAddr> {
    let from = |first| successors(Some(first), |it| Some(after(*it)));
    match block {
        Block::Cidr(net) => {
            let length = if net.addr().is_ipv4() { 32 } else { 128 };
            let n = 1 << (length - net.prefix_len());
            from(net.addr()).take(n).collect()
        }
        Block::Range { start, stop } => from(*start).take_while(|it| it <= stop).collect(),
    }
}

fn after(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::from((u32::from(v4) + 1).to_be_bytes()),
        IpAddr::V6(v6) => IpAddr::from((u128::from(v6) + 1).to_be_bytes()),
    }
}

pub(super) fn is_of(address: IpAddr, family: Family) -> bool {
    address.is_ipv4() == (family == Family::V4)
}

/// The families to give a VIP that names no address.
pub(super) fn families(spec: &VipSpec) -> Vec<Family> {
    match spec.families {
        Families::Ipv4 => vec![Family::V4],
        Families::Ipv6 => vec![Family::V6],
        Families::PreferDual | Families::RequireDual => vec![Family::V4, Family::V6],
    }
}

fn namespace(spec: &VipSpec) -> &str {
    match &spec.namespace {
        Some(namespace) => namespace.as_str(),
        None => "default",
    }
}

/// Whether the VIP takes what comes to this port.
fn claims(spec: &VipSpec, protocol: Protocol, port: u16) -> bool {
    let all = spec.ports.is_empty();
    let mut ports = spec.ports.keys();
    all || ports.any(|it| it.protocol == protocol && (it.port == port || it.port == 0))
}

/// Whether `host` lets VIPs of the other's namespace share with it.
fn lets_in(host: &VipSpec, other: &VipSpec) -> bool {
    let allowed = &host.sharing_namespaces;
    allowed.iter().any(|it| it == "*" || it == namespace(other))
}

/// Whether every backend of the one is where the other has one, too.
fn places_within(one: &VipSpec, other: &VipSpec) -> bool {
    one.backends.iter().all(|(at, backend)| {
        let mut others = other.backends.iter();
        others.any(|(its, is)| its.address == at.address && is.node == backend.node)
    })
}

/// Whether two VIPs may have the same address: the first rule that they break.
pub(super) fn share(a: &VipSpec, b: &VipSpec) -> Result<(), &'static str> {
    let keys = (&a.sharing_key, &b.sharing_key);
    let same_key = matches!(keys, (Some(own), Some(other)) if own == other);
    let same_space = namespace(a) == namespace(b);
    // One more than the ports that random specs name: who claims all is seen there.
    let clash = |protocol| (1..=9).any(|n| claims(a, protocol, n) && claims(b, protocol, n));
    let local = a.traffic == TrafficPolicy::Local && b.traffic == TrafficPolicy::Local;
    let rules = [
        (same_key, "different sharing key"),
        (
            same_space || (lets_in(a, b) && lets_in(b, a)),
            "different and not permitted namespace",
        ),
        (
            !clash(Protocol::Tcp) && !clash(Protocol::Udp),
            "same port and protocol",
        ),
        (a.group == b.group, "different group"),
        (a.interface == b.interface, "different interface"),
        (
            (a.mode == Mode::Dsr) == (b.mode == Mode::Dsr),
            "different modes",
        ),
        (a.traffic == b.traffic, "different traffic policy"),
        (
            !local || (places_within(a, b) && places_within(b, a)),
            "different places",
        ),
    ];
    match rules.into_iter().find(|(kept, _)| !kept) {
        Some((_, broken)) => Err(broken),
        None => Ok(()),
    }
}
