//! What may go wrong, and what the operator may do meanwhile.

use vipd_core::lease::Datagram;

use crate::log::Entry;

/// A node, by its place in the cluster, from 0.
pub type Place = usize;

/// Something that goes wrong, and stays wrong until it is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Nothing passes between a node and the others.
    Isolated(Place),
    /// A node hears nobody; others hear it.
    Deaf(Place),
    /// Nobody hears a node; it hears the others.
    Mute(Place),
    /// Nothing passes between two nodes.
    Cut(Place, Place),
    /// A daemon is stopped; its kernel goes on. What is sent to it waits for it, or is lost.
    Paused {
        /// Whose.
        node: Place,
        /// It waits.
        keeps: bool,
    },
    /// A daemon has crashed; its kernel goes on. A fence on its way to the disk got there or did not.
    Dead {
        /// Whose.
        node: Place,
        /// It got there.
        written: bool,
    },
    /// A node does not get on with applying the log.
    Behind(Place),
    /// A node's disk takes its time.
    DiskStalls(Place),
    /// The next proposal of this kind is committed at any time later.
    Late(Kind),
    /// The next datagram of this kind is held back, to arrive at any time later.
    Held {
        /// Sender.
        from: Place,
        /// Receiver.
        to: Place,
        /// An answer; else a beat.
        answer: bool,
        /// It arrives at once *and* later.
        twice: bool,
    },
}

impl Fault {
    /// Whether nothing passes from one node to another because of it.
    #[must_use]
    pub fn stops(self, from: Place, to: Place) -> bool {
        match self {
            Self::Isolated(node) => from == node || to == node,
            Self::Deaf(node) => to == node,
            Self::Mute(node) => from == node,
            Self::Cut(a, b) => (from, to) == (a, b) || (from, to) == (b, a),
            Self::Paused { .. }
            | Self::Dead { .. }
            | Self::Behind(_)
            | Self::DiskStalls(_)
            | Self::Late(_)
            | Self::Held { .. } => false,
        }
    }

    /// Whether it holds this datagram back.
    #[must_use]
    pub fn holds_back(self, sent: (Place, Place), datagram: &Datagram) -> bool {
        match self {
            Self::Held {
                from, to, answer, ..
            } => {
                let kind = match datagram {
                    Datagram::Ack { .. } => answer,
                    Datagram::Beat { .. } => !answer,
                };
                kind && (from, to) == sent
            }
            Self::Isolated(_)
            | Self::Deaf(_)
            | Self::Mute(_)
            | Self::Cut(..)
            | Self::Paused { .. }
            | Self::Dead { .. }
            | Self::Behind(_)
            | Self::DiskStalls(_)
            | Self::Late(_) => false,
        }
    }

    /// Whether it happens to this node, so that its lease may rightly be lost.
    #[must_use]
    pub fn touches(self, node: Place) -> bool {
        match self {
            Self::Behind(n) | Self::Paused { node: n, .. } | Self::Dead { node: n, .. } => {
                n == node
            }
            Self::Isolated(_)
            | Self::Deaf(_)
            | Self::Mute(_)
            | Self::Cut(..)
            | Self::Held { .. } => self.on_wire_of(node),
            Self::DiskStalls(_) | Self::Late(_) => false,
        }
    }

    /// Whether it is a fault of this node's wires: others may miss its answers.
    #[must_use]
    pub fn on_wire_of(self, node: Place) -> bool {
        match self {
            Self::Isolated(n) | Self::Deaf(n) | Self::Mute(n) => n == node,
            Self::Cut(a, b) => a == node || b == node,
            Self::Held { from, to, .. } => from == node || to == node,
            Self::Behind(_)
            | Self::Paused { .. }
            | Self::Dead { .. }
            | Self::DiskStalls(_)
            | Self::Late(_) => false,
        }
    }

    /// Whether it ends by itself when the time of troubles is over; the others may stay for ever.
    #[must_use]
    pub fn passes(self) -> bool {
        match self {
            Self::Behind(_) | Self::DiskStalls(_) | Self::Late(_) | Self::Held { .. } => true,
            Self::Isolated(_)
            | Self::Deaf(_)
            | Self::Mute(_)
            | Self::Cut(..)
            | Self::Paused { .. }
            | Self::Dead { .. } => false,
        }
    }
}

/// Kinds of proposals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A lease begins.
    Up,
    /// A lease is withdrawn.
    Down,
    /// An address is given back.
    Released,
    /// Anything else.
    Other,
}

impl Kind {
    /// The kind of an entry.
    #[must_use]
    pub fn of(entry: Entry) -> Self {
        match entry {
            Entry::Up(_) => Self::Up,
            Entry::Down { .. } => Self::Down,
            Entry::Released { .. } => Self::Released,
            Entry::Report { .. }
            | Entry::Drain(_)
            | Entry::Move(_)
            | Entry::Delete
            | Entry::Put
            | Entry::Voters(_) => Self::Other,
        }
    }
}

/// One step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Half a second passes; whoever can, judges and beats.
    Tick,
    /// Something goes wrong.
    Break(Fault),
    /// It is mended: the wire is plugged in, the daemon goes on or starts again.
    Mend(Fault),
    /// The n-th datagram held back arrives.
    Arrive(usize),
    /// The n-th late proposal is committed.
    Commit(usize),
    /// The operator acts.
    Operator(Entry),
}
