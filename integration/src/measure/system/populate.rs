//! Fills a cluster of vipd with VIPs.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::json;

use super::{FIRST_V4, FIRST_V6, many_addresses};
use crate::cluster::{Cluster, PATIENCE, wait};

/// The VIP of all trials with one.
pub(super) const VIP: &str = "www";
/// The pool of all VIPs.
pub(crate) const POOL: &str = "bench";
/// Requests under way at the same time.
const AT_ONCE: usize = 8;
/// How long one request may take while many are under way.
const EACH: Duration = Duration::from_secs(20);
/// How long all VIPs may take to find a holder.
const ALL: Duration = Duration::from_secs(120);

/// Makes a pool and `vips` VIPs; their addresses, once all have a holder.
pub(crate) fn populate(cluster: &Cluster, vips: usize) -> Result<Vec<IpAddr>> {
    let addresses = many_addresses(vips);
    let v4 = format!("{FIRST_V4}-10.77.127.254");
    let v6 = format!("{FIRST_V6}-fd77::1:ffff");
    cluster.vipctl(&["pool", "create", POOL, "--block", &v4, "--block", &v6])?;
    if let [v4, v6] = addresses[..] {
        let body = json!({"name": VIP, "spec": {"pool": POOL, "families": "require_dual", "addresses": [v4, v6]}});
        cluster.leader_api()?.post("/v1/vips", &body)?;
    } else {
        create_all(cluster, &addresses)?;
    }
    let patience = if vips == 1 { PATIENCE } else { ALL };
    wait("all VIPs have a holder", patience, || {
        let states = cluster.leader_api()?.within(EACH).addresses()?;
        let held = states.iter().filter(|state| state.holder.is_some()).count();
        Ok((held == addresses.len()).then_some(()))
    })?;
    Ok(addresses)
}

/// Many VIPs of one address each.
fn create_all(cluster: &Cluster, addresses: &[IpAddr]) -> Result<()> {
    let api = cluster.leader_api()?.within(EACH);
    let share = addresses.len().div_ceil(AT_ONCE);
    thread::scope(|scope| {
        let makers: Vec<_> = addresses
            .chunks(share)
            .map(|part| {
                let api = api.clone();
                scope.spawn(move || {
                    part.iter().try_for_each(|address| {
                        let families = if address.is_ipv4() { "ipv4" } else { "ipv6" };
                        let name = format!("v{}", address.to_string().replace([':', '.'], "-"));
                        let body = json!({"name": name, "spec": {"pool": POOL, "families": families, "addresses": [address]}});
                        api.post("/v1/vips", &body).map(drop)
                    })
                })
            })
            .collect();
        makers.into_iter().try_for_each(|maker| {
            maker
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a thread that makes VIPs panicked")))
                .context("cannot make all VIPs")
        })
    })
}
