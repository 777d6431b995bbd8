//! Commands with a ticket: the second time they are answered as the first time, and change nothing.

use super::{Entry, State};
use crate::command::Outcome;
use crate::once::{Answer, Ticket, Ticketed};
use crate::rejection::Rejection;
use crate::time::Millis;

/// How many answers are remembered.
pub(super) const ANSWERS: usize = 1000;
/// For how long, by the entries' own times.
pub(super) const REMEMBERED: Millis = Millis(24 * 60 * 60 * 1000);

impl State {
    /// What was refused had no effect and is not remembered: asked again, it is judged as things are then.
    pub(super) fn once(&mut self, entry: Entry, ticket: Ticket, command: &Ticketed) -> Outcome {
        let over = |answer: &Answer| entry.at.0 >= answer.at.0.saturating_add(REMEMBERED.0);
        while self.answers.front().is_some_and(over) {
            self.answers.pop_front();
        }
        // Repeats follow soon.
        let mut newest = self.answers.iter().rev();
        if let Some(known) = newest.find(|known| known.ticket.key == ticket.key) {
            return match known.ticket == ticket {
                true => Ok(known.applied.clone()),
                false => Err(Rejection::KeyReused),
            };
        }
        let applied = self.carry(entry, command.command())?;
        if self.answers.len() == ANSWERS {
            self.answers.pop_front();
        }
        self.answers.push_back(Answer {
            ticket,
            at: entry.at,
            applied: applied.clone(),
        });
        Ok(applied)
    }
}
