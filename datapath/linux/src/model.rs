//! What the daemon says to a datapath and hears from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::IpAddr,
    sync::Arc,
};

pub use vipd_datapath_common::Counter;

use crate::{
    DatapathError,
    balance::{LeftOut, Lens, Records, Services},
    probe::Prober,
};

/// A network interface of this host that can carry virtual IPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index in this network namespace.
    pub index: u32,
    /// Its MAC.
    pub mac: [u8; 6],
    /// Switched on, with a carrier, and not without the programs although they were put on it.
    pub up: bool,
    /// Addresses and prefix lengths, without those that vipd itself put there: a virtual IP is no
    /// evidence of the subnet it is in.
    pub prefixes: Vec<(IpAddr, u8)>,
}

/// Whether this node answers for an address (as long as its lease holds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It does: it is the holder.
    Open,
    /// It does not: a standby that is prepared, or a former holder.
    Shut,
    /// It does not, and hands packets on: a holder that is asked to give the address up, or has
    /// just done so. What [`vipd_datapath_common::handing`] says makes that safe.
    Hand {
        /// MAC of the next holder's interface.
        to: [u8; 6],
        /// CLOCK_BOOTTIME ns until which to hand on at most.
        until_ns: u64,
        /// Within this node's lease only: it is the holder still.
        leased: bool,
    },
    /// It answers no question, but the address is on the interface, and packets that the silent
    /// holder hands to this node are served: the next holder.
    Take {
        /// MAC of the holder's interface.
        from: [u8; 6],
    },
}

/// What is wanted of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedAddress {
    /// The interface that carries it.
    pub interface: String,
    /// Whether this node answers.
    pub gate: Gate,
    /// Fencing token: a new one is announced again.
    pub epoch: u64,
}

/// The whole state that a datapath shall have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Managed addresses. An address that is not here is silenced and forgotten.
    ///
    /// Name the addresses of other holders too, with [`Gate::Shut`]: such an entry costs nothing,
    /// prepares the claim, and goes on fencing what an old connection of this host still sends
    /// from an address it has lost (Linux lets an IPv6 connection outlive its address).
    pub addresses: BTreeMap<IpAddr, WantedAddress>,
    /// Interfaces that get the programs even while no address is on them. Name every interface
    /// on which clients could ask for a virtual IP: Linux answers ARP for an address on any
    /// interface, and where no program sits nothing suppresses that.
    pub interfaces: BTreeSet<String>,
    /// What is balanced, for every address that this node holds or may come to hold: a takeover then writes nothing
    /// but the address's entry. The same `Arc` as last time says that nothing has changed.
    pub services: Arc<Services>,
    /// The daemon ends after this: nothing is left for later.
    pub leaving: bool,
}

/// The lease of this node in the kernel. Held by the beat thread.
pub trait NodeGate: Send {
    /// Answer until this instant (CLOCK_BOOTTIME ns, see [`crate::boottime_ns`]) and no longer;
    /// 0 is silence at once. One atomic store: no system call, lock or allocation.
    ///
    /// Without effect until [`Datapath::apply`] has succeeded once: what an earlier daemon left
    /// open must not come alive by the lease of a later one.
    fn set_deadline(&mut self, boottime_ns: u64);

    /// The deadline in the kernel: what an earlier daemon left there, until the first that took effect.
    fn deadline(&self) -> u64;
}

/// What the programs counted, by address and by [`Counter::name`].
pub type Counts = BTreeMap<IpAddr, BTreeMap<&'static str, u64>>;

/// Reads the programs' counters, on any thread, for whoever asks: nobody pays for what nobody asks.
pub trait Meter: Send + Sync {
    /// What was counted for these addresses, over all CPUs. With thousands of them it can be some seconds old, and then
    /// lacks those that have just come.
    ///
    /// # Errors
    /// If the kernel does not let the map be read.
    fn counters(
        &self,
        addresses: &mut dyn Iterator<Item = IpAddr>,
    ) -> Result<Counts, DatapathError>;
}

/// A datapath: wanted state in, packets out.
pub trait Datapath: Send {
    /// Interfaces that can carry virtual IPs: Ethernet, no loopback.
    fn interfaces(&mut self) -> impl Future<Output = Result<Vec<Interface>, DatapathError>> + Send;

    /// Makes it so. First what the difference to the last known state demands (microseconds for
    /// an address that is opened or shut), then an audit: programs, map entries and addresses are
    /// read back from the kernel and mended. Addresses that fail do not hold up the others; the
    /// error then names all of them. Call it on every change and on a timer.
    fn apply(&mut self, wanted: &Wanted) -> impl Future<Output = Result<(), DatapathError>> + Send;

    /// The lease of this node, for the beat thread.
    fn node_gate(&mut self) -> Result<Box<dyn NodeGate>, DatapathError>;

    /// The counters, for whoever shows them.
    fn meter(&mut self) -> Result<Box<dyn Meter>, DatapathError>;

    /// The flows, for whoever carries them to another node.
    fn records(&mut self) -> Result<Box<dyn Records>, DatapathError>;

    /// Asks the link whether somebody has addresses, for whoever is about to announce them.
    fn prober(&mut self) -> Result<Box<dyn Prober>, DatapathError>;

    /// What is balanced, for whoever shows it.
    fn lens(&mut self) -> Result<Box<dyn Lens>, DatapathError>;

    /// What the datapath really does at this moment.
    fn observe(&mut self) -> impl Future<Output = Result<Observed, DatapathError>> + Send;

    /// Takes everything away: programs, pins and the addresses that vipd added.
    fn remove(self) -> impl Future<Output = Result<(), DatapathError>> + Send
    where
        Self: Sized;
}

/// The state of a datapath, read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The clock at this observation (CLOCK_BOOTTIME ns).
    pub now_ns: u64,
    /// The node's deadline in the kernel.
    pub deadline_ns: u64,
    /// The managed addresses.
    pub addresses: BTreeMap<IpAddr, ObservedAddress>,
    /// Interfaces that have the programs.
    pub interfaces: BTreeSet<String>,
    /// Claims of others on addresses that are open here, since the last observation (the newest
    /// 256).
    pub conflicts: Vec<Conflict>,
    /// Interfaces that were found without the programs since the last observation.
    pub lost: Vec<Lost>,
    /// Backends that get nothing from this host although they are wanted.
    pub left_out: Arc<[LeftOut]>,
}

/// The state of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedAddress {
    /// The interface that it is answered for on.
    pub interface: String,
    /// Its gate.
    pub gate: Gate,
    /// Its epoch.
    pub epoch: u64,
    /// Whether it sits on the interface.
    pub present: bool,
    /// Whether somebody else put it there: then vipd does not take it away.
    pub foreign: bool,
    /// Whether this node answers for it at this moment: open, before the deadline, present, and
    /// programs on the interface.
    pub answering: bool,
}

/// Somebody else claimed an address that is open here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The address.
    pub address: IpAddr,
    /// The interface on which that was heard.
    pub interface: String,
    /// Who claims it.
    pub mac: [u8; 6],
    /// When (CLOCK_BOOTTIME ns).
    pub time_ns: u64,
}

/// Somebody took the programs off an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The interface.
    pub interface: String,
    /// They are there again. If not, the addresses were taken off it, and it counts as down.
    pub back: bool,
}
