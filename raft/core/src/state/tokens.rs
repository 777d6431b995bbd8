//! Join tokens and API tokens.

use alloc::format;

use super::{Entry, State, done, not_found};
use crate::asker::Who;
use crate::backup::SavedToken;
use crate::command::{Outcome, Proposal};
use crate::event::What;
use crate::id::Revision;
use crate::name::Name;
use crate::node::Role;
use crate::rejection::Rejection;
use crate::time::Millis;
use crate::token::{Access, ApiToken, JoinToken, TokenHash};

/// The most API tokens, and the most unexpired join tokens.
const MAX_TOKENS: usize = 10_000;

impl State {
    /// The token by which `proposal` was asked for, if it is good no more. The node that was asked may not have known:
    /// only the order of the log tells that a token was revoked before.
    pub(super) fn revoked(&self, proposal: &Proposal) -> Option<Name> {
        let Who::Token { token } = &proposal.by.as_ref()?.who else {
            return None;
        };
        // Entries of a vipd that did not tell tokens of one name apart are judged as they were then.
        let same = |made| made == token.made || token.made == Revision(0);
        let mut known = self.api_tokens.values();
        let good = known.any(|known| known.name == token.name && same(known.made));
        (!good).then(|| token.name.clone())
    }

    pub(super) fn put_join_token(
        &mut self,
        entry: Entry,
        token: &TokenHash,
        role: Role,
        expires: Millis,
        uses: u32,
    ) -> Outcome {
        // Kept a day past their end, so that a late joiner is told "expired" and not "unknown".
        let day = 24 * 60 * 60 * 1000;
        self.join_tokens
            .retain(|_, known| entry.at.0 < known.expires.0.saturating_add(day));
        if self.join_tokens.len() >= MAX_TOKENS {
            return Err(Rejection::Invalid {
                why: format!("there are {MAX_TOKENS} join tokens already"),
            });
        }
        self.join_tokens.insert(
            *token,
            JoinToken {
                role,
                expires,
                uses,
            },
        );
        self.note(entry, What::JoinTokenMade { role, uses });
        done(entry)
    }

    pub(super) fn put_api_token(
        &mut self,
        entry: Entry,
        token: &TokenHash,
        name: &Name,
        access: Access,
        expires: Option<Millis>,
    ) -> Outcome {
        if self.api_tokens.values().any(|known| known.name == *name) {
            return Err(Rejection::Exists {
                kind: "token".into(),
                name: name.as_str().into(),
            });
        }
        self.room_for_token()?;
        self.api_tokens.insert(
            *token,
            ApiToken {
                name: name.clone(),
                access,
                expires,
                created: entry.at,
                made: self.born(entry),
            },
        );
        self.note_token(entry, name, access, expires);
        done(entry)
    }

    /// Brings back the tokens of a backup that are not here any more. One that is here, by its name or its secret, is newer.
    pub(super) fn restore_tokens(
        &mut self,
        entry: Entry,
        saved: &[SavedToken],
    ) -> Result<(), Rejection> {
        for SavedToken { hash, token } in saved {
            let mut here = self.api_tokens.iter();
            if here.any(|(known, of)| known == hash || of.name == token.name) {
                continue;
            }
            self.room_for_token()?;
            let made = self.next_born(entry);
            let token = ApiToken {
                made,
                ..token.clone()
            };
            self.note_token(entry, &token.name, token.access, token.expires);
            self.api_tokens.insert(*hash, token);
        }
        Ok(())
    }

    fn room_for_token(&self) -> Result<(), Rejection> {
        if self.api_tokens.len() >= MAX_TOKENS {
            return Err(Rejection::Invalid {
                why: format!("there are {MAX_TOKENS} API tokens already"),
            });
        }
        Ok(())
    }

    fn note_token(&mut self, entry: Entry, name: &Name, access: Access, expires: Option<Millis>) {
        let token = name.clone();
        self.note(
            entry,
            What::TokenMade {
                token,
                access,
                expires,
            },
        );
    }

    pub(super) fn delete_api_token(&mut self, entry: Entry, name: &Name) -> Outcome {
        let hash = self
            .api_tokens
            .iter()
            .find(|(_, known)| known.name == *name)
            .map(|(hash, _)| *hash);
        self.api_tokens
            .remove(&hash.ok_or_else(|| not_found("token", name))?);
        let token = name.clone();
        self.note(entry, What::TokenRevoked { token });
        done(entry)
    }
}
