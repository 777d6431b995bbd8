//! Pools.

use vipd_api_types as wire;
use vipd_core::block::{Block, Family};
use vipd_core::pool::{Pool, PoolSpec};
use vipd_core::state::{Clash, State};
use vipd_core::time::Millis;

use super::selector::{selector_from_wire, selector_to_wire};
use crate::clock::rfc3339;
use crate::problem::Refusal;

/// What a user says about a pool.
pub(crate) fn spec_from_wire(spec: &wire::PoolSpec) -> Result<PoolSpec, Refusal> {
    Ok(PoolSpec {
        blocks: spec
            .blocks
            .iter()
            .map(block_from_wire)
            .collect::<Result<_, _>>()?,
        allow_first_last: spec.allow_first_last,
        disabled: spec.disabled,
        auto_assign: spec.auto_assign,
        priority: spec.priority,
        selector: spec
            .selector
            .as_ref()
            .map(|selector| selector_from_wire("selector", selector))
            .transpose()?,
        cooldown: Millis(spec.cooldown.0),
        reclaim: spec.reclaim,
    })
}

fn block_from_wire(block: &wire::Block) -> Result<Block, Refusal> {
    let ambiguous = match (&block.cidr, &block.start, &block.stop) {
        (None, None, None) => {
            Some("is empty: give cidr, or start and stop, or start alone".to_owned())
        }
        (Some(cidr), Some(other), _) | (Some(cidr), None, Some(other)) => Some(format!(
            "has both cidr {cidr} and {other}: give one or the other"
        )),
        (None, None, Some(stop)) => Some(format!("has stop {stop} but no start: add it")),
        (Some(cidr), None, None) if !cidr.contains('/') => Some(format!(
            "has cidr {cidr:?} without a prefix length: write {cidr}/32, /24 or the like, or use start"
        )),
        (Some(_), None, None) | (None, Some(_), _) => None,
    };
    match ambiguous {
        Some(why) => Err(Refusal::invalid(format!("a block {why}"))),
        None => Block::parse(&block.to_short()).map_err(Refusal::invalid),
    }
}

fn block_to_wire(block: &Block) -> wire::Block {
    match block {
        Block::Cidr(net) => wire::Block {
            cidr: Some(net.to_string()),
            ..wire::Block::default()
        },
        Block::Range { start, stop } => wire::Block {
            start: Some(start.to_string()),
            stop: (start != stop).then(|| stop.to_string()),
            cidr: None,
        },
    }
}

/// The same the other way.
pub(crate) fn spec_to_wire(spec: &PoolSpec) -> wire::PoolSpec {
    wire::PoolSpec {
        blocks: spec.blocks.iter().map(block_to_wire).collect(),
        allow_first_last: spec.allow_first_last,
        disabled: spec.disabled,
        auto_assign: spec.auto_assign,
        priority: spec.priority,
        selector: spec.selector.as_ref().map(selector_to_wire),
        cooldown: wire::Duration(spec.cooldown.0),
        reclaim: spec.reclaim,
    }
}

/// A pool and how full it is.
pub(crate) fn to_wire(state: &State, pool: &Pool) -> wire::Pool {
    wire::Pool {
        name: pool.name.to_string(),
        labels: pool.labels.clone(),
        generation: pool.generation,
        revision: pool.revision.0,
        spec: spec_to_wire(&pool.spec),
        status: wire::PoolStatus {
            conflicting: state.clash(&pool.name).is_some(),
            families: wire::FamilyCounts {
                ipv4: count(state, pool, Family::V4),
                ipv6: count(state, pool, Family::V6),
            },
            conditions: state
                .clash(&pool.name)
                .map(|clash| conflict(pool, clash))
                .into_iter()
                .chain(aside(state, pool))
                .collect(),
        },
    }
}

fn conflict(pool: &Pool, clash: &Clash) -> wire::Condition {
    let Clash {
        block,
        other,
        pool: with,
    } = clash;
    let message = if *with == pool.name {
        format!("its blocks {block} and {other} overlap: it hands out nothing until that ends")
    } else {
        format!(
            "its block {block} overlaps block {other} of the older pool {with}: it hands out nothing until that ends"
        )
    };
    wire::Condition {
        kind: "usable".to_owned(),
        status: false,
        reason: "pool_conflicting".to_owned(),
        message,
        since: None,
    }
}

/// The addresses that are set aside since another host has them.
fn aside(state: &State, pool: &Pool) -> Option<wire::Condition> {
    let aside = state.set_aside(&pool.name);
    let aside: Vec<String> = aside
        .filter_map(|(address, cooling)| {
            let claim = cooling.in_use.as_ref()?;
            let until = rfc3339(cooling.until);
            Some(format!("{address} until {until} ({claim})"))
        })
        .collect();
    (!aside.is_empty()).then(|| wire::Condition {
        kind: "unclaimed".to_owned(),
        status: false,
        reason: "addresses_in_use".to_owned(),
        message: format!(
            "other hosts have addresses of it, which are set aside: {}: take them off these hosts, or out of the pool",
            aside.join(", ")
        ),
        since: None,
    })
}

fn count(state: &State, pool: &Pool, family: Family) -> Option<wire::Count> {
    if pool
        .spec
        .blocks
        .iter()
        .all(|block| block.family() != family)
    {
        return None;
    }
    let usage = state.usage(pool, family);
    Some(wire::Count {
        total: usage.total.unwrap_or(u128::MAX),
        used: usage.used,
        available: usage.available.unwrap_or(u128::MAX),
    })
}
