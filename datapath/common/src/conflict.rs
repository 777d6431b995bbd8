//! The event of the ring buffer `CONFLICTS`.

use crate::AddressKey;

/// Somebody else claims an address that is open on this node.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// When the frame came in (CLOCK_BOOTTIME ns).
    pub time_ns: u64,
    /// The address.
    pub address: AddressKey,
    /// The interface it came in on.
    pub ifindex: u32,
    /// Who claims it.
    pub mac: [u8; 6],
    /// Explicitly zero.
    pub reserved: [u8; 6],
}

impl Conflict {
    /// At most one event per address and CPU in this time; the rest is only counted.
    pub const EVERY_NS: u64 = 100_000_000;
    /// Size in the ring buffer.
    pub const SIZE: usize = size_of::<Self>();

    /// Reads an event as the programs wrote it; `None` if it is not of [`Self::SIZE`] bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::SIZE] = bytes.try_into().ok()?;
        Some(Self {
            time_ns: u64::from_ne_bytes(part(bytes, 0)),
            address: AddressKey {
                octets: part(bytes, 8),
            },
            ifindex: u32::from_ne_bytes(part(bytes, 24)),
            mac: part(bytes, 28),
            reserved: part(bytes, 34),
        })
    }
}

fn part<const N: usize>(bytes: &[u8; Conflict::SIZE], from: usize) -> [u8; N] {
    core::array::from_fn(|i| bytes[from + i])
}

const _: () = assert!(Conflict::SIZE == 8 + 16 + 4 + 6 + 6 && align_of::<Conflict>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_back_as_the_programs_lay_it_out() {
        let mut bytes = [0; Conflict::SIZE];
        bytes[..8].copy_from_slice(&7u64.to_ne_bytes());
        bytes[8..24].copy_from_slice(&AddressKey::v4([10, 0, 0, 7]).octets);
        bytes[24..28].copy_from_slice(&3u32.to_ne_bytes());
        bytes[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        let event = Conflict {
            time_ns: 7,
            address: AddressKey::v4([10, 0, 0, 7]),
            ifindex: 3,
            mac: [2, 0, 0, 0, 0, 9],
            reserved: [0; 6],
        };
        assert_eq!(Conflict::from_bytes(&bytes), Some(event));
        assert_eq!(Conflict::from_bytes(&bytes[1..]), None);
    }
}
