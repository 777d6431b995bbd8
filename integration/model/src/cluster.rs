//! The cluster that is modelled: three or five nodes, one pool, one VIP with one address, which node 1 holds.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use vipd_core::block::Block;
use vipd_core::command::{Command, Expect};
use vipd_core::id::NodeId;
use vipd_core::name::{Labels, Name};
use vipd_core::node::{Interface, Mac, Prefix, Role};
use vipd_core::pool::PoolSpec;
use vipd_core::time::Millis;
use vipd_core::vip::VipSpec;

use crate::log::Entry;

/// The VIP's one address.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const TOKEN: [u8; 32] = [1; 32];
/// The third log entry is the first join: node 1 is 1, the others are 3, 4, ….
const FIRST_JOIN: u64 = 3;

/// How the nodes are called in lists of voters: by their place, from 0.
type Places = &'static [usize];

/// Who is in the cluster, and who votes when.
#[derive(Clone, Debug)]
pub struct Cluster {
    nodes: Vec<NodeId>,
    names: Vec<Name>,
    /// The memberships that follow each other; the first is that of the set-up.
    memberships: Vec<Vec<BTreeSet<NodeId>>>,
}

impl Cluster {
    /// `size` nodes and the memberships they go through, each one set of voters or two while joint.
    ///
    /// # Errors
    /// Never with the names made here; the parser of names says.
    pub fn new(size: usize, memberships: &[&[Places]]) -> Result<Self> {
        let others = FIRST_JOIN..FIRST_JOIN + size as u64 - 1;
        let nodes: Vec<NodeId> = std::iter::once(1).chain(others).map(NodeId).collect();
        let names = (1..=size).map(|n| Name::new(&format!("n{n}")));
        let names = names
            .collect::<Result<_, _>>()
            .map_err(|why| anyhow::anyhow!("a node of the model: {why}"))?;
        let set = |places: &Places| places.iter().map(|place| nodes[*place]).collect();
        let memberships = memberships
            .iter()
            .map(|sets| sets.iter().map(set).collect())
            .collect();
        Ok(Self {
            nodes,
            names,
            memberships,
        })
    }

    /// How many nodes there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes, by place.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// The place of a node.
    #[must_use]
    pub fn place(&self, node: NodeId) -> Option<usize> {
        self.nodes.iter().position(|id| *id == node)
    }

    /// The memberships, in order.
    #[must_use]
    pub fn memberships(&self) -> &[Vec<BTreeSet<NodeId>>] {
        &self.memberships
    }

    /// The commands that make it, up to a running VIP. A membership entry belongs behind the last join.
    ///
    /// # Errors
    /// Never with the block named here; its parser says.
    pub fn set_up(&self) -> Result<Vec<Command>> {
        let mut commands = vec![
            Command::Bootstrap {
                cluster: [0; 16],
                name: self.names[0].clone(),
                peer: peer(0),
                beat_key: [0; 32],
            },
            Command::PutJoinToken {
                token: TOKEN,
                role: Role::Voter,
                expires: Millis(u64::MAX),
                uses: u32::MAX,
            },
        ];
        commands.extend((1..self.size()).map(|place| Command::Join {
            token: TOKEN,
            name: self.names[place].clone(),
            peer: peer(place),
            beat_key: [0; 32],
        }));
        let block = "10.0.0.0/30"
            .parse()
            .context("the block of the model's pool")?;
        commands.push(Command::PutPool {
            name: self.names[0].clone(),
            labels: Labels::new(),
            spec: PoolSpec {
                blocks: vec![Block::Cidr(block)],
                ..PoolSpec::default()
            },
            expect: Expect::Any,
            care: vipd_core::pool::Care::default(),
        });
        commands.extend(self.nodes.iter().map(|node| self.up(*node)));
        commands.push(self.put());
        Ok(commands)
    }

    /// An entry as the command that the real state knows; `None` for what is no command or names nobody.
    #[must_use]
    pub fn command(&self, entry: Entry) -> Option<Command> {
        let name = |node| self.place(node).map(|place| self.names[place].clone());
        Some(match entry {
            Entry::Up(node) => self.up(node),
            Entry::Down {
                node,
                epoch,
                membership,
            } => Command::NodeDown {
                node,
                epoch,
                membership,
            },
            Entry::Report { node, membership } => Command::NodeReport {
                node,
                interfaces: interfaces(self.place(node)?),
                membership,
            },
            Entry::Released { node, token } => Command::Released {
                node,
                addresses: vec![(ADDRESS, token)],
            },
            Entry::Drain(node) => Command::SetDrained {
                node: name(node)?,
                drained: true,
            },
            Entry::Move(node) => Command::MoveVip {
                name: self.names[0].clone(),
                to: name(node)?,
            },
            Entry::Delete => Command::DeleteVip {
                name: self.names[0].clone(),
                expect: Expect::Any,
            },
            Entry::Put => self.put(),
            Entry::Voters(_) => return None,
        })
    }

    fn up(&self, node: NodeId) -> Command {
        Command::NodeUp {
            node,
            version: String::new(),
            interfaces: interfaces(self.place(node).unwrap_or_default()),
            labels: Labels::new(),
        }
    }

    fn put(&self) -> Command {
        Command::PutVip {
            name: self.names[0].clone(),
            labels: Labels::new(),
            spec: VipSpec {
                addresses: vec![ADDRESS],
                ..VipSpec::default()
            },
            expect: Expect::Any,
        }
    }
}

fn host(place: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(
        10,
        0,
        1,
        u8::try_from(place).unwrap_or(u8::MAX),
    ))
}

fn peer(place: usize) -> SocketAddr {
    SocketAddr::new(host(place), 7400)
}

fn interfaces(place: usize) -> Vec<Interface> {
    vec![Interface {
        name: "eth0".to_owned(),
        up: true,
        prefixes: vec![Prefix {
            address: host(place),
            len: 16,
        }],
        mac: Mac([2, 0, 0, 0, 0, place as u8]),
    }]
}
