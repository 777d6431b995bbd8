//! Metrics, gathered when they are asked for: nothing is counted on a hot path.

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use vipd_core::block::Family as AddressFamily;
use vipd_core::id::{Epoch, NodeId};
use vipd_core::name::Name;
use vipd_core::node::Lease;
use vipd_core::state::State;
use vipd_core::vip::Allocation;

use crate::control::LocalStatus;
use crate::erased::Daemon;

/// Media type of the answer.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Real = Gauge<f64, AtomicU64>;

/// What the API itself counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: Family<Labels, Counter>,
    refused: Family<Labels, Counter>,
}

impl Counters {
    /// Counts one answer.
    pub(crate) fn count(&self, method: &Method, status: StatusCode, reason: Option<&str>) {
        let labels = vec![
            ("method", method.to_string()),
            ("code", status.as_u16().to_string()),
        ];
        self.requests.get_or_create(&labels).inc();
        if let Some(reason) = reason {
            self.refused
                .get_or_create(&vec![("reason", reason.to_owned())])
                .inc();
        }
    }
}

/// All metrics as OpenMetrics text.
pub(crate) fn scrape(daemon: &Daemon) -> String {
    let local = daemon.local();
    let mut registry = Registry::with_prefix("vipd");
    of_node(&mut registry, &local);
    of_host(&mut registry, &local);
    // Only copied under the lock, which applying may wait for.
    let held = daemon.read(|state| {
        of_cluster(&mut registry, state);
        of_pools(&mut registry, state);
        state
            .allocations()
            .iter()
            .map(|(address, of)| Held::new(address, of))
            .collect()
    });
    of_addresses(&mut registry, held, &local);
    registry.register(
        "api_requests",
        "Answers of the API",
        daemon.counters.requests.clone(),
    );
    registry.register(
        "api_refused",
        "Answers of the API that were refusals",
        daemon.counters.refused.clone(),
    );
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => text,
        Err(std::fmt::Error) => String::new(), // writing to a String does not fail
    }
}

fn of_node(registry: &mut Registry, local: &LocalStatus) {
    let build: Family<Labels, Gauge> = Family::default();
    build
        .get_or_create(&vec![
            ("version", local.version.clone()),
            ("node", local.name.clone()),
        ])
        .set(1);
    registry.register("build", "The daemon that answers, always 1", build);
    one(
        registry,
        "leader",
        "Whether this node leads",
        u64::from(local.leader == Some(local.node)),
    );
    one(
        registry,
        "leader_known",
        "Whether this node knows a leader",
        u64::from(local.leader.is_some()),
    );
    one(
        registry,
        "quorum",
        "Whether a majority of the voters is reached",
        u64::from(local.quorum_ok),
    );
    one(registry, "raft_term", "Raft term", local.term);
    one(
        registry,
        "raft_committed_index",
        "Log index known to be committed",
        local.committed,
    );
    one(
        registry,
        "frozen",
        "Whether the node answers without a majority (lease.on_quorum_loss = freeze)",
        u64::from(local.frozen),
    );
    one(
        registry,
        "datapath_ok",
        "Whether the datapath works",
        u64::from(local.datapath_fault.is_none()),
    );
    let lease = local.lease_remaining.unwrap_or_default();
    seconds(
        registry,
        "lease_remaining_seconds",
        "Time left until the kernel goes silent",
        lease,
    );
    let lateness = local.beat_lateness.unwrap_or_default();
    seconds(
        registry,
        "beat_lateness_seconds",
        "Worst lateness of the beat thread lately",
        lateness,
    );
}

/// Metrics of the beats and of what the node noticed on its host.
fn of_host(registry: &mut Registry, local: &LocalStatus) {
    let datagrams: Family<Labels, Counter> = Family::default();
    for (what, count) in &local.beats {
        datagrams.get_or_create(&labelled(what)).inc_by(*count);
    }
    registry.register(
        "beat_datagrams",
        "Datagrams of the beat thread: sent, received, and rejected as forged or from no member",
        datagrams,
    );
    one(
        registry,
        "beat_realtime",
        "Whether the beat thread runs in the real-time class",
        u64::from(local.beats_realtime),
    );
    let noticed: Family<Labels, Counter> = Family::default();
    for what in ["conflict", "programs_lost", "clock_jumped"] {
        let count = local.noticed.get(what).copied().unwrap_or(0);
        noticed.get_or_create(&labelled(what)).inc_by(count);
    }
    registry.register(
        "noticed",
        "What was wrong on this node's host: another host claims an address (reports of the kernel, at most ten a second \
         for each address), programs taken off an interface, the host stood still",
        noticed,
    );
    let claimed = local.addresses.values();
    let claimed = claimed.filter(|found| found.claimed_by.is_some()).count();
    one(
        registry,
        "addresses_claimed_by_others",
        "Addresses held by this node that another host claimed in the last minute",
        claimed as u64,
    );
}

