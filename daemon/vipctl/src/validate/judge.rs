//! What is wrong with what there would be.

use std::net::IpAddr;

use ipnet::IpNet;
use vipd_api_types::{Families, Node, Operator, PoolSpec, Selector, VipSpec};
use vipd_core::block::{Block, Family};
use vipd_core::name::Name;
use vipd_core::policy::Pattern;
use vipd_core::selector;

use super::world::{Item, World};
use super::{Finding, room};
use crate::{dark, service};

/// All findings, pools first.
pub(super) fn all(world: &World) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, pool) in &world.pools {
        let title = format!("pool/{name}");
        let mut say =
            |what: String, next: &str| findings.push(finding(&pool.place, &title, what, next));
        for (what, next) in blocks(world, name, pool) {
            say(what, next);
        }
        if let Some(what) = unannounced(world, name, pool) {
            say(
                what,
                "give a node an interface in that subnet, or a VIP of it an interface by name",
            );
        }
        let selects = |selector: &Selector| {
            world
                .vips
                .iter()
                .any(|(name, vip)| selects_vip(selector, name, vip))
        };
        if pool
            .spec
            .selector
            .as_ref()
            .is_some_and(|selector| !selects(selector))
        {
            say(
                "its selector selects no VIP".to_owned(),
                "compare it with the labels: vipctl vip list -o yaml",
            );
        }
    }
    for (name, policy) in &world.policies {
        let title = format!("policy/{name}");
        let mut say =
            |what: String, next: &str| findings.push(finding(&policy.place, &title, what, next));
        if !world
            .vips
            .iter()
            .any(|(name, vip)| selects_vip(&policy.spec.vip_selector, name, vip))
        {
            say(
                "its vip_selector selects no VIP".to_owned(),
                "compare it with the labels: vipctl vip list -o yaml",
            );
        }
        if let Some(nodes) = &world.nodes {
            let selected: Vec<_> = nodes
                .iter()
                .filter(|node| selects_node(&policy.spec.node_selector, node))
                .collect();
            if selected.is_empty() {
                say(
                    "its node_selector selects no node".to_owned(),
                    "compare it with the labels: vipctl node list -o yaml",
                );
            } else if !policy.spec.interfaces.is_empty()
                && !any_interface(&policy.spec.interfaces, &selected)
            {
                say(
                    "its interfaces match none of any node that it selects".to_owned(),
                    "see the interfaces: vipctl node list -o yaml",
                );
            }
        }
        for pattern in &policy.spec.interfaces {
            if let Err(why) = Pattern::new(pattern) {
                say(
                    why.to_string(),
                    "write a regular expression, for example ^eth[0-9]+$",
                );
            }
        }
    }
    for (name, vip) in &world.vips {
        let title = format!("vip/{name}");
        for (what, next) in unsatisfiable(world, name, vip) {
            findings.push(finding(&vip.place, &title, what, next));
        }
    }
    findings.extend(room::lacking(world));
    findings
}

pub(super) fn finding(place: &str, object: &str, what: String, next: &str) -> Finding {
    Finding {
        place: place.to_owned(),
        object: object.to_owned(),
        what,
        next: next.to_owned(),
    }
}

