//! VIPs and their addresses.

use std::net::IpAddr;
use std::sync::Arc;

use vipd_api_types as wire;
use vipd_core::block::{Block, Family, InvalidBlock};
use vipd_core::event::Cause;
use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::node::Lease;
use vipd_core::proof::Proof;
use vipd_core::rejection::Rejection;
use vipd_core::service::{Mode, serves};
use vipd_core::state::State;
use vipd_core::time::Millis;
use vipd_core::vip::{Allocation, Failback, Families, Vip, VipSpec};

use super::service::{
    affinity_from_wire, affinity_to_wire, backends_from_wire, backends_to_wire, client_from_wire,
    client_to_wire, dispatch_from_wire, dispatch_to_wire, mode_from_wire, mode_to_wire,
    ports_from_wire, ports_to_wire, sources_from_wire, traffic_from_wire, traffic_to_wire,
};
use super::{health, known_name, new_name, node_name};
use crate::clock::rfc3339;
use crate::control::LocalStatus;
use crate::problem::Refusal;

/// What a user says about a VIP.
pub(crate) fn spec_from_wire(spec: &wire::VipSpec) -> Result<VipSpec, Refusal> {
    Ok(VipSpec {
        pool: spec
            .pool
            .as_deref()
            .map(|pool| known_name("pool", pool))
            .transpose()?,
        addresses: spec
            .addresses
            .iter()
            .map(|text| address(text))
            .collect::<Result<_, _>>()?,
        families: match spec.families {
            wire::Families::Ipv4 => Families::Ipv4,
            wire::Families::Ipv6 => Families::Ipv6,
            wire::Families::PreferDual => Families::PreferDual,
            wire::Families::RequireDual => Families::RequireDual,
        },
        mode: mode_from_wire(spec.mode),
        interface: spec.interface.clone(),
        group: key(spec.group.as_deref())?,
        apart: key(spec.apart.as_deref())?,
        failback: match spec.failback {
            wire::Failback::Never => Failback::Never,
            wire::Failback::Always => Failback::After { delay: Millis(0) },
            wire::Failback::After { milliseconds } => Failback::After {
                delay: Millis(milliseconds),
            },
        },
        namespace: key(spec.namespace.as_deref())?,
        sharing_key: spec.sharing_key.clone(),
        sharing_namespaces: spec.sharing_namespaces.clone(),
        ports: ports_from_wire(&spec.ports)?,
        backends: backends_from_wire(&spec.backends)?,
        health: match &spec.health {
            Some(check) => Some(Arc::new(health::from_wire(check)?)),
            None => None,
        },
        traffic: traffic_from_wire(spec.traffic_policy),
        affinity: affinity_from_wire(spec.affinity),
        affinity_timeout: spec.affinity_timeout.map(|time| Millis(time.0)),
        sources: sources_from_wire(&spec.source_ranges)?,
        dispatch: dispatch_from_wire(spec.dispatch),
        client: client_from_wire(spec.client_address),
    })
}

/// Refuses addresses that no pool may hold, so that the VIP would wait for ever. It is asked of what users write: what is in the
/// log or in a backup stays as it is.
pub(crate) fn announceable(spec: &VipSpec) -> Result<(), Refusal> {
    for address in &spec.addresses {
        if let Err(why) = Block::range(*address, *address) {
            return Err(Refusal::invalid(match why {
                InvalidBlock::NotForHosts(_, what) => {
                    format!("no pool can hold {address}: no host may announce {what}")
                }
                other => other.to_string(),
            }));
        }
    }
    Ok(())
}

fn key(text: Option<&str>) -> Result<Option<Name>, Refusal> {
    text.map(new_name).transpose()
}

pub(super) fn address(text: &str) -> Result<IpAddr, Refusal> {
    text.parse().map_err(|_| {
        Refusal::invalid(format!(
            "{text:?} is not an IP address such as 10.0.0.10 or fd00::10"
        ))
    })
}

/// The same the other way.
pub(crate) fn spec_to_wire(spec: &VipSpec) -> wire::VipSpec {
    wire::VipSpec {
        pool: spec.pool.as_ref().map(ToString::to_string),
        addresses: spec.addresses.iter().map(ToString::to_string).collect(),
        families: match spec.families {
            Families::Ipv4 => wire::Families::Ipv4,
            Families::Ipv6 => wire::Families::Ipv6,
            Families::PreferDual => wire::Families::PreferDual,
            Families::RequireDual => wire::Families::RequireDual,
        },
        mode: mode_to_wire(spec.mode),
        dispatch: dispatch_to_wire(spec.dispatch),
        client_address: client_to_wire(spec.client),
        interface: spec.interface.clone(),
        group: spec.group.as_ref().map(ToString::to_string),
        apart: spec.apart.as_ref().map(ToString::to_string),
        failback: match spec.failback {
            Failback::Never => wire::Failback::Never,
            Failback::After { delay: Millis(0) } => wire::Failback::Always,
            Failback::After { delay } => wire::Failback::After {
                milliseconds: delay.0,
            },
        },
        namespace: spec.namespace.as_ref().map(ToString::to_string),
        sharing_key: spec.sharing_key.clone(),
        sharing_namespaces: spec.sharing_namespaces.clone(),
        ports: ports_to_wire(&spec.ports),
        backends: backends_to_wire(&spec.backends),
        health: spec.health.as_deref().map(health::to_wire),
        traffic_policy: traffic_to_wire(spec.traffic),
        affinity: affinity_to_wire(spec.affinity),
        affinity_timeout: spec.affinity_timeout.map(|time| wire::Duration(time.0)),
        source_ranges: spec.sources.iter().map(ToString::to_string).collect(),
    }
}

