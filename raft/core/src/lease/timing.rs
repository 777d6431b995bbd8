//! The lengths of the protocol, and the profiles that bundle them.

use alloc::string::String;
use core::fmt;

use crate::time::Span;

/// Clock *rates* of two nodes differ by at most this many parts per million (NTP slews at 500).
const DRIFT_PPM: u64 = 500;
/// Absorbs clock granularity and the path from the deadline check to the wire.
const MARGIN: Span = Span::millis(3);

/// The longest lease that anybody may have: a voter that starts waits out the promises of its earlier life, which it
/// no longer knows.
pub(super) const LONGEST: Span = Span::millis(2000);

/// A named set of lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Dedicated cores: about 70 ms to replace a crashed holder.
    Fast,
    /// Bare metal under any load: about 165 ms.
    #[default]
    Lan,
    /// Virtual machines, shared cores: about 320 ms.
    Safe,
}

impl Profile {
    /// The lengths of this profile.
    #[must_use]
    pub const fn timing(self) -> Timing {
        match self {
            Self::Fast => Timing::of(10, 60, 40, 5),
            Self::Lan => Timing::of(25, 150, 100, 10),
            Self::Safe => Timing::of(50, 300, 200, 20),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fast => "fast",
            Self::Lan => "lan",
            Self::Safe => "safe",
        })
    }
}

impl core::str::FromStr for Profile {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fast" => Ok(Self::Fast),
            "lan" => Ok(Self::Lan),
            "safe" | "wan" => Ok(Self::Safe),
            other => Err(alloc::format!(
                "lease profile {other:?} is not one of fast, lan, safe"
            )),
        }
    }
}

/// The lengths of the protocol. Best the same on all nodes; every beat carries its sender's lease, so that nodes that
/// differ (a profile is being changed, one node after the other) are safe too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// Between beats (`h`).
    pub beat: Span,
    /// How long support lasts, from the sending of the beat (`L`). Also the longest Raft election time-out.
    pub lease: Span,
    /// The shortest Raft election time-out (`E_min`).
    pub election_min: Span,
    /// Between the turns of the candidates of an aided election.
    pub election_rank: Span,
}

/// Why lengths do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTiming {
    beat: Span,
    lease: Span,
}

impl fmt::Display for InvalidTiming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (beat, lease) = (self.beat.as_millis(), self.lease.as_millis());
        write!(
            f,
            "beat of {beat} ms and lease of {lease} ms do not fit: the beat must be at least 5 ms and the lease 4 to \
             100 beats, at most 2000 ms; choose a profile (fast, lan, safe) or set both"
        )
    }
}

impl core::error::Error for InvalidTiming {}

impl Default for Timing {
    /// That of the profile that nodes have by default.
    fn default() -> Self {
        Profile::default().timing()
    }
}

impl Timing {
    const fn of(beat: u64, lease: u64, election_min: u64, rank: u64) -> Self {
        Self {
            beat: Span::millis(beat),
            lease: Span::millis(lease),
            election_min: Span::millis(election_min),
            election_rank: Span::millis(rank),
        }
    }

    /// Lengths of the operator's own; elections follow the lease as in the profiles.
    ///
    /// # Errors
    /// [`InvalidTiming`] when a lost datagram or two would already end the lease, or the beat is below what a
    /// kernel schedules.
    pub fn custom(beat: Span, lease: Span) -> Result<Self, InvalidTiming> {
        if beat < Span::millis(5)
            || lease.0 < beat.0 * 4
            || lease.0 > beat.0 * 100
            || lease > LONGEST
        {
            return Err(InvalidTiming { beat, lease });
        }
        Ok(Self {
            beat,
            lease,
            election_min: Span(lease.0 / 3 * 2),
            election_rank: Span(lease.0 / 15),
        })
    }

    /// How long a voter keeps its promise after receiving a beat: `P = L(1 + 2ρ) + µ`.
    #[must_use]
    pub const fn promise(&self) -> Span {
        promise(self.lease)
    }

    /// The same towards a sender whose lease is `theirs`: the longer of the two. `None` for a lease that nobody may
    /// have.
    #[must_use]
    pub fn promise_to(&self, theirs: Span) -> Option<Span> {
        (theirs <= LONGEST).then(|| promise(theirs.max(self.lease)))
    }

    /// After how long, at most, the addresses of a lost node are answered for again, on disks that sync within `sync`:
    /// its voters' promises run out, they fence, one entry is committed. If it `led`, another leader is elected
    /// meanwhile: one more turn, a vote and an entry.
    #[must_use]
    pub const fn takeover(&self, sync: Span, led: bool) -> Span {
        let election = if led {
            self.election_rank.0 + 2 * sync.0
        } else {
            0
        };
        Span(self.promise().0 + 2 * sync.0 + election)
    }

    /// The same for a holder that gives its addresses back: the entry that asks for them, and the one that passes
    /// them on.
    #[must_use]
    pub const fn planned(sync: Span) -> Span {
        Span(2 * sync.0)
    }

    /// How long a voter that just started refuses to withdraw anything. At least the promise it may have given
    /// before it stopped; and longer, so that a whole cluster that restarts finds its holders as they were.
    #[must_use]
    pub const fn boot_wait(&self) -> Span {
        Span(self.promise().0 + Span::millis(2000).0)
    }
}

const fn promise(lease: Span) -> Span {
    Span(lease.0 + lease.0 * 2 * DRIFT_PPM / 1_000_000 + MARGIN.0)
}

/// Whatever an earlier life has promised is over after the shortest wait.
const _: () = assert!(Span::millis(2000).0 + MARGIN.0 + Span::millis(20).0 >= promise(LONGEST).0);
