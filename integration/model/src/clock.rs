//! Time: ticks that all nodes share, and each node's own clock, which runs a little fast or slow.

use vipd_core::lease::Timing;
use vipd_core::time::{Instant, Span};

/// Where all clocks start: late enough that whatever was before is over.
const START: u64 = 1_000_000_000_000;
/// Rates differ by at most 500 ppm from true time, which is what the protocol is promised.
const PPM: u64 = 500;

/// How a node's clock runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rate {
    /// 500 ppm slow.
    Slow,
    /// As true time.
    True,
    /// 500 ppm fast.
    Fast,
}

impl Rate {
    /// The node's own time, `elapsed` of true time after the start.
    #[must_use]
    pub fn at(self, elapsed: Span) -> Instant {
        let drift = elapsed.0 * PPM / 1_000_000;
        Instant(match self {
            Self::Slow => START + elapsed.0 - drift,
            Self::True => START + elapsed.0,
            Self::Fast => START + elapsed.0 + drift,
        })
    }
}

/// The lease of most scenes: the longest there may be, so that a voter's wait after its start (2 s and a promise) is
/// only a little over two of them. Four ticks of half a second; a promise of it is over at the fifth.
pub const LEASE: Span = Span::millis(2000);
/// A shorter one, for nodes that differ: its promise is over at the third tick.
pub const SHORT: Span = Span::millis(1100);

/// The lengths of a node with this lease. It beats at each tick, whatever `beat` says.
#[must_use]
pub fn timing(lease: Span) -> Timing {
    Timing {
        beat: Span(lease.0 / 6),
        lease,
        election_min: Span(lease.0 / 3 * 2),
        election_rank: Span(lease.0 / 15),
    }
}

/// The lease whose promise, margins and all, ends when `lease` does: for a voter that knows of no drift.
#[must_use]
pub fn without_margin(lease: Span) -> Span {
    let mut shorter = lease;
    while timing(shorter).promise() > lease && shorter.0 > 0 {
        shorter = Span(shorter.0 - 1000);
    }
    shorter
}
