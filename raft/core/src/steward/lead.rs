//! A leader that nobody answers keeps quiet for a while, so that the others can elect one that they do answer.
//!
//! A host that hears nobody may still be heard. Its lease ends, since that needs answers, and the others fence it; but each
//! of its heartbeats has them wait for it for another election time-out, and no vote is given meanwhile. TCP, which needs
//! answers too, notices half a second later, which is far too late for the addresses that the host held.
//!
//! It speaks again after a while, and is quiet again, in turns: when its log is the longest of those that are left, nobody
//! else can be elected. Once the others are back they answer its beats, if only to say that its lease is fenced; then it
//! speaks at once, since it is the one who can give itself another lease.

use super::Facts;
use crate::lease::Timing;
use crate::time::{Instant, Span};

/// How long it is quiet, and then speaks, in leases: long enough for what it said last to be forgotten, for the voters'
/// promises to run out, and for an election.
const TURN: u64 = 4;
/// The same at least, since the others may have longer leases while a profile is being changed: three of the longest profile.
const LEAST: Span = Span::millis(900);

/// Whether the leader's word reaches anybody, as far as it can know.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lead {
    /// Since when this node leads.
    since: Option<Instant>,
    /// Since when neither its beats nor its Raft have been answered by a majority.
    unanswered: Option<Instant>,
    /// When that may become another.
    next: Option<Instant>,
}

impl Lead {
    /// Whether this node, whose lease is `supported` or not, keeps quiet from now on.
    ///
    /// Support alone is answer enough: beats are sent by a thread of their own, and a busy host is late with all the rest.
    pub(super) fn quiet(
        &mut self,
        timing: Timing,
        facts: &Facts<'_>,
        leads: bool,
        supported: bool,
    ) -> bool {
        let now = facts.now;
        self.next = None;
        if !leads {
            *self = Self::default();
            return false;
        }
        let since = *self.since.get_or_insert(now);
        if supported {
            self.unanswered = None;
            return false;
        }
        // Who has only just been elected was answered, and has asked nothing since.
        let young = now.since(since) < timing.lease;
        if facts.answered || young {
            self.unanswered = None;
            self.next = Some(now.after(timing.beat));
            return false;
        }
        let silent = now.since(*self.unanswered.get_or_insert(now));
        let turn = LEAST.0.max(TURN * timing.lease.0);
        self.next = Some(now.after(Span(turn - silent.0 % turn)));
        (silent.0 / turn).is_multiple_of(2)
    }

    /// When to look again if nothing happens before.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next
    }
}
