//! What is applied: a state with so many VIPs in one pool, and entries that make and delete VIPs there.

use std::fmt;
use std::net::IpAddr;

use anyhow::{Result, anyhow, ensure};
use vipd_core::block::Block;
use vipd_core::command::{Command, Expect, Proposal};
use vipd_core::id::NodeId;
use vipd_core::name::{Labels, Name};
use vipd_core::node::{Interface, Mac, Prefix, Role};
use vipd_core::pool::{Care, PoolSpec};
use vipd_core::service::{Port, PortSpec, Protocol};
use vipd_core::state::State;
use vipd_core::time::Millis;
use vipd_core::vip::{Families, VipSpec};

/// How many VIPs have each address where they share.
pub(super) const SHARERS: u32 = 4;

/// What is allocated, and from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// IPv4 addresses of a /8, while no node can hold any: allocation alone.
    V4,
    /// IPv6 addresses of a /32, the same.
    V6,
    /// IPv4 addresses of a /8, each shared by [`SHARERS`] VIPs.
    Shared,
    /// IPv4 addresses of a /8 that three nodes hold: placed, and let go by their holder before they are free.
    Placed,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::V4, Self::V6, Self::Shared, Self::Placed];

    fn block(self) -> &'static str {
        match self {
            Self::V4 | Self::Shared | Self::Placed => "10.0.0.0/8",
            Self::V6 => "2001:db8::/32",
        }
    }

    fn spec(self, number: u32) -> VipSpec {
        let ipv4 = VipSpec {
            families: Families::Ipv4,
            ..VipSpec::default()
        };
        match self {
            Self::V4 | Self::Placed => ipv4,
            Self::V6 => VipSpec {
                families: Families::Ipv6,
                ..ipv4
            },
            Self::Shared => VipSpec {
                sharing_key: Some(format!("key-{}", number / SHARERS)),
                ports: [(
                    Port {
                        protocol: Protocol::Tcp,
                        port: 1 + (number % SHARERS) as u16,
                    },
                    PortSpec::default(),
                )]
                .into(),
                ..ipv4
            },
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "IPv4 /8",
            Self::V6 => "IPv6 /32",
            Self::Shared => "IPv4 /8, 4 share",
            Self::Placed => "IPv4 /8, 3 nodes",
        })
    }
}

/// A state, and what it is filled with.
pub(super) struct Site {
    kind: Kind,
    pub(super) state: State,
}

impl Site {
    /// A cluster with one empty pool.
    pub(super) fn new(kind: Kind) -> Result<Self> {
        let mut site = Self {
            kind,
            state: State::default(),
        };
        let name = |i: u8| Name::new(&format!("n{i}"));
        let peer = |i: u8| std::net::SocketAddr::from(([192, 0, 2, i], 7400));
        let (token, beat_key) = ([9; 32], [1; 32]);
        site.apply(Command::Bootstrap {
            cluster: [7; 16],
            name: name(1)?,
            peer: peer(1),
            beat_key,
        })?;
        site.apply(Command::PutJoinToken {
            token,
            role: Role::Voter,
            expires: Millis(u64::MAX),
            uses: 2,
        })?;
        for i in 2..=3 {
            let (name, peer) = (name(i)?, peer(i));
            site.apply(Command::Join {
                token,
                name,
                peer,
                beat_key,
            })?;
        }
        if kind == Kind::Placed {
            for node in site.state.nodes().keys().copied().collect::<Vec<_>>() {
                site.up(node)?;
            }
        }
        let block = Block::parse(kind.block()).map_err(|error| anyhow!("{error}"))?;
        site.apply(Command::PutPool {
            name: Name::new("pool")?,
            labels: Labels::new(),
            spec: PoolSpec {
                blocks: vec![block],
                ..PoolSpec::default()
            },
            expect: Expect::Absent,
            care: Care::default(),
        })?;
        Ok(site)
    }