type Said = (String, &'static str);

/// Blocks that can't be, and blocks that overlap others. Of two pools both are named, each at its place.
fn blocks(world: &World, name: &str, pool: &Item<PoolSpec>) -> Vec<Said> {
    let (own, bad) = pool.blocks();
    let mut said: Vec<Said> = bad
        .into_iter()
        .map(|why| (why, "write a prefix, a range or one address"))
        .collect();
    if pool.spec.blocks.is_empty() {
        said.push(("it has no block".to_owned(), "give it at least one"));
    }
    for (i, block) in own.iter().enumerate() {
        if let Some(other) = own[..i].iter().find(|other| other.overlaps(block)) {
            said.push((
                format!("its block {block} overlaps its block {other}"),
                "take one of them out",
            ));
        }
    }
    for (other, pool) in world.pools.iter().filter(|(other, _)| *other != name) {
        let others = pool.blocks().0;
        let pair = own
            .iter()
            .find_map(|block| Some((block, others.iter().find(|other| other.overlaps(block))?)));
        if let Some((block, theirs)) = pair {
            said.push((
                format!(
                    "block {block} overlaps block {theirs} of pool/{other} ({})",
                    pool.place
                ),
                "the younger pool hands out nothing until that ends: take the overlap out of one",
            ));
        }
    }
    said
}

/// A block of which no node's subnet holds an address. VIPs that name an interface are announced there all the same, so where
/// one names the pool, or has an address of it, nothing is said. One that only could have is no excuse: it may never turn here.
fn unannounced(world: &World, name: &str, pool: &Item<PoolSpec>) -> Option<String> {
    let nodes = world.nodes.as_ref()?;
    let anywhere = world.vips.values().any(|vip| {
        let mut wanted = vip.spec.addresses.iter().filter_map(|ip| ip.parse().ok());
        vip.spec.interface.is_some()
            && (vip.spec.pool.as_deref() == Some(name)
                || vip.given_by.iter().any(|of| of == name)
                || wanted.any(|address| pool.offers(address)))
    });
    if anywhere {
        return None;
    }
    let subnets: Vec<Block> = nodes
        .iter()
        .flat_map(|node| &node.status.interfaces)
        .flat_map(|interface| &interface.prefixes)
        .filter_map(|prefix| Block::cidr(prefix.parse::<IpNet>().ok()?.trunc()).ok())
        .collect();
    let (blocks, _) = pool.blocks();
    let alone = blocks
        .iter()
        .find(|block| !subnets.iter().any(|subnet| subnet.overlaps(block)))?;
    Some(format!(
        "no node has an interface in a subnet of block {alone}: nobody can announce it"
    ))
}

const LET_NODE: &str =
    "compare vipctl policy list with the labels and interfaces of vipctl node list -o yaml";

const GIVE_BACKEND: &str =
    "give it a backend of that family with a weight, or no address of that family (families)";

/// What this VIP asks for that nothing there can give. What the cluster says of a VIP that it has counts for more.
fn unsatisfiable(world: &World, name: &str, vip: &Item<VipSpec>) -> Vec<Said> {
    const SEE: &str = "see what there is: vipctl pool list";
    if let Some(unmet) = vip
        .conditions
        .iter()
        .find(|known| known.kind == "satisfied" && !known.status)
    {
        return vec![(unmet.message.clone(), SEE)];
    }
    if !vip.conditions.is_empty() {
        let dark = vip.conditions.iter().find(|known| dark::is_dark(known));
        let dark = dark.map(|known| {
            let what = format!("no node may hold it: {}", known.message);
            (what, LET_NODE)
        });
        let mut all = vip.conditions.iter();
        let dropped = all.find(|known| known.kind == "served" && !known.status);
        let dropped = dropped.map(|known| (known.message.clone(), GIVE_BACKEND));
        return dark.into_iter().chain(dropped).collect();
    }
    let spec = &vip.spec;
    if let Some(pool) = spec
        .pool
        .as_ref()
        .filter(|pool| !world.pools.contains_key(*pool))
    {
        return vec![(format!("there is no pool {pool}"), SEE)];
    }
    let pools = serving(world, name, vip);
    if pools.is_empty() {
        return vec![(
            "no pool serves it: none is enabled, gives by itself and selects it".to_owned(),
            SEE,
        )];
    }
    let mut said = Vec::new();
    if spec.addresses.is_empty() {
        let offered = |family: Family| {
            let blocks = |(_, pool): &(&String, &Item<PoolSpec>)| pool.blocks().0;
            pools
                .iter()
                .any(|pool| blocks(pool).iter().any(|block| block.family() == family))
        };
        let wanted: &[Family] = match spec.families {
            Families::Ipv4 => &[Family::V4],
            Families::Ipv6 => &[Family::V6],
            Families::RequireDual => &[Family::V4, Family::V6],
            Families::PreferDual => &[],
        };
        for family in wanted.iter().filter(|family| !offered(**family)) {
            let what = format!("no pool that serves it has {family} addresses");
            said.push((what, SEE));
        }
        let all = matches!(spec.families, Families::PreferDual).then_some(Family::ALL);
        let all = all.as_ref().map_or(wanted, |all| &all[..]).iter();
        said.extend(unserved(
            spec,
            all.copied().filter(|family| offered(*family)),
        ));
        return said;
    }
    let named = spec.addresses.iter().filter_map(|text| text.parse().ok());
    let named: Vec<Family> = named.map(Family::of).collect();
    let families = Family::ALL.into_iter();
    said.extend(unserved(
        spec,
        families.filter(|family| named.contains(family)),
    ));
    for text in &spec.addresses {
        match text.parse::<IpAddr>() {
            Err(_) => said.push((
                format!("{text:?} is no address"),
                "write an IPv4 or IPv6 address",
            )),
            Ok(address) if !pools.iter().any(|(_, pool)| pool.offers(address)) => {
                said.push((format!("no pool that serves it offers {address}"), SEE));
            }
            Ok(_) => {}
        }
    }
    said
}

/// Families of its addresses that have no backend.
fn unserved(spec: &VipSpec, families: impl Iterator<Item = Family>) -> Vec<Said> {
    let lacking = families.filter(|family| service::lacks(spec, *family));
    let what = |family| format!("it has no {family} backend: connections to it are dropped");
    lacking.map(|family| (what(family), GIVE_BACKEND)).collect()
}

/// The pools that serve a VIP.
pub(super) fn serving<'a>(
    world: &'a World,
    name: &str,
    vip: &Item<VipSpec>,
) -> Vec<(&'a String, &'a Item<PoolSpec>)> {
    let spec = &vip.spec;
    let named = |pool: &str| spec.pool.as_deref().is_none_or(|wanted| wanted == pool);
    let serves = |(pool, item): &(&String, &Item<PoolSpec>)| {
        named(pool)
            && !item.spec.disabled
            && (item.spec.auto_assign || spec.pool.is_some() || !spec.addresses.is_empty())
            && item
                .spec
                .selector
                .as_ref()
                .is_none_or(|selector| selects_vip(selector, name, vip))
    };
    world.pools.iter().filter(serves).collect()
}

