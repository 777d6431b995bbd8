//! The kinds of objects, as far as the routes treat them alike.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;
use vipd_core::command::{Command, Expect};
use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::pool::Care;
use vipd_core::selector::Selector;
use vipd_core::state::{State, Topic};

use crate::control::LocalStatus;
use crate::outlook::RunnersUp;
use crate::problem::Refusal;

/// What an object is shown from.
#[derive(Clone, Copy)]
pub(crate) struct Look<'a> {
    /// What the cluster agrees on.
    pub(crate) state: &'a State,
    /// What only this node knows.
    pub(crate) local: &'a LocalStatus,
    /// Who would hold what next, of those holders that were asked for.
    pub(crate) next: &'a RunnersUp,
}

/// A kind of object: its wire type.
pub(crate) trait Kind: Serialize + ToSchema + Send + Sized + 'static {
    /// What it is called in answers.
    const WORD: &'static str;
    /// Its name in the OpenAPI document.
    const SCHEMA: &'static str;
    /// Its name in the journal.
    const TOPIC: Topic;

    /// Fields that only the asked node knows, or that are worked out from other objects: the journal does not tell when they
    /// change.
    const UNTOLD: &'static [&'static str];

    /// The names of all, in order, after the one given.
    fn names<'a>(state: &'a State, after: Option<&'a Name>) -> Box<dyn Iterator<Item = Name> + 'a>;

    /// Whether a selector of labels selects the one of this name.
    fn selected(state: &State, name: &Name, selector: &Selector) -> bool;

    /// The one of this name.
    fn show(look: &Look<'_>, name: &Name) -> Option<Self>;

    /// The entry that last changed it.
    fn revision(&self) -> u64;

    /// Those whose runners-up are shown with the object of this name, or with all.
    fn holders(_state: &State, _name: Option<&Name>) -> BTreeSet<NodeId> {
        BTreeSet::new()
    }
}

/// A kind of object that users make, replace and delete.
pub(crate) trait Writable: Kind {
    /// What they send.
    type Write: DeserializeOwned + ToSchema + Send;
    /// How generated names begin.
    const STEM: &'static str;

    /// The name in what they send, if there is one.
    fn given(body: &Self::Write) -> Option<&str>;

    /// The command that makes or replaces one.
    fn put(name: Name, body: Self::Write, expect: Expect, care: Care) -> Result<Command, Refusal>;

    /// The command that deletes one.
    fn delete(name: Name, expect: Expect, care: Care) -> Command;
}
