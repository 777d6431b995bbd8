//! Nodes: the members of the cluster and what they can announce.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use crate::block::{Family, number};
use crate::codec::{DecodeError, Reader, Wire, Writer, wire_enum, wire_struct};
use crate::id::{Epoch, NodeId, Revision};
use crate::name::{Labels, Name};
use crate::time::Millis;

/// What a node is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Has a vote and holds VIPs.
    #[default]
    Voter,
    /// Holds VIPs, has no vote.
    Agent,
    /// Has a vote, never holds VIPs: the third of a two-node site.
    Witness,
}

wire_enum!(Role { 0 => Voter, 1 => Agent, 2 => Witness });

impl Role {
    /// Whether such a node is a Raft member.
    #[must_use]
    pub fn votes(self) -> bool {
        match self {
            Self::Voter | Self::Witness => true,
            Self::Agent => false,
        }
    }

    /// Whether such a node may hold VIPs.
    #[must_use]
    pub fn holds(self) -> bool {
        match self {
            Self::Voter | Self::Agent => true,
            Self::Witness => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Voter => "voter",
            Self::Agent => "agent",
            Self::Witness => "witness",
        })
    }
}

impl core::str::FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "voter" => Ok(Self::Voter),
            "agent" => Ok(Self::Agent),
            "witness" => Ok(Self::Witness),
            other => Err(alloc::format!(
                "role {other:?} is not one of voter, agent, witness"
            )),
        }
    }
}

/// A subnet on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// An address in it (the node's own).
    pub address: IpAddr,
    /// Its length in bits, at most 32 or 128.
    pub len: u8,
}

impl Prefix {
    /// Whether `address` is on this subnet.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let family = Family::of(self.address);
        let differ = number(self.address) ^ number(address);
        // Asked of every node's prefixes for every address that is placed: so, and not by first and last address.
        let host_bits = family.bits().checked_sub(u32::from(self.len));
        family == Family::of(address)
            && host_bits.is_some_and(|bits| differ.checked_shr(bits).unwrap_or(0) == 0)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl Wire for Prefix {
    fn encode(&self, out: &mut Writer) {
        self.address.encode(out);
        self.len.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let prefix = Self {
            address: IpAddr::decode(input)?,
            len: u8::decode(input)?,
        };
        match prefix.address {
            IpAddr::V4(_) if prefix.len > 32 => Err(DecodeError::Invalid("prefix length")),
            IpAddr::V4(_) | IpAddr::V6(_) if prefix.len > 128 => {
                Err(DecodeError::Invalid("prefix length"))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => Ok(prefix),
        }
    }
}

/// An interface that a node may announce on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface {
    /// Its name on the node.
    pub name: String,
    /// Administratively up and with carrier.
    pub up: bool,
    /// Its subnets.
    pub prefixes: Vec<Prefix>,
    /// Its MAC; zeros when a vipd that reported it did not tell.
    pub mac: Mac,
}

wire_struct!(Interface { name, up, prefixes } since 2 { mac });

/// The MAC of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Wire for Mac {
    fn encode(&self, out: &mut Writer) {
        self.0.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(Wire::decode(input)?))
    }
}

/// Whether a node's lease can still be running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lease {
    /// Never had one since it joined.
    #[default]
    Never,
    /// May be announcing, under its epoch.
    Up,
    /// Withdrawn: a majority has fenced its epoch.
    Down,
}

wire_enum!(Lease { 0 => Never, 1 => Up, 2 => Down });

/// How much a node shall hold, relative to the others: 0 to 100. A node of 0 is given nothing new, and keeps what
/// it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u8);

impl Weight {
    /// The greatest, which a node has unless it was told otherwise.
    pub const MAX: Self = Self(100);
    /// Nothing new.
    pub const ZERO: Self = Self(0);

    /// A weight.
    ///
    /// # Errors
    /// In words, above 100.
    pub fn new(weight: u8) -> Result<Self, String> {
        if weight > Self::MAX.0 {
            return Err(alloc::format!("weight {weight} is not within 0 to 100"));
        }
        Ok(Self(weight))
    }

    /// As a number.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::MAX
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Wire for Weight {
    fn encode(&self, out: &mut Writer) {
        self.0.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::new(u8::decode(input)?).map_err(|_| DecodeError::Invalid("weight"))
    }
}

/// A node as the cluster holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Its name, unique.
    pub name: Name,
    /// Its labels, from its own configuration.
    pub config_labels: Labels,
    /// What it is for.
    pub role: Role,
    /// Where its peers reach it: TCP for Raft, UDP on the same port for beats.
    pub peer: SocketAddr,
    /// Its static X25519 public key, from which the keys of its beats derive.
    pub beat_key: [u8; 32],
    /// The version of vipd it runs.
    pub version: String,
    /// Its interfaces, as it last reported.
    pub interfaces: Vec<Interface>,
    /// The operator wants no VIP here.
    pub drained: bool,
    /// It is shutting down: as drained, until it comes up again.
    pub retiring: bool,
    /// Whether its lease can be running.
    pub lease: Lease,
    /// The entry that began that lease.
    pub epoch: Epoch,
    /// The last membership entry it reported to have applied: it counts support by this one or a later one.
    pub membership: u64,
    /// When it joined.
    pub joined: Millis,
    /// The entry that last changed it.
    pub revision: Revision,
    /// Labels that the operator has set; they win over those of its configuration.
    pub set_labels: Labels,
    /// How much it shall hold, relative to the others.
    pub weight: Weight,
    /// When it last came back: began a lease, was undrained, had an interface come up, was given a weight. From then
    /// on the delay of a [`crate::vip::Failback`] counts.
    pub steady_since: Millis,
}

