//! What the programs count, for each managed address and CPU.

/// One counter of an address. The discriminant is the index in [`Counters::counts`].
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// ARP requests and probes answered.
    ArpAnswered = 0,
    /// Neighbour solicitations answered.
    NdpAnswered = 1,
    /// ARP requests and solicitations left unanswered: shut, or asked on another interface.
    Unanswered = 2,
    /// Packets to the address dropped because it is shut here.
    DroppedIngress = 3,
    /// Packets from the address dropped because it is shut here.
    DroppedEgress = 4,
    /// Announcements (gratuitous ARP, unsolicited advertisements) that left.
    AnnouncementPassed = 5,
    /// Announcements dropped because the address is shut here.
    AnnouncementStopped = 6,
    /// Frames in which somebody else claims the address while it is open here.
    Conflict = 7,
    /// Packets handed on to the next holder.
    HandedOn = 8,
    /// Packets that the holder handed on to this node.
    Taken = 9,
}

impl Counter {
    /// How many there are.
    pub const COUNT: usize = 10;

    /// All of them, in order of their index.
    pub const ALL: [Self; Self::COUNT] = [
        Self::ArpAnswered,
        Self::NdpAnswered,
        Self::Unanswered,
        Self::DroppedIngress,
        Self::DroppedEgress,
        Self::AnnouncementPassed,
        Self::AnnouncementStopped,
        Self::Conflict,
        Self::HandedOn,
        Self::Taken,
    ];

    /// A stable name, as metrics use it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ArpAnswered => "arp_answered",
            Self::NdpAnswered => "ndp_answered",
            Self::Unanswered => "unanswered",
            Self::DroppedIngress => "dropped_ingress",
            Self::DroppedEgress => "dropped_egress",
            Self::AnnouncementPassed => "announcement_passed",
            Self::AnnouncementStopped => "announcement_stopped",
            Self::Conflict => "conflict",
            Self::HandedOn => "handed_on",
            Self::Taken => "taken",
        }
    }
}

/// The value of `COUNTERS`, one for each CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Indexed by [`Counter`].
    pub counts: [u64; Counter::COUNT],
    /// When this CPU last reported a conflict (CLOCK_BOOTTIME ns): the rate limit of `CONFLICTS`.
    pub conflict_ns: u64,
}

impl Counters {
    /// One counter.
    #[must_use]
    pub const fn get(&self, counter: Counter) -> u64 {
        self.counts[counter as usize]
    }

    /// Adds the counts of another CPU.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum = sum.wrapping_add(count);
        }
        self.conflict_ns = self.conflict_ns.max(other.conflict_ns);
    }
}

const _: () = assert!(size_of::<Counters>() == 8 * Counter::COUNT + 8);

// SAFETY: `repr(C)` and nothing but u64, so no padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Counters {}
