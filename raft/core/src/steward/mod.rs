//! What one node does about what the cluster knows: the rules of the daemon's loop, without the loop.
//!
//! ```text
//!   state, facts ──┐                 ┌─> gates       what to answer for        first, and finished
//!   beats' events ─┼─> look ─────────┼─> view        what to beat for          then
//!   answered ──────┤                 ├─> questions   whether somebody outside has an address
//!   finished ──────┘                 └─> proposals   NodeUp, NodeReport, Released, NodeDown, NodeRetire, FailBack, Ripen; elect, quiet
//! ```
//! Nothing here is a delta: the whole is computed from the whole state, so a missed event heals with the next look. (Of many
//! addresses those are looked at that entries have touched, and all of them at least once a second after that: `follow`.)
//!
//! **The order matters.** The datapath is told before the beats: a new lease could otherwise gather support, and open the
//! deadline, while addresses that were lost with the last lease are still open in the kernel.

mod asking;
mod election;
mod follow;
mod gates;
mod handing;
mod lead;
mod record;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::command::{Applied, Command, Outcome};
use crate::id::{Epoch, NodeId, Revision};
use crate::lease::{Event, Takeover, Timing, View};
use crate::name::Labels;
use crate::node::{Interface, Lease};
use crate::proof::{Answer, Question, Rule};
use crate::state::State;
use crate::time::{Instant, Millis, Span};

use asking::Asking;
use election::Candidacy;
pub use election::VoteMark;
use follow::Basis;
pub use gates::{Duty, Gates, Stance};
use handing::Moves;
use lead::Lead;
use record::Own;

/// How long a stopping node waits for others to take its addresses.
const LET_GO: Span = Span::millis(5000);
/// The same while nobody leads, so that nobody can be told.
const LET_GO_ALONE: Span = Span::millis(1000);
/// Before a failed proposal is made again.
const RETRY: Span = Span::millis(50);

/// Addresses in one release, which must fit an entry of the log; the next look gives back the next ones.
const RELEASED_AT_ONCE: usize = 1024;

/// What a proposal is for. One of each is under way at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// To begin a lease.
    Up,
    /// To tell the cluster what this node can announce on and counts by.
    Report,
    /// To give back addresses.
    Release,
    /// To have all addresses taken, because this node stops.
    Retire,
    /// To withdraw the lease of a node that is gone.
    Down(NodeId, Epoch),
    /// To return VIPs to their homes.
    FailBack,
    /// To let addresses be given again that have cooled down.
    Ripen,
    /// To tell whether somebody outside has addresses.
    Probed,
}

/// What came of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// It was carried out by this entry, which this node's own replica may not have applied yet.
    Done {
        /// The entry.
        revision: Revision,
    },
    /// It was rejected.
    Rejected,
    /// Nobody knows; it is made again.
    Nothing,
}

impl Came {
    /// What an outcome comes to.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Ok(Applied::Done { revision } | Applied::Created { revision }) => Self::Done {
                revision: *revision,
            },
            Ok(Applied::Joined { node, .. }) => Self::Done {
                revision: Revision(node.0),
            },
            Err(_) => Self::Rejected,
        }
    }
}

/// What the node is, for the cluster's record.
#[derive(Clone, Debug)]
pub struct About {
    /// The version of vipd.
    pub version: String,
    /// Its labels by its own configuration.
    pub labels: Labels,
}

/// What the node sees around it at the time of a look.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The local clock.
    pub now: Instant,
    /// The wall clock, which log entries are stamped with. It decides about failback, and nothing else.
    pub wall: Millis,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// This node's vote.
    pub vote: VoteMark,
    /// Whether a majority has answered this node within a lease or an election time-out: its Raft, or its beats, be it with a
    /// refusal ([`crate::lease::Pulse::answered`]). Of a node that does not lead it means nothing.
    pub answered: bool,
    /// The membership entry that its beats count by and its kernel's deadline was reckoned by
    /// ([`crate::lease::Pulse::membership`]).
    pub counted: u64,
    /// What it can announce on.
    pub interfaces: &'a [Interface],
}