/// A VIP, and what this node knows of its addresses.
pub(crate) fn to_wire(
    state: &State,
    local: &LocalStatus,
    vip: &Vip,
    runner_up: &impl Fn(IpAddr) -> Option<NodeId>,
) -> wire::Vip {
    wire::Vip {
        name: vip.name.to_string(),
        labels: vip.labels.clone(),
        generation: vip.generation,
        revision: vip.revision.0,
        spec: spec_to_wire(&vip.spec),
        status: wire::VipStatus {
            addresses: vip
                .addresses
                .iter()
                .filter_map(|address| {
                    Some(address_to_wire(
                        state,
                        local,
                        &vip.name,
                        *address,
                        state.allocations().get(address)?,
                        runner_up(*address),
                    ))
                })
                .collect(),
            backends: local
                .backends
                .get(&vip.name)
                .into_iter()
                .flatten()
                .map(|(at, seen)| health::backend(at, seen))
                .collect(),
            conditions: std::iter::once(satisfied(state, vip))
                .chain(unserved(vip))
                .chain(local.backends.get(&vip.name).and_then(health::condition))
                .chain(health::all_down(state, &vip.name))
                .chain(local.slowed.get(&vip.name).map(health::slowed))
                .collect(),
        },
    }
}

/// Whether it has what it asks for; if not, why not, wish by wish, and since when that is so.
fn satisfied(state: &State, vip: &Vip) -> wire::Condition {
    let status = vip.satisfied();
    let unmet = vip.unmet.first().filter(|_| !status);
    // The wish of each family says it of its own; of a pool that is not there it is the same thing.
    let mut all: Vec<String> = vip
        .unmet
        .iter()
        .map(|unmet| match &unmet.why {
            Rejection::NoPool {
                pool: Some(pool), ..
            } if !state.pools().contains_key(pool) => format!("there is no pool {pool}"),
            why => why.to_string(),
        })
        .collect();
    all.dedup();
    wire::Condition {
        kind: "satisfied".to_owned(),
        status,
        reason: unmet
            .map_or("satisfied", |unmet| unmet.why.reason())
            .to_owned(),
        message: match (status, all.is_empty()) {
            (true, true) => "it has all it asks for".to_owned(),
            (true, false) => format!(
                "it has what it needs, and waits for more: {}",
                all.join("; ")
            ),
            (false, _) => format!("it waits: {}", all.join("; ")),
        },
        since: vip.unsatisfied_since.map(rfc3339),
    }
}

/// Says so where what comes to its addresses is dropped because no backend can take it.
fn unserved(vip: &Vip) -> Option<wire::Condition> {
    let families = Family::ALL.into_iter();
    let lacking = families.filter(|family| {
        let of_family = |address: &IpAddr| Family::of(*address) == *family;
        vip.addresses.iter().any(of_family) && !serves(&vip.spec.backends, *family)
    });
    let lacking: Vec<String> = lacking.map(|family| family.to_string()).collect();
    (vip.spec.mode != Mode::Local && !lacking.is_empty()).then(|| wire::Condition {
        kind: "served".to_owned(),
        status: false,
        reason: "no_backend".to_owned(),
        message: format!(
            "it has no {} backend that takes connections: new ones to its ports are dropped",
            lacking.join(" and no ")
        ),
        since: None,
    })
}

fn address_to_wire(
    state: &State,
    local: &LocalStatus,
    vip: &Name,
    address: IpAddr,
    of: &Allocation,
    runner_up: Option<NodeId>,
) -> wire::VipAddress {
    let holder = of.holder.and_then(|id| state.node(id));
    let here = of.holder == Some(local.node);
    let found = local.addresses.get(&address).filter(|_| here);
    let interface = holder.and_then(|node| state.interface_for(node, address));
    wire::VipAddress {
        address,
        pool: of.pool.to_string(),
        shared_with: of
            .vips()
            .filter(|other| *other != vip)
            .map(ToString::to_string)
            .collect(),
        holder: of.holder.map(|id| node_name(state, id)),
        runner_up: runner_up.map(|id| node_name(state, id)),
        home: of.home.map(|id| node_name(state, id)),
        epoch: of.epoch.0,
        since: of.holder.is_some().then(|| rfc3339(of.held_since)),
        interface: interface.map(str::to_owned),
        answering: here.then(|| found.is_some_and(|found| found.answering)),
        announced: found.and_then(|found| found.counters.get("announcement_passed").copied()),
        conditions: found
            .and_then(|found| found.claimed_by.as_deref())
            .map(|by| conflict(address, by))
            .into_iter()
            .chain(settled(state, address, of))
            .collect(),
    }
}