fn any_interface(patterns: &[String], nodes: &[&Node]) -> bool {
    let patterns: Vec<_> = patterns
        .iter()
        .filter_map(|text| Pattern::new(text).ok())
        .collect();
    let mut interfaces = nodes.iter().flat_map(|node| &node.status.interfaces);
    interfaces.any(|interface| {
        patterns
            .iter()
            .any(|pattern| pattern.matches(&interface.name))
    })
}

fn selects_vip(selector: &Selector, name: &str, vip: &Item<VipSpec>) -> bool {
    let namespace = vip.spec.namespace.as_deref();
    let namespace = namespace.unwrap_or(vipd_core::vip::VipSpec::NAMESPACE);
    selects(selector, name, |key| match key {
        selector::NAMESPACE_LABEL => Some(namespace),
        other => vip.labels.get(other).map(String::as_str),
    })
}

fn selects_node(selector: &Selector, node: &Node) -> bool {
    selects(selector, &node.name, |key| {
        node.spec.labels.get(key).map(String::as_str)
    })
}

/// By the core's own rules. A name that can't be is found fault with elsewhere.
fn selects<'a>(wire: &Selector, name: &str, label: impl Fn(&str) -> Option<&'a str>) -> bool {
    let Ok(name) = name.parse::<Name>() else {
        return true;
    };
    let expressions = wire.match_expressions.iter().map(|wire| {
        let values = || wire.values.iter().cloned().collect();
        selector::Requirement {
            key: wire.key.clone(),
            operator: match wire.operator {
                Operator::In => selector::Operator::In { values: values() },
                Operator::NotIn => selector::Operator::NotIn { values: values() },
                Operator::Exists => selector::Operator::Exists,
                Operator::DoesNotExist => selector::Operator::DoesNotExist,
            },
        }
    });
    let selector = selector::Selector {
        match_labels: wire.match_labels.clone(),
        match_expressions: expressions.collect(),
    };
    selector.selects(&name, |key| label(key))
}