wire_struct!(Node {
    id,
    name,
    config_labels,
    role,
    peer,
    beat_key,
    version,
    interfaces,
    drained,
    retiring,
    lease,
    epoch,
    membership,
    joined,
    revision,
} since 2 { set_labels, weight, steady_since });

impl Node {
    /// The interface on which this node could announce `address`: the one named, if up, else the first that is
    /// up and has a subnet containing it. An off-subnet node is never chosen. Policies may say otherwise, see
    /// [`crate::state::State::interface_for`].
    #[must_use]
    pub fn interface_for(&self, address: IpAddr, named: Option<&str>) -> Option<&str> {
        self.interfaces_for(address, named).next()
    }

    /// All such interfaces.
    pub(crate) fn interfaces_for(
        &self,
        address: IpAddr,
        named: Option<&str>,
    ) -> impl Iterator<Item = &str> {
        self.interfaces
            .iter()
            .filter(|interface| interface.up)
            .filter(move |interface| match named {
                Some(name) => interface.name == name,
                None => interface
                    .prefixes
                    .iter()
                    .any(|prefix| prefix.contains(address)),
            })
            .map(|interface| interface.name.as_str())
    }

    /// The value of a label: what the operator set, else what the node's configuration says.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        let value = self.set_labels.get(key);
        value
            .or_else(|| self.config_labels.get(key))
            .map(String::as_str)
    }

    /// All its labels.
    #[must_use]
    pub fn labels(&self) -> Labels {
        let mut labels = self.config_labels.clone();
        labels.extend(self.set_labels.clone());
        labels
    }

    /// The MAC of its interface of this name, if it is known.
    #[must_use]
    pub fn mac_of(&self, interface: &str) -> Option<Mac> {
        let mut interfaces = self.interfaces.iter();
        let found = interfaces.find(|found| found.name == interface)?;
        Some(found.mac).filter(|mac| *mac != Mac::default())
    }

    /// An own address beside `address`: on an interface that is up, in a subnet with it; else another one of its family.
    #[must_use]
    pub fn beside(&self, address: IpAddr) -> Option<IpAddr> {
        let up = self.interfaces.iter().filter(|interface| interface.up);
        let own = up.flat_map(|interface| interface.prefixes.iter());
        let family = Family::of(address);
        let mut own = own.filter(|prefix| Family::of(prefix.address) == family);
        let beside = own.clone().find(|prefix| prefix.contains(address));
        beside.or_else(|| own.next()).map(|prefix| prefix.address)
    }

    /// Whether `address` is the node's own: where peers reach it, or on one of its interfaces.
    #[must_use]
    pub fn owns(&self, address: IpAddr) -> bool {
        let mut prefixes = self
            .interfaces
            .iter()
            .flat_map(|interface| interface.prefixes.iter());
        self.peer.ip() == address || prefixes.any(|prefix| prefix.address == address)
    }

    /// Why the node cannot hold any address, if it cannot.
    ///
    /// # Errors
    /// The reason, as `it is ...`.
    pub fn can_hold_any(&self) -> Result<(), &'static str> {
        if !self.role.holds() {
            Err("it is a witness")
        } else if self.lease != Lease::Up {
            Err("it is down")
        } else if self.drained {
            Err("it is drained")
        } else if self.retiring {
            Err("it is shutting down")
        } else {
            Ok(())
        }
    }

    /// Whether the node may be given an address at all.
    #[must_use]
    pub fn accepts(&self) -> bool {
        self.can_hold_any().is_ok() && self.weight > Weight::ZERO
    }
}

/// The voter sets of one membership entry: one, or two while the change is joint. Support and takeovers need a
/// majority of each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VoterSets {
    /// The sets, none empty.
    pub sets: Vec<BTreeSet<NodeId>>,
}

wire_struct!(VoterSets { sets });

impl VoterSets {
    /// Whether `have` holds a majority of each set.
    #[must_use]
    pub fn majority(&self, have: impl Fn(NodeId) -> bool) -> bool {
        self.sets
            .iter()
            .all(|set| set.iter().filter(|voter| have(**voter)).count() * 2 > set.len())
    }

    /// Every voter of any set.
    #[must_use]
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.sets.iter().flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::IpNet;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_prefix_contains_what_its_network_has(a: u128, b: u128, same in 0u32..=128, len in 0u8..=130, six: [bool; 2]) {
            // Else no two of them would ever have much in common.
            let b = a ^ b.checked_shr(same).unwrap_or(0);
            let ip = |n: u128, six| match six {
                true => IpAddr::from(n.to_be_bytes()),
                false => IpAddr::from(((n >> 96) as u32).to_be_bytes()),
            };
            let (address, other) = (ip(a, six[0]), ip(b, six[1]));
            let net = IpNet::new(address, len);
            let contains = net.is_ok_and(|net| net.contains(&other));
            prop_assert_eq!(Prefix { address, len }.contains(other), contains);
        }
    }
}