    fn up(&mut self, node: NodeId) -> Result<()> {
        let prefixes = vec![Prefix {
            address: IpAddr::from([10, 255, 255, node.0 as u8]),
            len: 8,
        }];
        self.apply(Command::NodeUp {
            node,
            version: String::new(),
            interfaces: vec![Interface {
                name: "eth0".to_owned(),
                up: true,
                prefixes,
                mac: Mac::default(),
            }],
            labels: Labels::new(),
        })
    }

    /// Applies one entry, which must not be refused.
    fn apply(&mut self, command: Command) -> Result<()> {
        self.apply_all(&[entry(command)])
    }

    /// Applies entries, none of which may be refused.
    pub(super) fn apply_all(&mut self, entries: &[Proposal]) -> Result<()> {
        for entry in entries {
            let index = self.state.applied() + 1;
            if let Err(why) = self.state.apply(index, entry) {
                return Err(anyhow!(
                    "entry {index}, {:?}, is refused: {why}",
                    entry.command
                ));
            }
        }
        Ok(())
    }

    /// The entries that make the VIPs of these numbers.
    pub(super) fn making(&self, numbers: impl IntoIterator<Item = u32>) -> Result<Vec<Proposal>> {
        let make = |number| {
            Ok(entry(Command::PutVip {
                name: name(number)?,
                labels: Labels::new(),
                spec: self.kind.spec(number),
                expect: Expect::Absent,
            }))
        };
        numbers.into_iter().map(make).collect()
    }

    /// The entries that delete the VIPs of these numbers, and by which their addresses' holders say that they have let
    /// go.
    pub(super) fn deleting(&self, numbers: impl IntoIterator<Item = u32>) -> Result<Vec<Proposal>> {
        let mut entries = Vec::new();
        for number in numbers {
            let name = name(number)?;
            let vip = self.state.vips().get(&name);
            let vip = vip.ok_or_else(|| anyhow!("VIP {name} is not there"))?;
            let held = vip.addresses.iter().filter_map(|address| {
                let of = self.state.allocations().get(address)?;
                Some((of.holder?, vec![(*address, of.epoch)]))
            });
            let released = held.map(|(node, addresses)| Command::Released { node, addresses });
            let released: Vec<_> = released.map(entry).collect();
            let expect = Expect::Any;
            entries.push(entry(Command::DeleteVip { name, expect }));
            entries.extend(released);
        }
        Ok(entries)
    }

    /// Fails unless there are so many VIPs, each with its address.
    pub(super) fn ensure_holds(&self, vips: u32) -> Result<()> {
        let (have, allocated) = (self.state.vips().len(), self.state.allocations().len());
        let addresses = match self.kind {
            Kind::V4 | Kind::V6 | Kind::Placed => vips,
            Kind::Shared => vips.div_ceil(SHARERS),
        };
        ensure!(
            have == vips as usize && allocated >= addresses as usize,
            "{}: {have} VIPs with {allocated} addresses, where {vips} with {addresses} should be",
            self.kind
        );
        let held = self.state.allocations().values();
        let held = held.filter(|of| of.holder.is_some()).count();
        let placed = if self.kind == Kind::Placed { vips } else { 0 };
        ensure!(
            held == placed as usize,
            "{}: nodes hold {held} addresses, where {placed} should be",
            self.kind
        );
        Ok(())
    }
}

fn entry(command: Command) -> Proposal {
    let at = Millis(1_000_000);
    let by = None;
    Proposal { at, command, by }
}

/// Names as they come: in no order.
fn name(number: u32) -> Result<Name> {
    let scattered = number.wrapping_mul(0x9E37_79B1).rotate_left(15);
    Ok(Name::new(&format!("vip-{scattered:08x}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_site_fills_and_empties() {
        for kind in Kind::ALL {
            let mut site = Site::new(kind).unwrap();
            let make = site.making(0..20).unwrap();
            site.apply_all(&make).unwrap();
            site.ensure_holds(20).unwrap();
            assert!(site.ensure_holds(19).is_err());
            let delete = site.deleting(0..20).unwrap();
            site.apply_all(&delete).unwrap();
            site.ensure_holds(0).unwrap();
            assert!(site.state.allocations().is_empty(), "{kind}");
        }
    }
}
