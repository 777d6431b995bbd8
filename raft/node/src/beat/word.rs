//! Heartbeats of Raft that travel with beats.
//!
//! A heartbeat through TLS and TCP costs either side a quarter of a millisecond, and a leader owes thirteen of them a second
//! to each voter. But every voter's beats reach every other voter anyway, three times as often, and sealed. So each says in
//! which term it follows whom, or leads itself:
//!
//! ```text
//!   leader's Raft ─> heartbeat client ─ "n2 says that it follows me": answered   } else, and each tenth time,
//!   follower's Raft <─ ticks ─ "n1 says that it leads in my term": a heartbeat   } through the connection
//! ```
//! It saves work and decides nothing. A word counts only for the term that the listener's own Raft is in; what must be known
//! for certain, that a read is not stale, waits for a round through the connections ([`Words::ask`]); and a leader that its
//! connections do not bring any more is not believed by its beats either ([`Words::speaks`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vipd_core::codec::{DecodeError, Reader, Wire, Writer};
use vipd_core::id::NodeId;
use vipd_core::time::{Instant, Span};

use crate::types::Vote;

/// One heartbeat in so many goes through the connection, so that one that carries nothing is noticed.
const EACH: u64 = 10;
/// Words of others count for so long at least: two beats of the profile `lan`, which others may have while it is changed.
const FRESH: Span = Span::millis(50);
/// And words through the connection for so long at least.
const SPOKEN: Span = Span::millis(2_000);

/// Who leads, in which term, as somebody says who leads or follows him. The default is that nobody does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// The leader; 0 for none.
    pub leader: NodeId,
    /// His term.
    pub term: u64,
    /// The last entry that whoever says so knows to be committed; 0 for none.
    pub committed: u64,
}

impl Word {
    /// That whom `vote` is for leads in its term, and up to which entry the log is known to be committed.
    #[must_use]
    pub fn of(vote: &Vote, committed: Option<u64>) -> Self {
        Self {
            leader: NodeId(vote.leader_id.voted_for),
            term: vote.leader_id.term,
            committed: committed.unwrap_or(0),
        }
    }

    /// Whether who says this follows the leader of `asked` in its term and knows to be committed what he does.
    fn answers(self, asked: Self) -> bool {
        (self.leader, self.term) == (asked.leader, asked.term) && self.committed >= asked.committed
    }
}

impl Wire for Word {
    fn encode(&self, out: &mut Writer) {
        self.leader.encode(out);
        self.term.encode(out);
        self.committed.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            leader: NodeId::decode(input)?,
            term: u64::decode(input)?,
            committed: u64::decode(input)?,
        })
    }
}

/// A word and when it was said, for one that writes and others that read at any time. What they read may be newer than
/// its time says. A leader and a term that do not belong together are possible for a moment, and true of nobody.
#[derive(Debug, Default)]
struct Slot {
    leader: AtomicU64,
    term: AtomicU64,
    committed: AtomicU64,
    at: AtomicU64,
}

impl Slot {
    fn put(&self, word: Word, at: Instant) {
        self.leader.store(word.leader.0, Ordering::Relaxed);
        self.term.store(word.term, Ordering::Relaxed);
        self.committed.store(word.committed, Ordering::Relaxed);
        self.at.store(at.0, Ordering::Release);
    }

    /// `None` if it is older than `within`.
    fn get(&self, now: Instant, within: Span) -> Option<Word> {
        let at = Instant(self.at.load(Ordering::Acquire));
        let word = Word {
            leader: NodeId(self.leader.load(Ordering::Relaxed)),
            term: self.term.load(Ordering::Relaxed),
            committed: self.committed.load(Ordering::Relaxed),
        };
        (at.0 > 0 && now.since(at) <= within).then_some(word)
    }
}

/// A member, as its beats were heard. The beat thread writes it without a lock.
#[derive(Debug, Default)]
pub struct Heard {
    slot: Slot,
    /// When it last took a heartbeat through the connection, in nanoseconds; 0 if something has failed there since.
    answered: AtomicU64,
}

impl Heard {
    /// When it was last heard (`CLOCK_BOOTTIME`), if ever.
    #[must_use]
    pub fn at(&self) -> Option<Instant> {
        let at = self.slot.at.load(Ordering::Relaxed);
        (at > 0).then_some(Instant(at))
    }

    /// It is heard to say that.
    pub fn note(&self, word: Word, now: Instant) {
        self.slot.put(word, now);
    }
}

