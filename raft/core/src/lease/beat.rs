//! What travels between nodes: beats and their acknowledgements, sealed by the transport, which also tells who
//! sent them.

use alloc::vec::Vec;

use crate::codec::{wire_enum, wire_struct};
use crate::id::{Epoch, NodeId};
use crate::time::Span;

/// "I am alive, under this epoch": from every node to every voter, each [`super::Timing::beat`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Beat {
    /// Counts the sender's beats. A voter takes only growing numbers, so a recorded beat is worth nothing.
    pub seq: u64,
    /// The sender's lease; `None` while it has none.
    pub epoch: Option<Epoch>,
    /// How long the sender lets support last ([`super::Timing::lease`]): voters promise for at least as long.
    pub lease: Span,
    /// The newest of the sender's beats to which it has an answer from the voter addressed; 0 for none.
    pub heard: u64,
    /// From a voter: its answer to the newest beat of the receiver, if it has not been sent yet.
    pub ack: Option<Ack>,
    /// From a voter: the leases whose end it certifies. Never revoked, so it does no harm to say it again.
    pub certificates: Vec<(NodeId, Epoch)>,
}

wire_struct!(Beat {
    seq,
    epoch,
    lease,
    heard,
    ack,
    certificates
});

/// What a voter answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It promises not to help anybody take over for [`super::Timing::promise`] from the receipt of the beat.
    Supported,
    /// It has fenced that epoch and will never support it again: get a new one.
    Fenced,
    /// It has taken a beat of this number already, so this one may be a recording: number the next ones higher.
    Behind {
        /// That number.
        newest: u64,
    },
    /// The sender has not heard this voter for longer than a promise, so a promise would be of no use to it and
    /// only keep others from taking over. The next beat that shows an answer heard is supported again.
    Unheard,
}

wire_enum!(Verdict { 0 => Supported, 1 => Fenced, 2 => Behind { newest }, 3 => Unheard });

/// The answer to a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ack {
    /// The beat's number.
    pub seq: u64,
    /// The beat's epoch.
    pub epoch: Epoch,
    /// The answer.
    pub verdict: Verdict,
}

wire_struct!(Ack {
    seq,
    epoch,
    verdict
});

/// Either.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Datagram {
    /// To a voter.
    Beat {
        /// The beat.
        beat: Beat,
    },
    /// From a voter.
    Ack {
        /// The answer.
        ack: Ack,
    },
}

wire_enum!(Datagram { 1 => Beat { beat }, 2 => Ack { ack } });
