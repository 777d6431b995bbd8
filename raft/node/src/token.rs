//! Join tokens: what a new node is given so that it finds, and is let into, the right cluster.
//!
//! `vipd1-<base64url of: version, role, expiry, CA fingerprint, secret, checksum>`. The joiner trusts nobody but
//! the CA with that fingerprint; the cluster keeps only the hash of the secret, with the role, the expiry and
//! the number of uses that count, judged by the leader's clock. What the token itself says of role and expiry is for
//! people to read.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore;
use sha2::{Digest, Sha256};
use vipd_core::codec::{DecodeError, Reader, Wire, Writer};
use vipd_core::node::Role;
use vipd_core::time::Millis;
use vipd_core::token::TokenHash;

const PREFIX: &str = "vipd1-";

/// A join token. `Display` prints it whole, `Debug` without its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The role it gives.
    pub role: Role,
    /// When it ends.
    pub expires: Millis,
    /// SHA-256 of the cluster's CA certificate.
    pub(crate) fingerprint: [u8; 32],
    pub(crate) secret: [u8; 20],
}

/// Why a text is no token.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "this is no join token ({0}); copy the whole of what `vipd token` printed: it begins with {PREFIX}"
)]
pub struct TokenError(&'static str);

impl Token {
    /// A new token that pins the CA with this fingerprint. [`Token::hash`] is what the cluster must be told.
    pub(crate) fn generate(role: Role, expires: Millis, fingerprint: [u8; 32]) -> Self {
        let mut secret = [0; 20];
        rand::rng().fill_bytes(&mut secret);
        Self {
            role,
            expires,
            fingerprint,
            secret,
        }
    }

    /// What the cluster keeps of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        Sha256::digest(self.secret).into()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Writer::new();
        self.role.encode(&mut out);
        self.expires.encode(&mut out);
        out.raw(&self.fingerprint);
        out.raw(&self.secret);
        let mut bytes = out.finish();
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, until {})", self.role, self.expires)
    }
}

impl FromStr for Token {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text
            .trim()
            .strip_prefix(PREFIX)
            .ok_or(TokenError("it begins differently"))?;
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| TokenError("a character in it is wrong"))?;
        let (body, crc) = bytes
            .split_last_chunk::<4>()
            .ok_or(TokenError("it is too short"))?;
        if crc32c::crc32c(body).to_be_bytes() != *crc {
            return Err(TokenError("it was cut or changed"));
        }
        let parse = |mut input: Reader<'_>| -> Result<Self, DecodeError> {
            Ok(Self {
                role: Role::decode(&mut input)?,
                expires: Millis::decode(&mut input)?,
                fingerprint: <[u8; 32]>::decode(&mut input)?,
                secret: <[u8; 20]>::decode(&mut input)?,
            })
        };
        parse(Reader::new(body)).map_err(|_| TokenError("it was made by another version of vipd"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_printing_and_every_change_of_it_is_noticed() {
        let token = Token::generate(Role::Agent, Millis(1_800_000_000_000), [7; 32]);
        let text = token.to_string();
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        for n in 0..text.len() {
            assert!(text[..n].parse::<Token>().is_err(), "cut at {n}");
            let mut other = text.clone().into_bytes();
            other[n] = if other[n] == b'A' { b'B' } else { b'A' };
            assert_ne!(
                String::from_utf8(other).unwrap().parse(),
                Ok(token.clone()),
                "changed at {n}"
            );
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = Token::generate(Role::Voter, Millis(1), [7; 32]);
        assert!(!format!("{token:?}").contains(&hex::encode(token.secret)));
    }
}
