//! Aided elections: the beats know that the leader is gone before Raft's own timer does.
//!
//! When this voter's promise to the leader has run out, it stands for election at once, in an order that all voters agree
//! on, and only while nobody else has begun: the same leader is still on record and the vote has not changed. Raft's own
//! time-out stays as the fallback.
//!
//! Their promises do not run out in one instant, so the order alone does not keep two of them from standing at the same
//! time, each with its own vote. Whoever is refused tries again, and each at a pace of its own: two that have met do not
//! meet the next time.

use super::Facts;
use crate::id::NodeId;
use crate::lease::Timing;
use crate::state::State;
use crate::time::{Instant, Span};

/// How often a refused candidacy is tried again.
const TRIES: u32 = 20;

/// A voter's vote at some moment, to be compared with a later one: it changes with every election the voter hears of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VoteMark {
    /// The term voted in.
    pub term: u64,
    /// The candidate voted for.
    pub candidate: u64,
    /// Whether it won.
    pub won: bool,
}

/// An intention to stand for election.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidacy {
    /// The leader that is gone.
    leader: NodeId,
    before: VoteMark,
    /// When to stand next.
    pub(super) next: Instant,
    /// Between tries: one turn more than the candidate before it takes.
    step: Span,
    tries: u32,
}

pub(super) enum Step {
    Wait,
    Stand,
    Over,
}

impl Candidacy {
    /// That of voter `me` after it has fenced `node`, if that is the leader.
    pub(super) fn of(
        me: NodeId,
        node: NodeId,
        timing: Timing,
        facts: &Facts<'_>,
        state: &State,
    ) -> Option<Self> {
        if facts.leader != Some(node) || node == me {
            return None;
        }
        let (_, voters) = state.voters()?;
        let mut others = voters.voters().into_iter().filter(|voter| *voter != node);
        let rank = others.position(|voter| voter == me)?;
        let step = timing.election_rank;
        Some(Self {
            leader: node,
            before: facts.vote,
            next: facts.now.after(Span(step.0 * rank as u64)),
            step: Span(step.0 * (rank as u64 + 2)),
            tries: TRIES,
        })
    }

    /// A voter whose own lease of the leader still runs refuses; it runs out within a beat or two, so a refused candidate
    /// tries again.
    pub(super) fn step(&mut self, facts: &Facts<'_>) -> Step {
        if facts.vote != self.before || facts.leader != Some(self.leader) || self.tries == 0 {
            return Step::Over;
        }
        if facts.now < self.next {
            return Step::Wait;
        }
        self.tries -= 1;
        self.next = facts.now.after(self.step);
        Step::Stand
    }
}
