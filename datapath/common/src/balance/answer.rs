//! The map `ANSWERS`: which service a backend answers for, where that can be told by the backend alone.

use crate::AddressKey;

/// The value of `ANSWERS`. Its key is a [`super::ServiceKey`] with the end of a backend that sees clients' addresses: where it
/// serves; port 0: all ports that have no element of their own.
///
/// For answers of connections that this node has never seen: whoever held the address before it knew them, and their clients
/// have been silent since.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The managed address of the service; zeros where several services share this end, so that nobody can tell.
    pub vip: AddressKey,
    /// Its port in network order; 0: that from which the answer comes.
    pub port: [u8; 2],
    /// Explicitly zero.
    pub reserved: [u8; 2],
    /// [`super::Backend::id`]; 0 where nobody can tell.
    pub backend: u32,
}

const _: () = assert!(size_of::<Answer>() == 16 + 2 + 2 + 4 && align_of::<Answer>() == 4);

// SAFETY: `repr(C)`, integers and byte arrays only, and the size asserted above leaves no padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Answer {}
