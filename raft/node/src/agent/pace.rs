//! The lengths of an agent's stream. They follow the agent's lease: when others take over from a host that has died, an
//! agent that it fed must hear of it from another voter.

use std::time::Duration;

/// However long the lease is, a quiet stream speaks this often.
const SLOWEST: Duration = Duration::from_millis(100);
/// However short it is, no oftener.
const QUICKEST: Duration = Duration::from_millis(5);

/// How often a quiet stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    alive: Duration,
}

impl Pace {
    /// That of an agent with this lease: a third of it, at most 100 ms.
    #[must_use]
    pub fn of(lease: Duration) -> Self {
        Self::every(lease / 3)
    }

    /// That which an agent has asked for, within bounds.
    #[must_use]
    pub fn every(alive: Duration) -> Self {
        Self {
            alive: alive.clamp(QUICKEST, SLOWEST),
        }
    }

    /// The voter says at least this often that it is alive.
    #[must_use]
    pub const fn alive(self) -> Duration {
        self.alive
    }

    /// A voter that is silent this long is left for another: three missed signs of life, a lease at most.
    #[must_use]
    pub fn silent(self) -> Duration {
        3 * self.alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_voter_is_left_by_when_its_own_addresses_are_taken_over() {
        for lease in [60, 150, 300, 2_000].map(Duration::from_millis) {
            let pace = Pace::of(lease);
            assert!(pace.silent() <= lease, "{lease:?}: {pace:?}");
            assert!(pace.alive() >= QUICKEST, "{lease:?}: {pace:?}");
        }
    }

    #[test]
    fn an_agent_cannot_ask_for_a_stream_that_never_rests() {
        assert_eq!(Pace::every(Duration::ZERO).alive(), QUICKEST);
        assert_eq!(Pace::every(Duration::MAX).alive(), SLOWEST);
    }
}
