//! What is done to the holder.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, anyhow};

/// One way to lose a holder, or to disturb it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Its processes are killed and its link is gone, without a word.
    PowerOff,
    /// The same, and the holder is the leader of the cluster too.
    LeaderAndHolder,
    /// Its port on the switch goes down; the host sees the carrier vanish.
    PortDown,
    /// Its daemon is asked to end (SIGTERM).
    Stop,
    /// The operator drains the node.
    Drain,
    /// The operator moves the VIP to another node.
    Move,
    /// Its daemon is killed; its kernel lives on.
    Kill9,
    /// Its daemon is stopped (SIGSTOP); its kernel lives on.
    Freeze,
    /// Its link is up, but no frame passes it.
    Partition,
    /// It is cut off from the other servers, and the client still reaches it.
    PartitionPeers,
    /// It hears none of the other servers, though they hear it.
    Deaf,
    /// The other servers do not hear it, though it hears them.
    Mute,
    /// A holder that was cut off from its peers, and has been replaced, is reachable again.
    Heal,
    /// A preferred holder that was dead is back and takes the VIP again.
    Failback,
    /// Its daemon is replaced by a new process on purpose, as an upgrade does (`systemctl reload`).
    Restart,
}

impl Fault {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 15] = [
        Self::PowerOff,
        Self::LeaderAndHolder,
        Self::PortDown,
        Self::Stop,
        Self::Drain,
        Self::Move,
        Self::Kill9,
        Self::Freeze,
        Self::Partition,
        Self::PartitionPeers,
        Self::Deaf,
        Self::Mute,
        Self::Heal,
        Self::Failback,
        Self::Restart,
    ];

    /// Its name on the command line and in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::PowerOff => "power-off",
            Self::LeaderAndHolder => "leader+holder",
            Self::PortDown => "port-down",
            Self::Stop => "stop",
            Self::Drain => "drain",
            Self::Move => "move",
            Self::Kill9 => "kill-9",
            Self::Freeze => "freeze",
            Self::Partition => "partition",
            Self::PartitionPeers => "partition-peers",
            Self::Deaf => "deaf",
            Self::Mute => "mute",
            Self::Heal => "heal",
            Self::Failback => "failback",
            Self::Restart => "restart",
        }
    }

    /// How often the VIP changes its holder when all goes well.
    pub fn moves(self) -> usize {
        match self {
            // The cut-off holder was replaced before.
            Self::Restart | Self::Heal => 0,
            Self::PowerOff
            | Self::LeaderAndHolder
            | Self::PortDown
            | Self::Stop
            | Self::Drain
            | Self::Move
            | Self::Kill9
            | Self::Freeze
            | Self::Partition
            | Self::PartitionPeers
            | Self::Deaf
            | Self::Mute
            | Self::Failback => 1,
        }
    }

    /// Whether the old holder stays alive and gives the VIP up, or keeps it, on purpose: what it does afterwards is then
    /// part of the trial.
    pub fn leaves_traces(self) -> bool {
        match self {
            Self::Stop | Self::Drain | Self::Move | Self::Failback | Self::Restart => true,
            Self::PowerOff
            | Self::LeaderAndHolder
            | Self::PortDown
            | Self::Kill9
            | Self::Freeze
            | Self::Partition
            | Self::PartitionPeers
            | Self::Deaf
            | Self::Mute
            | Self::Heal => false,
        }
    }

    /// Whether the old holder's kernel lives on and is not told to give the VIP up: two owners are possible, and the
    /// fault is held for a while to see whether there are.
    pub fn may_split(self) -> bool {
        match self {
            Self::Kill9
            | Self::Freeze
            | Self::Partition
            | Self::PartitionPeers
            | Self::Deaf
            | Self::Mute
            | Self::Heal => true,
            Self::PowerOff
            | Self::LeaderAndHolder
            | Self::PortDown
            | Self::Stop
            | Self::Drain
            | Self::Move
            | Self::Failback
            | Self::Restart => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Fault {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|fault| fault.name() == name)
            .ok_or_else(|| anyhow!("there is no fault {name:?}; there are: {}", known()))
    }
}
