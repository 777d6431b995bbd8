//! Join tokens, made on any member.

use std::time::Duration;

use vipd_core::asker::Who;
use vipd_core::command::Command;
use vipd_core::node::Role;
use vipd_core::rejection::Rejection;
use vipd_core::time::Millis;

use super::ProposeError;
use super::handle::RaftNode;
use crate::identity::{fingerprint, now};
use crate::token::Token;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenRequestError {
    /// The cluster did not answer.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The cluster refused.
    #[error("{0}")]
    Rejected(Rejection),
}

impl RaftNode {
    /// Makes a join token that gives `role`, ends after `valid` and serves `uses` nodes, for `who` asked for it.
    ///
    /// # Errors
    /// [`TokenRequestError`] if the cluster did not note it.
    pub async fn issue_token(
        &self,
        who: Who,
        role: Role,
        valid: Duration,
        uses: u32,
    ) -> Result<Token, TokenRequestError> {
        let valid = u64::try_from(valid.as_millis()).unwrap_or(u64::MAX);
        let expires = Millis(now().0.saturating_add(valid));
        let token = self.new_token(role, expires);
        let command = Command::PutJoinToken {
            token: token.hash(),
            role,
            expires,
            uses,
        };
        match self.propose_for(who, command).await? {
            Ok(_) => Ok(token),
            Err(rejection) => Err(TokenRequestError::Rejected(rejection)),
        }
    }

    /// A token that pins this cluster's CA. It is of no use until its hash is proposed.
    #[must_use]
    pub fn new_token(&self, role: Role, expires: Millis) -> Token {
        Token::generate(
            role,
            expires,
            fingerprint(self.core.identity.authority.certificate()),
        )
    }
}
