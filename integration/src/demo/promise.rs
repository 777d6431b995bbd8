//! What the product promises, held against what was seen.

use std::net::IpAddr;

use anyhow::Result;

use super::acts::Act;
use super::table::millis;
use crate::bench::Bench;

/// One promise and whether it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    pub(super) kept: bool,
    pub(super) text: String,
}

/// VIP, address and pool of every allocation.
pub(super) fn allocations(bench: &Bench) -> Result<Vec<(String, IpAddr, String)>> {
    let mut all: Vec<_> = bench
        .cluster()
        .addresses()?
        .into_iter()
        .map(|s| (s.vip, s.address, s.pool))
        .collect();
    all.sort();
    Ok(all)
}

/// Judges the whole show.
pub(super) fn check(
    bench: &Bench,
    acts: &[Act],
    before: &[(String, IpAddr, String)],
) -> Result<Vec<Promise>> {
    let mut promises = Vec::new();
    for act in acts {
        if let (Some(limit), Some(&worst)) = (act.limit, act.outages.iter().max()) {
            promises.push(Promise {
                kept: worst < limit,
                text: format!(
                    "{}: {} without an answer, promised is less than {}",
                    act.what,
                    millis(worst),
                    millis(limit)
                ),
            });
        }
    }
    for act in acts.iter().filter(|act| act.what.ends_with("comes back")) {
        promises.push(Promise {
            kept: act.from == act.to,
            text: format!(
                "{}: the VIP stays on {} (it is on {})",
                act.what, act.from, act.to
            ),
        });
    }
    for &address in bench.addresses() {
        let verdict = bench.verdict(address)?;
        let text = match verdict.strays.first() {
            None => format!(
                "{address}: never two at once, {} handovers",
                verdict.handovers
            ),
            Some(stray) => format!(
                "{address}: two answered for {}; {} frames by those who did not hold it, the first by {} ({}) at {}",
                millis(verdict.overlap),
                verdict.strays.len(),
                super::host_of(bench.lab(), stray.mac),
                stray.how,
                stray.at,
            ),
        };
        promises.push(Promise {
            kept: verdict.is_clean(),
            text,
        });
    }
    let after = allocations(bench)?;
    promises.push(Promise {
        kept: after == before,
        text: if after == before {
            format!("allocations unchanged: {} addresses", after.len())
        } else {
            format!("allocations changed: they were {before:?}, they are {after:?}")
        },
    });
    Ok(promises)
}