/// What to do, in this order; each is finished before the next begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Tell the datapath; `None` while it knows already, or must be left as an earlier life of this node left it.
    pub gates: Option<Gates>,
    /// Tell the beats.
    pub view: View,
    /// Ask the link these, beside everything else and beside those under way, and report with [`Steward::answered`].
    pub questions: Vec<Question>,
    /// Propose these, beside everything else, and report with [`Steward::finished`].
    pub proposals: Vec<(Purpose, Command)>,
    /// Stand for election.
    pub elect: bool,
    /// Send the other voters neither heartbeats nor entries until a look says otherwise: this node leads, and nobody
    /// answers it.
    pub quiet: bool,
}

/// One node's rules.
#[derive(Clone, Debug)]
pub struct Steward {
    me: NodeId,
    timing: Timing,
    about: About,
    began: Instant,
    /// Until when its kernel may answer by what voters granted to an earlier life of this node.
    inherited: Instant,
    takeover: Takeover,
    candidacy: Option<Candidacy>,
    /// What the datapath last was told, once it was told anything.
    told: Option<Gates>,
    /// Of what the gates were made that the datapath was told.
    basis: Option<Basis>,
    supported: bool,
    /// Announces without a majority, because the operator wants that ([`crate::lease::OnQuorumLoss::Freeze`]).
    frozen: bool,
    lead: Lead,
    /// This node's own lease is fenced by some voter: renew it.
    fenced: Option<Epoch>,
    caught_up: bool,
    /// Addresses that this node has said, or is saying, to have given back, with their tokens: never opened
    /// again under the same.
    given_back: BTreeMap<IpAddr, Epoch>,
    moves: Moves,
    asking: Asking,
    under_way: BTreeSet<Purpose>,
    /// When what has failed may be tried again.
    again: BTreeMap<Purpose, Instant>,
    /// What was carried out, and not yet seen to be: a replica that lags would have it proposed over and over.
    unseen: BTreeMap<Purpose, Revision>,
    /// When something is due by the clock, while this node leads.
    due: Option<Instant>,
    /// When it must be gone, once it was asked to stop.
    stop_by: Option<Instant>,
    retired: bool,
}

impl Steward {
    /// The rules of node `me`, which starts at `now` with a deadline in its kernel that an earlier life left there; 0
    /// if there is none.
    #[must_use]
    pub fn new(me: NodeId, timing: Timing, about: About, now: Instant, inherited: Instant) -> Self {
        Self {
            me,
            timing,
            about,
            began: now,
            inherited,
            takeover: Takeover::default(),
            candidacy: None,
            told: None,
            basis: None,
            supported: false,
            frozen: false,
            lead: Lead::default(),
            fenced: None,
            caught_up: false,
            given_back: BTreeMap::new(),
            moves: Moves::default(),
            asking: Asking::default(),
            under_way: BTreeSet::new(),
            again: BTreeMap::new(),
            unseen: BTreeMap::new(),
            due: None,
            stop_by: None,
            retired: false,
        }
    }

    /// This node now knows everything that was committed before it started. Until then it may not announce: its own log,
    /// or the voter that an agent follows, may lack the entry that took an address away from it.
    pub fn caught_up(&mut self) {
        self.caught_up = true;
    }

    /// Takes what the beats have found out. The fence of [`Event::Fencing`] is for the caller to write.
    pub fn on_event(&mut self, facts: &Facts<'_>, state: &State, event: Event) {
        match event {
            Event::Support { held } => self.supported = held,
            Event::OwnLeaseFenced { epoch } => self.fenced = Some(epoch),
            Event::Certified { voter, node, epoch } => {
                self.takeover.on_certificate(voter, node, epoch);
            }
            Event::Fencing { node, epoch: _ } => {
                if let Some(candidacy) = Candidacy::of(self.me, node, self.timing, facts, state) {
                    self.candidacy = Some(candidacy);
                }
            }
            Event::Frozen { frozen } => self.frozen = frozen,
            Event::OtherLease { .. } => {}
        }
    }

    /// A proposal has come to an end.
    pub fn finished(&mut self, now: Instant, purpose: Purpose, came: Came) {
        self.under_way.remove(&purpose);
        match came {
            Came::Done { revision } => {
                self.retired |= purpose == Purpose::Retire;
                self.unseen.insert(purpose, revision);
            }
            Came::Rejected | Came::Nothing => {
                self.again.insert(purpose, now.after(RETRY));
            }
        }
    }