/// What this node's beats say of Raft, and what those of others were heard to say.
#[derive(Debug)]
pub struct Words {
    heartbeat: Span,
    own: Slot,
    heard: Mutex<BTreeMap<NodeId, Arc<Heard>>>,
    /// When a leader's word last came through its connection, in nanoseconds; 0 if he was given up since.
    spoken: AtomicU64,
    /// When this node's Raft last sent a heartbeat, whatever became of it, in nanoseconds.
    led: AtomicU64,
    /// Reads that wait for a true answer.
    asking: AtomicUsize,
}

impl Words {
    /// Nothing said, nothing heard. `heartbeat` is the leader's pace.
    #[must_use]
    pub fn new(heartbeat: Duration) -> Self {
        Self {
            heartbeat: Span(u64::try_from(heartbeat.as_nanos()).unwrap_or(u64::MAX)),
            own: Slot::default(),
            heard: Mutex::default(),
            spoken: AtomicU64::new(0),
            led: AtomicU64::new(0),
            asking: AtomicUsize::new(0),
        }
    }

    /// What this node's beats say for the next two heartbeats, unless they are told something else: a daemon that stands
    /// still must not be taken for alive.
    pub fn say(&self, word: Word, now: Instant) {
        self.own.put(word, now);
    }

    /// What this node's next beat says.
    #[must_use]
    pub fn own(&self, now: Instant) -> Word {
        let lasts = Span(self.heartbeat.0.saturating_mul(2));
        self.own.get(now, lasts).unwrap_or_default()
    }

