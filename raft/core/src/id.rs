//! Identifiers as newtypes, so that an epoch is never mistaken for a node.

use core::fmt;

use crate::codec::{DecodeError, Reader, Wire, Writer};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Wire for $name {
            fn encode(&self, out: &mut Writer) {
                self.0.encode(out);
            }
            fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self(u64::decode(input)?))
            }
        }
    };
}

id! {
    /// A member of the cluster: 1 for the node made by `vipd init`, else the log index of its join entry.
    /// Never reused, so a node that lost its disk cannot come back as itself.
    NodeId
}
id! {
    /// A fencing token: the log index of the entry that granted something. For an address, the entry that
    /// made its holder; for a node, the entry that began its current lease. Only grows.
    Epoch
}
id! {
    /// The log index of the entry that last changed an object.
    Revision
}
