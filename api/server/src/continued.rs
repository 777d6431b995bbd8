//! Where a list that is read in parts goes on.
//!
//! A part begins after the last name of the one before, so whatever exists all the while is shown once, whoever writes in
//! between. All parts carry the revision of the first one: a watch from there on tells all that changed meanwhile. When that
//! is forgotten, so that such a list could not be completed by a watch, the next part is refused.

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use vipd_core::name::Name;
use vipd_core::state::State;

use crate::kind::Kind;
use crate::params::ListParams;
use crate::problem::Refusal;

/// The beginning of a list, or the point where it goes on.
pub(crate) struct Continued {
    /// Which list it is: kind and selectors.
    of: String,
    at: Option<(u64, Name)>,
}

impl Continued {
    pub(crate) fn from<K: Kind>(params: &ListParams) -> Result<Self, Refusal> {
        let mut hash = Sha256::new();
        for part in [
            Some(K::SCHEMA),
            params.label_selector.as_deref(),
            params.field_selector.as_deref(),
        ] {
            hash.update(part.unwrap_or_default());
            hash.update([0]);
        }
        let of = URL_SAFE_NO_PAD.encode(&hash.finalize()[..6]);
        let at = params.next.as_deref().map(|token| read(token, &of));
        Ok(Self {
            at: at.transpose()?,
            of,
        })
    }

    /// The name after which it goes on.
    pub(crate) fn after(&self) -> Option<&Name> {
        self.at.as_ref().map(|(_, name)| name)
    }

    /// The revision at which the list was begun.
    pub(crate) fn revision(&self, state: &State) -> u64 {
        self.at.as_ref().map_or(state.applied(), |at| at.0)
    }

    /// Refuses to go on with a list that is too old.
    pub(crate) fn good(&self, state: &State) -> Result<(), Refusal> {
        match &self.at {
            // What it showed could be older than the list says.
            Some((revision, _)) if *revision > state.applied() => Err(Refusal::new(
                StatusCode::GATEWAY_TIMEOUT,
                "not_caught_up",
                "This node lags",
                format!(
                    "the list was begun at revision {revision}, and this node has applied {}",
                    state.applied()
                ),
                "ask the node that it was begun at, or without consistency=local",
            )),
            Some((revision, _)) if !state.journal().reaches(*revision) => Err(Refusal::new(
                StatusCode::GONE,
                "continue_expired",
                "The list is too old to go on with",
                format!(
                    "the list was begun at revision {revision}, and this node no longer knows what has changed since"
                ),
                "begin the list anew, without continue; a greater limit makes it shorter",
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// What to ask the next part with.
    pub(crate) fn go_on(&self, revision: u64, last: &Name) -> String {
        URL_SAFE_NO_PAD.encode(format!("{revision} {} {last}", self.of))
    }
}

fn read(token: &str, of: &str) -> Result<(u64, Name), Refusal> {
    let bad = |why: &str| {
        Refusal::bad_request(
            "bad_continue",
            format!("continue: {why}"),
            "send what the last part said, with the same selectors, or begin anew without it",
        )
    };
    let text = URL_SAFE_NO_PAD.decode(token).ok();
    let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
    let parts = text.as_deref().and_then(|text| {
        let mut parts = text.splitn(3, ' ');
        let (revision, list) = (parts.next()?.parse().ok()?, parts.next()?);
        Some((revision, list, Name::new(parts.next()?).ok()?))
    });
    match parts {
        None => Err(bad("it is none that this API has given out")),
        Some((_, list, _)) if list != of => Err(bad(
            "it belongs to a list of another kind or with other selectors",
        )),
        Some((revision, _, name)) => Ok((revision, name)),
    }
}
