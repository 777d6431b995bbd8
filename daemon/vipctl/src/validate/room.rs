//! Whether the pools have addresses enough, added up: for VIPs that can be given theirs by the same few pools only.
//!
//! VIPs that may share are left out, and so are those that make do with either family, and the addresses that VIPs name.

use std::collections::{BTreeMap, BTreeSet};

use vipd_api_types::{Families, VipSpec};
use vipd_core::block::Family;

use super::Finding;
use super::judge::{finding, serving};
use super::world::{Item, World};

/// Names of pools.
type Pools<'a> = BTreeSet<&'a str>;

/// What is found, for both families.
pub(super) fn lacking(world: &World) -> Vec<Finding> {
    let families = Family::ALL.into_iter();
    families
        .flat_map(|family| of_family(world, family))
        .collect()
}

/// For each set of pools that are all that some VIP can turn to: whether those who can turn to no other find room there.
fn of_family(world: &World, family: Family) -> Vec<Finding> {
    let mut askers: BTreeMap<Pools<'_>, Vec<&Item<VipSpec>>> = BTreeMap::new();
    for (name, vip) in &world.vips {
        let pools = serving(world, name, vip).into_iter();
        let pools = pools.filter(|(_, pool)| pool.total(family) > 0);
        let pools: Pools<'_> = pools.map(|(pool, _)| pool.as_str()).collect();
        // Where there is none, that is said of the VIP itself.
        if !pools.is_empty() && asks_for(&vip.spec, family) {
            askers.entry(pools).or_default().push(vip);
        }
    }
    let mut findings: Vec<(&Pools<'_>, Finding)> = Vec::new();
    for pools in askers.keys() {
        let within = askers.iter().filter(|(others, _)| others.is_subset(pools));
        let vips: Vec<_> = within.flat_map(|(_, vips)| vips).collect();
        let offered = pools.iter().filter_map(|pool| world.pools.get(*pool));
        let offered = offered.fold(0, |sum: u128, pool| sum.saturating_add(pool.total(family)));
        let told = findings.iter().any(|(of, _)| of.is_subset(pools));
        if vips.len() as u128 <= offered || told {
            continue;
        }
        let names: Vec<&str> = pools.iter().copied().collect();
        let what = format!(
            "{} VIPs can have their {family} address from {} only, with {offered} of them",
            vips.len(),
            names.join(", ")
        );
        // Where it can be mended: in a file, if one of them is in a file.
        let places = vips.iter().map(|vip| &vip.place);
        let places = places.chain(
            names
                .iter()
                .filter_map(|pool| Some(&world.pools.get(*pool)?.place)),
        );
        let place = places.max_by_key(|place| world.is_from_files(place));
        let place = place.map_or("", String::as_str);
        let title = format!("pool/{}", names[0]);
        let next = "give a pool more blocks, or have another one serve some of the VIPs";
        findings.push((pools, finding(place, &title, what, next)));
    }
    findings.into_iter().map(|(_, finding)| finding).collect()
}

/// Whether the VIP needs an address of the family that nobody else has, from whatever pool serves it.
fn asks_for(spec: &VipSpec, family: Family) -> bool {
    let wanted = match spec.families {
        Families::Ipv4 => family == Family::V4,
        Families::Ipv6 => family == Family::V6,
        Families::RequireDual => true,
        Families::PreferDual => false,
    };
    wanted && spec.addresses.is_empty() && spec.sharing_key.is_none()
}