fn labelled(what: &str) -> Labels {
    vec![("what", what.to_owned())]
}

fn of_cluster(registry: &mut Registry, state: &State) {
    one(
        registry,
        "raft_applied_index",
        "Log index applied by this node",
        state.applied(),
    );
    one(
        registry,
        "vips",
        "VIPs in the cluster",
        state.vips().len() as u64,
    );
    let up: Family<Labels, Gauge> = Family::default();
    for node in state.nodes().values() {
        up.get_or_create(&vec![("node", node.name.to_string())])
            .set(i64::from(node.lease == Lease::Up));
    }
    registry.register("node_up", "Whether the cluster counts on the node", up);
}

/// What the metrics tell of an allocation.
struct Held {
    address: IpAddr,
    vip: Name,
    holder: Option<NodeId>,
    epoch: Epoch,
}

impl Held {
    fn new(address: IpAddr, of: &Allocation) -> Self {
        Self {
            address,
            vip: of.vip.clone(),
            holder: of.holder,
            epoch: of.epoch,
        }
    }
}

fn of_addresses(registry: &mut Registry, addresses: Vec<Held>, local: &LocalStatus) {
    let holder: Family<Labels, Gauge> = Family::default();
    let unheld: Family<Labels, Gauge> = Family::default();
    let epoch: Family<Labels, Gauge<u64, AtomicU64>> = Family::default();
    let answering: Family<Labels, Gauge> = Family::default();
    for held in addresses {
        let labels = address_labels(held.vip.to_string(), held.address);
        holder
            .get_or_create(&labels)
            .set(i64::from(held.holder == Some(local.node)));
        unheld
            .get_or_create(&labels)
            .set(i64::from(held.holder.is_none()));
        epoch.get_or_create(&labels).set(held.epoch.0);
        let answers = local
            .addresses
            .get(&held.address)
            .is_some_and(|found| found.answering);
        answering.get_or_create(&labels).set(i64::from(answers));
    }
    registry.register("address_holder", "Whether this node is the holder", holder);
    registry.register("address_unheld", "Whether no node is the holder", unheld);
    registry.register(
        "address_epoch",
        "Fencing token; grows with each change of holder",
        epoch,
    );
    registry.register(
        "address_answering",
        "Whether this node's kernel answers for the address",
        answering,
    );
    // Of all addresses together: thousands of them, eight series each, are more than a collector wants.
    let packets: Family<Labels, Counter> = Family::default();
    for (what, count) in local.addresses.values().flat_map(|found| &found.counters) {
        packets.get_or_create(&labelled(what)).inc_by(*count);
    }
    registry.register(
        "datapath_packets",
        "Packets that this node's kernel answered, dropped or let pass",
        packets,
    );
}

fn of_pools(registry: &mut Registry, state: &State) {
    let total: Family<Labels, Real> = Family::default();
    let used: Family<Labels, Real> = Family::default();
    let available: Family<Labels, Real> = Family::default();
    for pool in state.pools().values() {
        for family in AddressFamily::ALL {
            let usage = state.usage(pool, family);
            if usage.total == Some(0) {
                continue;
            }
            let labels = vec![
                ("pool", pool.name.to_string()),
                ("family", family.to_string()),
            ];
            total
                .get_or_create(&labels)
                .set(usage.total.unwrap_or(u128::MAX) as f64);
            used.get_or_create(&labels).set(usage.used as f64);
            available
                .get_or_create(&labels)
                .set(usage.available.unwrap_or(u128::MAX) as f64);
        }
    }
    registry.register(
        "pool_addresses",
        "Addresses that the pool can ever hand out",
        total,
    );
    registry.register("pool_addresses_used", "Addresses that are handed out", used);
    registry.register(
        "pool_addresses_available",
        "Addresses that are free now; a pool that is disabled or conflicting hands out none of them",
        available,
    );
    one(
        registry,
        "vips_unsatisfied",
        "VIPs that wait for an address that they need",
        state.waiting() as u64,
    );
    one(
        registry,
        "state_bytes",
        "What pools, VIPs, policies and their addresses may come to take of the state",
        state.size(),
    );
    one(
        registry,
        "state_bytes_limit",
        "The most of it: what would pass that is refused (state_full)",
        vipd_core::state::MOST,
    );
}

fn address_labels(vip: String, address: IpAddr) -> Labels {
    vec![("vip", vip), ("address", address.to_string())]
}

fn one(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge: Gauge<u64, AtomicU64> = Gauge::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn seconds(registry: &mut Registry, name: &str, help: &str, value: Duration) {
    let gauge: Real = Gauge::default();
    gauge.set(value.as_secs_f64());
    registry.register(name, help, gauge);
}