    /// Where to note what `node` is heard to say.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Arc<Heard> {
        self.lock().entry(node).or_default().clone()
    }

    /// When each member was last heard.
    #[must_use]
    pub fn heard(&self) -> Vec<(NodeId, Instant)> {
        let heard = self.lock();
        let each = heard.iter().map(|(node, heard)| Some((*node, heard.at()?)));
        each.flatten().collect()
    }

    /// Forgets those that are no members.
    pub fn keep_only(&self, member: impl Fn(NodeId) -> bool) {
        self.lock().retain(|node, _| member(*node));
    }

    /// Whether `node` says so now, with at least as much committed: within two thirds of a heartbeat, or 50 ms if that is
    /// longer.
    #[must_use]
    pub fn says(&self, node: NodeId, word: Word, now: Instant) -> bool {
        let within = Span(self.heartbeat.0 / 3 * 2).max(FRESH);
        let heard = self.lock().get(&node).cloned();
        heard.is_some_and(|heard| {
            let said = heard.slot.get(now, within);
            said.is_some_and(|said| said.answers(word))
        })
    }

    /// The leader's word came through its connection.
    pub fn spoke(&self, now: Instant) {
        self.spoken.store(now.0, Ordering::Relaxed);
    }

    /// The leader is given up: its beats are not believed before its connection brings a word again.
    pub fn unspoken(&self) {
        self.spoken.store(0, Ordering::Relaxed);
    }

    /// When that was.
    #[cfg(test)]
    pub(crate) fn spoken(&self) -> Instant {
        Instant(self.spoken.load(Ordering::Relaxed))
    }

    /// Whether that was lately enough for the leader's beats to be believed: one such word may be lost.
    #[must_use]
    pub fn speaks(&self, now: Instant) -> bool {
        let at = self.spoken.load(Ordering::Relaxed);
        let lasts = Span(self.heartbeat.0.saturating_mul(2 * EACH)).max(SPOKEN);
        at > 0 && now.since(Instant(at)) <= lasts
    }

    /// Whether the leader of `word` is taken for alive by its beats: they say that it leads, and its connection brings
    /// words. It may have been told of fewer entries that are committed, when it has only just begun.
    #[must_use]
    pub fn believes(&self, word: Word, now: Instant) -> bool {
        let word = Word {
            committed: 0,
            ..word
        };
        self.speaks(now) && self.says(word.leader, word, now)
    }

    /// This node's Raft sends a heartbeat, so it leads and does not stand still.
    pub fn leads(&self, now: Instant) {
        self.led.store(now.0, Ordering::Relaxed);
    }

    /// Whether it did so within two heartbeats. It does not while it hands the lead to another.
    #[must_use]
    pub fn is_leading(&self, now: Instant) -> bool {
        let at = self.led.load(Ordering::Relaxed);
        at > 0 && now.since(Instant(at)).0 <= self.heartbeat.0.saturating_mul(2)
    }

    /// `node` has taken a heartbeat through the connection, or has failed to answer anything there.
    pub fn answered(&self, node: NodeId, well: bool, now: Instant) {
        let at = if well { now.0 } else { 0 };
        self.of(node).answered.store(at, Ordering::Relaxed);
    }

    /// Whether the beats of `node` may answer a heartbeat: it took one through the connection lately, and nobody asks.
    #[must_use]
    pub fn may_ride(&self, node: NodeId, now: Instant) -> bool {
        let at = self.of(node).answered.load(Ordering::Relaxed);
        let lately = at > 0 && now.since(Instant(at)).0 < self.heartbeat.0.saturating_mul(EACH);
        lately && self.asking.load(Ordering::SeqCst) == 0
    }

    /// Until it is dropped, every heartbeat goes through the connections: what is asked after this call is not answered by
    /// what was said before it.
    #[must_use]
    pub fn ask(&self) -> Asking<'_> {
        self.asking.fetch_add(1, Ordering::SeqCst);
        Asking(self)
    }

    /// A poisoned lock holds a whole map all the same.
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Arc<Heard>>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Words::ask`].
#[derive(Debug)]
pub struct Asking<'a>(&'a Words);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::beat::now;

    const WORD: Word = Word {
        leader: NodeId(1),
        term: 7,
        committed: 40,
    };
    const HEARTBEAT: Duration = Duration::from_millis(75);

    fn ago(ms: u64) -> Instant {
        Instant(now().0 - Span::millis(ms).0)
    }

    #[test]
    fn a_word_counts_for_two_beats_and_for_its_own_leader_and_term_alone() {
        let words = Words::new(HEARTBEAT);
        assert!(!words.says(NodeId(2), WORD, now()), "never heard");
        words.of(NodeId(2)).note(WORD, now());
        assert!(words.says(NodeId(2), WORD, now()));
        assert!(!words.says(NodeId(3), WORD, now()), "another has said it");
        assert!(!words.says(NodeId(2), Word { term: 6, ..WORD }, now()));
        assert!(!words.says(
            NodeId(2),
            Word {
                leader: NodeId(3),
                ..WORD
            },
            now()
        ));
        let committed = |committed| Word { committed, ..WORD };
        assert!(words.says(NodeId(2), committed(39), now()));
        assert!(
            !words.says(NodeId(2), committed(41), now()),
            "it does not know of that"
        );
        words.of(NodeId(2)).slot.put(WORD, ago(51));
        assert!(!words.says(NodeId(2), WORD, now()), "two beats are over");
        words.of(NodeId(2)).note(WORD, now());
        words.keep_only(|node| node != NodeId(2));
        assert!(!words.says(NodeId(2), WORD, now()), "it is no member");
    }

    #[test]
    fn a_raft_that_stands_still_is_spoken_of_for_two_heartbeats_only() {
        let words = Words::new(HEARTBEAT);
        assert_eq!(words.own(now()), Word::default());
        words.say(WORD, now());
        assert_eq!(words.own(now()), WORD);
        words.own.put(WORD, ago(151));
        assert_eq!(words.own(now()), Word::default());
    }

    #[test]
    fn a_leader_is_believed_by_its_beats_while_its_connection_brings_a_word_now_and_then() {
        let words = Words::new(HEARTBEAT);
        assert!(!words.speaks(now()), "it never did");
        words.spoke(now());
        assert!(words.speaks(now()));
        words.spoken.store(ago(2_001).0, Ordering::Relaxed);
        assert!(!words.speaks(now()));
        words.spoke(now());
        words.unspoken();
        assert!(!words.speaks(now()), "it was given up");
    }

    #[test]
    fn one_heartbeat_in_ten_and_all_while_somebody_asks_go_through_the_connection() {
        let words = Words::new(HEARTBEAT);
        let rides = || words.may_ride(NodeId(2), now());
        assert!(!rides(), "it never answered");
        words.answered(NodeId(2), true, ago(751));
        assert!(!rides());
        words.answered(NodeId(2), true, now());
        assert!(rides() && !words.may_ride(NodeId(3), now()));
        let (one, other) = (words.ask(), words.ask());
        assert!(!rides());
        drop(one);
        assert!(!rides(), "another still waits");
        drop(other);
        assert!(rides());
        words.answered(NodeId(2), false, now());
        assert!(!rides(), "its connection has failed since");
    }

    #[test]
    fn a_raft_that_sends_no_heartbeats_is_not_leading() {
        let words = Words::new(HEARTBEAT);
        assert!(!words.is_leading(now()));
        words.leads(now());
        assert!(words.is_leading(now()));
        words.leads(ago(151));
        assert!(!words.is_leading(now()));
    }
}
