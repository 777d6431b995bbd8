//! Secrets of API tokens. The cluster keeps only their hashes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use vipd_core::token::TokenHash;

/// What an API token begins with, so that people and secret scanners know one.
const PREFIX: &str = "vipd_api_";

/// A fresh API token of 256 random bits, and what the cluster shall keep of it.
#[must_use]
pub fn new_token() -> (String, TokenHash) {
    let secret: [u8; 32] = rand::random();
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
    let hash = hash_token(&token);
    (token, hash)
}

/// What the cluster keeps of an API token.
#[must_use]
pub fn hash_token(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}
