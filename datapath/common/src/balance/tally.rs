//! The map `TALLY`: what the programs count of balanced packets, exactly, by service and backend.

/// The key of `TALLY`. One entry for each backend of each service, one with backend 0 for what a
/// service did not give to a backend, and one of zeros for packets that belong to no service. The
/// daemon makes them; without an entry nothing is counted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TallyKey {
    /// [`super::Service::id`].
    pub service: u32,
    /// [`super::Backend::id`].
    pub backend: u32,
}

/// The value of `TALLY`, one for each CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets, by [`Direction`]. A packet that the network card has put together of several
    /// counts as these.
    pub packets: [u64; 2],
    /// Bytes by [`Direction`], with one Ethernet header for what counts as one packet to the kernel.
    pub bytes: [u64; 2],
    /// Flows that began.
    pub flows: u64,
    /// Packets that were not balanced, by [`Reason`].
    pub drops: [u64; Reason::COUNT],
}

/// Index in [`Tally::packets`] and [`Tally::bytes`].
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a client to a backend.
    Forward = 0,
    /// From a backend to a client. With dsr these do not come by.
    Reverse = 1,
}

/// Why a packet did not go to a backend. The discriminant is the index in [`Tally::drops`].
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The service has no backend.
    NoBackend = 0,
    /// nat: no source port towards the backend is free.
    NoPort = 1,
    /// nat: the table of flows is full.
    TableFull = 2,
    /// nat: more new flows than this node records in a second.
    Flood = 3,
    /// A piece of a packet whose first piece has not come by. It goes up the host's own stack, for
    /// which it may be.
    Fragment = 4,
    /// No hop is left.
    Hops = 5,
    /// Shorter than its own headers say.
    Malformed = 6,
    /// An answer of a connection that this node does not know, perhaps yet: the host's own stack
    /// would break it off.
    Stray = 7,
    /// The client is in none of the ranges of the service.
    Forbidden = 8,
    /// Greater than what the way to where it goes carries. The sender is told, see [`super::Guard::errors`].
    TooBig = 9,
}

impl Reason {
    /// How many there are.
    pub const COUNT: usize = 10;

    /// All of them, in order of their index.
    pub const ALL: [Self; Self::COUNT] = [
        Self::NoBackend,
        Self::NoPort,
        Self::TableFull,
        Self::Flood,
        Self::Fragment,
        Self::Hops,
        Self::Malformed,
        Self::Stray,
        Self::Forbidden,
        Self::TooBig,
    ];

    /// A stable name, as metrics use it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoBackend => "no_backend",
            Self::NoPort => "no_port",
            Self::TableFull => "table_full",
            Self::Flood => "flood",
            Self::Fragment => "fragment",
            Self::Hops => "hops",
            Self::Malformed => "malformed",
            Self::Stray => "stray",
            Self::Forbidden => "forbidden",
            Self::TooBig => "too_big",
        }
    }
}

impl Tally {
    /// How many packets were not balanced for a reason.
    #[must_use]
    pub const fn dropped(&self, reason: Reason) -> u64 {
        self.drops[reason as usize]
    }

    /// Adds the counts of another CPU, or of another backend of the same service.
    pub fn add(&mut self, other: &Self) {
        let mine = self
            .packets
            .iter_mut()
            .chain(&mut self.bytes)
            .chain([&mut self.flows])
            .chain(&mut self.drops);
        let theirs = other
            .packets
            .iter()
            .chain(&other.bytes)
            .chain([&other.flows])
            .chain(&other.drops);
        for (sum, count) in mine.zip(theirs) {
            *sum = sum.wrapping_add(*count);
        }
    }
}

const _: () = assert!(size_of::<TallyKey>() == 8);
const _: () = assert!(size_of::<Tally>() == 8 * (2 + 2 + 1 + Reason::COUNT));

// SAFETY: `repr(C)`, integers only, and the sizes asserted above leave no padding; in both.
#[cfg(feature = "user")]
unsafe impl aya::Pod for TallyKey {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for Tally {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_of_tallies_has_each_count_where_it_was() {
        let tally = |n: u64| Tally {
            packets: [n, n + 1],
            bytes: [n + 2, n + 3],
            flows: n + 4,
            drops: core::array::from_fn(|i| n + 5 + i as u64),
        };
        let mut sum = tally(100);
        sum.add(&tally(1_000));
        let expected = Tally {
            packets: [1_100, 1_102],
            bytes: [1_104, 1_106],
            flows: 1_108,
            drops: core::array::from_fn(|i| 1_110 + 2 * i as u64),
        };
        assert_eq!(sum, expected);
    }

    #[test]
    fn every_reason_is_listed_under_its_index_with_a_name_of_its_own() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            let same = |other: &&Reason| other.name() == reason.name();
            assert_eq!(Reason::ALL.iter().filter(same).count(), 1);
        }
    }
}