fn conflict(address: IpAddr, by: &str) -> wire::Condition {
    wire::Condition {
        kind: "unique".to_owned(),
        status: false,
        reason: "address_conflict".to_owned(),
        message: format!("{address} is also claimed by {by}: take it off that host"),
        since: None,
    }
}

/// What keeps it from being announced.
fn settled(state: &State, address: IpAddr, of: &Allocation) -> Vec<wire::Condition> {
    let mut conditions = held(state, address, of);
    let proof = match &of.proof {
        // Nobody can ask, and that is why.
        Proof::Unproven if !conditions.is_empty() => None,
        Proof::Clear | Proof::Unproven | Proof::InUse { .. } => unique(state, of),
    };
    conditions.extend(proof);
    conditions
}

fn held(state: &State, address: IpAddr, of: &Allocation) -> Vec<wire::Condition> {
    let complaint = |kind: &str, reason: &str, message: String| wire::Condition {
        kind: kind.to_owned(),
        status: false,
        reason: reason.to_owned(),
        message,
        since: None,
    };
    let Some(id) = of.holder else {
        return vec![complaint(
            "held",
            "no_candidate",
            nobody(state, address, of),
        )];
    };
    let holder = state.node(id);
    if let Some(cause) = of.vacating {
        let message = format!("its holder is letting go of it: {cause}");
        vec![complaint("settled", vacating_reason(cause), message)]
    } else if holder.is_none_or(|node| node.lease != Lease::Up) {
        let message = format!(
            "{} is down, and no other node can take it",
            node_name(state, id)
        );
        vec![complaint("held", "holder_down", message)]
    } else if holder.is_some_and(|node| node.can_hold_any().is_err()) {
        let message = format!(
            "{} shall give it up, but no other node can take it",
            node_name(state, id)
        );
        vec![complaint("settled", "no_other_node", message)]
    } else if holder.is_some_and(|node| state.interface_for(node, address).is_none()) {
        let message = format!(
            "{} has no interface to announce it on, no policy lets it, or it has no backend there, and no other node can take it",
            node_name(state, id)
        );
        vec![complaint("held", "ineligible", message)]
    } else {
        Vec::new()
    }
}

/// Whether another host has it, as far as its holder has asked.
fn unique(state: &State, of: &Allocation) -> Option<wire::Condition> {
    let (reason, message) = match &of.proof {
        Proof::Clear => return None,
        Proof::Unproven => (
            "address_unproven",
            "its holder asks the link whether another host has it, which takes 0.2 s, and does not announce it before"
                .to_owned(),
        ),
        Proof::InUse {
            node,
            claim,
            announced,
        } => {
            let node = node_name(state, *node);
            let so = if *announced {
                "announced all the same, for [announce] in_use is warn"
            } else {
                "not announced until that is heard no more"
            };
            let message = format!("another host has it, {claim} of {node}; it is {so}: take it off that host");
            ("address_in_use", message)
        }
    };
    Some(wire::Condition {
        kind: "unique".to_owned(),
        status: false,
        reason: reason.to_owned(),
        message,
        since: None,
    })
}

fn vacating_reason(cause: Cause) -> &'static str {
    match cause {
        Cause::Placed => "placed",
        Cause::NodeDown => "node_down",
        Cause::Drained => "drained",
        Cause::Moved => "moved",
        Cause::Ineligible => "ineligible",
        Cause::Freed => "freed",
        Cause::FailedBack => "failed_back",
        Cause::Rebalanced => "rebalanced",
        Cause::Grouped => "grouped",
        Cause::Withdrawn => "withdrawn",
    }
}

/// Why no node holds an address.
fn nobody(state: &State, address: IpAddr, of: &Allocation) -> String {
    let willing: Vec<_> = state.nodes().values().filter(|n| n.accepts()).collect();
    let mut willing = willing.into_iter().peekable();
    if willing.peek().is_none() {
        return "no node is up and willing to hold addresses".to_owned();
    }
    let group = state
        .vips()
        .get(&of.vip)
        .and_then(|vip| vip.spec.group.as_ref());
    let mut could = willing.filter(|node| {
        node.interface_for(address, of.interface.as_deref())
            .is_some()
    });
    if could.clone().next().is_some()
        && !could
            .clone()
            .any(|node| state.has_backends(node, address, of))
    {
        return "its traffic policy is local, and no node that is up and can announce it has one of its backends"
            .to_owned();
    }
    if let Some(group) = group.filter(|_| {
        could
            .clone()
            .any(|node| state.interface_for(node, address).is_some())
    }) {
        return format!("no node that is up can hold all of group {group}");
    }
    if could.next().is_some() {
        let vip = &of.vip;
        return format!("no policy that selects vip/{vip} lets a node that is up announce it");
    }
    match &of.interface {
        Some(interface) => format!("no node that is up has an interface {interface} that is up"),
        None => format!("no node that is up has an interface in a subnet that contains {address}"),
    }
}
