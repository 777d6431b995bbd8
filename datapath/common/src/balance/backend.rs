//! The map `BACKENDS`, by number. Numbers are the daemon's; 0 is none.

use crate::AddressKey;

/// Who serves.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its address, of the same family as that of the service.
    pub address: AddressKey,
    /// This host's own address towards it: the source of packets that are encapsulated for it. Zeros: it has none.
    pub source: AddressKey,
    /// Its port in network order; 0: the port that the client asked for.
    pub port: [u8; 2],
    /// See [`backend_flags`].
    pub flags: u16,
    /// The interface through which it is reached.
    pub ifindex: u32,
    /// Number given by the daemon, for `TALLY`.
    pub id: u32,
    /// The most bytes of IP that the route to it says go there at a time; 0: it says nothing. Heeded where packets are
    /// encapsulated.
    pub mtu: u32,
}

/// Bits of [`Backend::flags`].
pub mod backend_flags {
    /// The address is one of this host's.
    pub const LOCAL: u16 = 1;
}

impl Backend {
    /// Whether the address is one of this host's.
    #[inline(always)]
    #[must_use]
    pub const fn is_local(&self) -> bool {
        self.flags & backend_flags::LOCAL != 0
    }
}

const _: () = assert!(size_of::<Backend>() == 16 + 16 + 2 + 2 + 4 + 4 + 4);

// SAFETY: `repr(C)`, integers and byte arrays only, and the size asserted above leaves no padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Backend {}