    /// What it does from now on about an address that somebody outside has.
    pub fn set_rule(&mut self, rule: Rule) {
        self.asking.rule = rule;
    }

    /// The link was asked: what came of some of the questions.
    pub fn answered(&mut self, now: Instant, answers: &[(IpAddr, Answer)]) {
        self.asking.answered(now, answers);
    }

    /// The node is asked to stop: it gives its addresses to others first.
    pub fn stop(&mut self, now: Instant) {
        self.stop_by.get_or_insert(now.after(LET_GO));
    }

    /// Whether it was asked to stop.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stop_by.is_some()
    }

    /// Whether it may end now: it was asked to stop, and has nothing left to give, or has waited long enough.
    #[must_use]
    pub fn may_go(&self, facts: &Facts<'_>) -> bool {
        let spared = match facts.leader {
            Some(_) => Span(0),
            None => Span(LET_GO.0 - LET_GO_ALONE.0),
        };
        self.stop_by.is_some_and(|by| facts.now.after(spared) >= by)
    }

    /// When to look again if nothing happens before.
    #[must_use]
    pub fn next_look(&self) -> Option<Instant> {
        let again = self.again.values().copied();
        let candidacy = self.candidacy.map(|it| it.next);
        let others = [
            candidacy,
            self.due,
            self.lead.next_look(),
            self.moves.next_look(),
            self.asking.next_look(),
        ];
        again.chain(others.into_iter().flatten()).min()
    }

    /// Looks at everything, and says what is to be done now.
    pub fn look(&mut self, facts: &Facts<'_>, state: &State) -> Decision {
        self.again.retain(|_, at| *at > facts.now);
        self.unseen.retain(|_, by| by.0 > state.applied());
        self.takeover.forget_settled(state);
        self.given_back
            .retain(|address, epoch| gates::held_under(state, self.me, *address, *epoch));
        let mut decision = Decision {
            gates: self.gates_to_tell(facts, state),
            view: gates::view(state, self.me, self.caught_up),
            ..Decision::default()
        };
        self.due = None;
        if facts.leader == Some(self.me) {
            self.withdraw_the_lost(state, &mut decision.proposals);
            self.what_is_due(facts, state, &mut decision.proposals);
        }
        let leased = state.node(self.me).is_some_and(|me| me.lease == Lease::Up);
        let may = leased && self.caught_up && self.supported && self.stop_by.is_none();
        self.asking.tidy(facts.now, may);
        if may {
            if let Some(told) = self.asking.tell(state, self.me) {
                self.propose(Purpose::Probed, told, &mut decision.proposals);
            }
            decision.questions = self.asking.questions(facts.now, state, self.me);
        }
        if self.caught_up {
            self.keep_own_record(facts, state, &mut decision.proposals);
        }
        if let Some(candidacy) = &mut self.candidacy {
            match candidacy.step(facts) {
                election::Step::Over => self.candidacy = None,
                election::Step::Wait => {}
                election::Step::Stand => decision.elect = true,
            }
        }
        let leads = facts.leader == Some(self.me);
        let supported = self.supported && !self.frozen;
        decision.quiet = self.lead.quiet(self.timing, facts, leads, supported);
        decision
    }

    fn gates_to_tell(&mut self, facts: &Facts<'_>, state: &State) -> Option<Gates> {
        // What an earlier life of this node left open stays open until it is known to be wrong: a restart within the
        // lease loses nothing. What this life itself has opened is shut without delay: the next lease would open what
        // was lost with the last one (mutant `patient-for-long` of the model).
        let young = facts.now.since(self.began) <= Span(4 * self.timing.lease.0);
        let patient = young && self.told.is_none();
        if !self.caught_up || (!self.supported && patient) {
            return None;
        }
        // Only these, the moves and the clock make gates; and the clock matters to moves alone. An idle node looks every
        // second, and has thousands of addresses.
        let now = Basis::of(state, self.supported, facts.now);
        let still = self.given_back.is_empty() && self.moves.still();
        if let (Some(told), Some(basis), true) = (&mut self.told, &mut self.basis, still) {
            if basis.is_still(&now) {
                return None;
            }
            if let Some(changes) = basis.changes(&now, state, self.me, &self.moves, told) {
                return follow(told, changes);
            }
        }
        self.basis = Some(now);
        self.moves
            .look(facts.now, state, self.me, self.told.as_ref());
        let mut gates = gates::gates(state, self.me, self.supported, &self.moves);
        for address in self.given_back.keys() {
            if let Some(stance) = gates.get_mut(address).filter(|stance| stance.is_open()) {
                stance.duty = Duty::Shut;
            }
        }
        if self.told.as_ref() == Some(&gates) {
            return None;
        }
        self.told = Some(gates.clone());
        Some(gates)
    }

    fn withdraw_the_lost(&mut self, state: &State, proposals: &mut Vec<(Purpose, Command)>) {
        let membership = state.voters().map_or(0, |(index, _)| index);
        for (node, epoch) in self.takeover.due(state) {
            let command = Command::NodeDown {
                node,
                epoch,
                membership,
            };
            self.propose(Purpose::Down(node, epoch), command, proposals);
        }
    }

    /// Proposes what is due by the clock, or notes when it will be: the return of what may return to its home, and that
    /// addresses which have cooled down may be given again.
    fn what_is_due(
        &mut self,
        facts: &Facts<'_>,
        state: &State,
        proposals: &mut Vec<(Purpose, Command)>,
    ) {
        let timed = [
            (state.failback_due(), Purpose::FailBack, Command::FailBack),
            (state.ripe_at(), Purpose::Ripen, Command::Ripen),
        ];
        for (due, purpose, command) in timed {
            let Some(due) = due else { continue };
            match due.0.checked_sub(facts.wall.0) {
                None | Some(0) => self.propose(purpose, command, proposals),
                Some(ms) => {
                    let due = facts.now.after(Span::millis(ms));
                    self.due = Some(self.due.map_or(due, |other| other.min(due)));
                }
            }
        }
    }

    fn keep_own_record(
        &mut self,
        facts: &Facts<'_>,
        state: &State,
        proposals: &mut Vec<(Purpose, Command)>,
    ) {
        let inherits = facts.now < self.inherited;
        let Some(own) = Own::of(state, self.me, facts, inherits) else {
            return;
        };
        if self.stop_by.is_some() {
            if own.has_nothing_to_give(state, self.retired) {
                self.stop_by = Some(facts.now);
            } else if !self.retired {
                self.propose(Purpose::Retire, own.retire(), proposals);
            }
        } else if own.needs_a_lease(self.fenced) {
            let command = own.up(&self.about, facts);
            self.propose(Purpose::Up, command, proposals);
        } else if own.outdated {
            self.propose(Purpose::Report, own.report(facts), proposals);
        }
        self.give_back(state, proposals);
    }

    /// Only what the datapath has been told to shut may be given back.
    fn give_back(&mut self, state: &State, proposals: &mut Vec<(Purpose, Command)>) {
        let Some(told) = &self.told else { return };
        let shut = |address: &IpAddr| told.get(address).is_none_or(|stance| !stance.is_open());
        let asked = gates::vacating(state, self.me);
        let given = asked.filter(|(address, _)| shut(address));
        let addresses: Vec<_> = given.take(RELEASED_AT_ONCE).collect();
        if addresses.is_empty() {
            return;
        }
        self.given_back.extend(addresses.iter().copied());
        let command = Command::Released {
            node: self.me,
            addresses,
        };
        self.propose(Purpose::Release, command, proposals);
    }

    fn propose(
        &mut self,
        purpose: Purpose,
        command: Command,
        proposals: &mut Vec<(Purpose, Command)>,
    ) {
        let waits = self.again.contains_key(&purpose) || self.unseen.contains_key(&purpose);
        if !waits && self.under_way.insert(purpose) {
            proposals.push((purpose, command));
        }
    }
}

/// Carries the changes out; all gates, if there are any.
fn follow(told: &mut Gates, changes: Vec<(IpAddr, Option<Stance>)>) -> Option<Gates> {
    let news = !changes.is_empty();
    for (address, stance) in changes {
        match stance {
            Some(stance) => told.insert(address, stance),
            None => told.remove(&address),
        };
    }
    news.then(|| told.clone())
}
