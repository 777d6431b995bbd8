//! The map `PEERS`: whom sockets of the holder itself talk to.

use crate::AddressKey;

/// The key of `PEERS`: a socket of this host, and the backend that it was given instead of the virtual IP.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey {
    /// The kernel's number of the socket, for ever.
    pub socket: u64,
    /// The backend, or this host where that is on it.
    pub address: AddressKey,
    /// Network order.
    pub port: [u8; 2],
    /// Explicitly zero.
    pub reserved: [u8; 6],
}

/// The value of `PEERS`: whom the program asked for, and shall believe to talk to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The virtual IP.
    pub address: AddressKey,
    /// Network order.
    pub port: [u8; 2],
    /// Explicitly zero.
    pub reserved: [u8; 2],
}

const _: () = assert!(size_of::<PeerKey>() == 8 + 16 + 2 + 6);
const _: () = assert!(size_of::<Peer>() == 16 + 2 + 2);
