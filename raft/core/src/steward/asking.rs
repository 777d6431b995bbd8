//! Which addresses this node asks the link about before it announces them, and what it tells the cluster of the answers.
//!
//! ```text
//!   held, not Clear ──question──> under way ──answer──> found ──Probed──> Clear, or InUse: asked again after a while
//! ```

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::command::Command;
use crate::id::{Epoch, NodeId};
use crate::proof::{Answer, Claim, Found, Question, Rule};
use crate::state::State;
use crate::time::{Instant, Span};

/// Addresses about which something is not settled yet: three frames each in 200 ms, and one entry that must fit the log.
const AT_ONCE: usize = 1024;
/// When an address that somebody has is asked about again.
const IN_USE_AGAIN: Span = Span::millis(30_000);
/// The same of one about which nothing could be asked.
const UNASKED_AGAIN: Span = Span::millis(1000);
/// A question that is not answered in this time is asked anew.
const PATIENCE: Span = Span::millis(5000);

/// What is being asked, and what was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Asking {
    /// What this node does about an address that somebody has.
    pub(super) rule: Rule,
    /// The questions under way, and when they were asked.
    under_way: BTreeMap<IpAddr, (Question, Instant)>,
    /// When what was asked already may be asked again, under the same token.
    again: BTreeMap<IpAddr, (Epoch, Instant)>,
    /// What the cluster has yet to be told.
    found: BTreeMap<IpAddr, Found>,
}

impl Asking {
    /// Lets go of what is over by now. `may` if this node may announce at all: if not, what was found may be long past when
    /// it may again.
    pub(super) fn tidy(&mut self, now: Instant, may: bool) {
        self.again.retain(|_, (_, at)| *at > now);
        self.under_way
            .retain(|_, (_, asked)| now.since(*asked) < PATIENCE);
        if !may {
            self.found.clear();
        }
    }

    /// The questions to ask now, beside those under way.
    pub(super) fn questions(&mut self, now: Instant, state: &State, me: NodeId) -> Vec<Question> {
        let Some(node) = state.node(me) else {
            return Vec::new();
        };
        let room = AT_ONCE.saturating_sub(self.under_way.len() + self.found.len());
        let questions = state.unproven_of(me).filter_map(|(address, of)| {
            let held = of.vacating.is_none() && !of.freeing;
            if !held || self.knows(address, of.epoch) {
                return None;
            }
            Some(Question {
                address,
                epoch: of.epoch,
                interface: state.interface_for(node, address)?.into(),
            })
        });
        let questions: Vec<Question> = questions.take(room).collect();
        for question in &questions {
            self.under_way
                .insert(question.address, (question.clone(), now));
        }
        questions
    }

    /// Whether the question is under way, or answered, or was asked a short while ago.
    fn knows(&self, address: IpAddr, epoch: Epoch) -> bool {
        let under_way = self.under_way.get(&address).map(|(asked, _)| asked.epoch);
        let found = self.found.get(&address).map(|found| found.epoch);
        let again = self.again.get(&address).map(|(asked, _)| *asked);
        [under_way, found, again].contains(&Some(epoch))
    }

    /// What came of some of them.
    pub(super) fn answered(&mut self, now: Instant, answers: &[(IpAddr, Answer)]) {
        for (address, answer) in answers {
            let Some((question, _)) = self.under_way.remove(address) else {
                continue;
            };
            let epoch = question.epoch;
            let mut again = |span| self.again.insert(*address, (epoch, now.after(span)));
            let claim = match answer {
                Answer::Free => None,
                Answer::Taken(mac) => {
                    again(IN_USE_AGAIN);
                    Some(Claim {
                        mac: *mac,
                        interface: question.interface,
                    })
                }
                Answer::Unasked => {
                    again(UNASKED_AGAIN);
                    continue;
                }
            };
            let found = Found {
                address: *address,
                epoch,
                claim,
                rule: self.rule,
            };
            self.found.insert(*address, found);
        }
    }

    /// What the cluster is to be told, of addresses that this node still holds under the same token: what it does not know, and
    /// that somebody else has one for which there is another by now.
    pub(super) fn tell(&mut self, state: &State, me: NodeId) -> Option<Command> {
        self.found.retain(|address, found| {
            let of = state.allocations().get(address);
            of.is_some_and(|of| {
                let asked = of.holder == Some(me) && of.epoch == found.epoch;
                let news = of.proof.after(me, found).is_some();
                asked && (news || found.claim.is_some() && state.is_replaceable(*address))
            })
        });
        let found: Vec<Found> = self.found.values().cloned().collect();
        (!found.is_empty()).then_some(Command::Probed { node: me, found })
    }

    /// When something may be asked again.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.again.values().map(|(_, at)| *at).min()
    }
}
