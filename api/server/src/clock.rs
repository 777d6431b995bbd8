//! Wall-clock time, for people and for the expiry of tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vipd_core::time::Millis;

/// Now.
pub(crate) fn now() -> Millis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// An instant from RFC 3339 text.
pub(crate) fn parse(text: &str) -> Option<Millis> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(Millis)
}

/// An instant as RFC 3339 text.
pub(crate) fn rfc3339(at: Millis) -> String {
    let at = i64::try_from(at.0)
        .ok()
        .and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    at.unwrap_or(jiff::Timestamp::MAX).to_string()
}
