//! Which objects of a collection are meant: `labelSelector` and `fieldSelector`.

mod fields;
mod labels;

use serde_json::Value;
use vipd_core::name::Name;
use vipd_core::selector::Selector;
use vipd_core::state::State;

use crate::kind::{Kind, Look};
use crate::problem::Refusal;
use fields::Fields;
pub(crate) use labels::{SIGNS, is_word};

/// The longest selector, in bytes.
const LONGEST: usize = 4096;

/// Conditions on objects; all must be met.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    labels: Selector,
    fields: Fields,
}

impl Filter {
    /// Reads both selectors; fields are held against the schema of `K`.
    pub(crate) fn parse<K: Kind>(
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, Refusal> {
        for given in [labels, fields].into_iter().flatten() {
            if given.len() > LONGEST {
                let why = format!("it has {} bytes; {LONGEST} are the most", given.len());
                return Err(bad("a selector", &why));
            }
        }
        let labels = labels.map(labels::parse).transpose();
        let fields = fields.map(Fields::parse::<K>).transpose();
        Ok(Self {
            labels: labels
                .map_err(|why| bad("labelSelector", &why))?
                .unwrap_or_default(),
            fields: fields
                .map_err(|why| bad("fieldSelector", &why))?
                .unwrap_or_default(),
        })
    }

    /// Whether every object meets it.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels == Selector::default() && self.fields.is_empty()
    }

    /// A field among the conditions that can change without a watch being told.
    pub(crate) fn untold<K: Kind>(&self) -> Option<String> {
        self.fields.untold(K::UNTOLD)
    }

    /// The object, if there is one and it meets the conditions.
    pub(crate) fn show<K: Kind>(&self, look: &Look<'_>, name: &Name) -> Option<K> {
        if !self.labels_met::<K>(look.state, name) {
            return None;
        }
        let shown = K::show(look, name)?;
        if self.fields.is_empty() {
            return Some(shown);
        }
        let value = serde_json::to_value(&shown).unwrap_or(Value::Null);
        self.fields.met(&value).then_some(shown)
    }

    fn labels_met<K: Kind>(&self, state: &State, name: &Name) -> bool {
        self.labels == Selector::default() || K::selected(state, name, &self.labels)
    }
}

fn bad(what: &str, why: &str) -> Refusal {
    Refusal::bad_request(
        "bad_selector",
        format!("{what}: {why}"),
        "labels: app=web,tier!=db,rack in (a,b),!old; fields: spec.pool=web,name!=www",
    )
}
