//! Selectors: which VIPs or nodes something is about, by their labels.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::codec::{wire_enum, wire_struct};
use crate::name::{Labels, Name};

/// The label that every object has by itself: its name. What a user sets under this key is not looked at, so
/// nobody can pass for another.
pub const NAME_LABEL: &str = "vipd/name";

/// The same for the namespace of a VIP.
pub const NAMESPACE_LABEL: &str = "vipd/namespace";

/// Conditions on labels; all must be met. An empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Labels that must have these very values.
    pub match_labels: Labels,
    /// Further conditions.
    pub match_expressions: Vec<Requirement>,
}

wire_struct!(Selector {
    match_labels,
    match_expressions
});

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What must be so.
    pub operator: Operator,
}

wire_struct!(Requirement { key, operator });

impl Requirement {
    /// Its key and values.
    fn texts(&self) -> impl Iterator<Item = &String> {
        let values = match &self.operator {
            Operator::In { values } | Operator::NotIn { values } => Some(values),
            Operator::Exists | Operator::DoesNotExist => None,
        };
        core::iter::once(&self.key).chain(values.into_iter().flatten())
    }
}

/// What must be so with a label. As in Kubernetes, an absent label is "not in" any list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Its value is one of these.
    In {
        /// The values.
        values: BTreeSet<String>,
    },
    /// It is absent, or its value is none of these.
    NotIn {
        /// The values.
        values: BTreeSet<String>,
    },
    /// It is there, whatever its value.
    Exists,
    /// It is absent.
    DoesNotExist,
}

wire_enum!(Operator {
    0 => In { values },
    1 => NotIn { values },
    2 => Exists,
    3 => DoesNotExist,
});

/// The most conditions of one selector, and the most values of one condition: every selector is asked about every VIP or
/// node that it may concern, also while a lost node's addresses move.
pub const MAX_CONDITIONS: usize = 32;
/// See [`MAX_CONDITIONS`].
pub const MAX_VALUES: usize = 64;
/// The longest key or value, in bytes.
const MAX_TEXT: usize = 1024;

impl Selector {
    /// Why it asks for too much, if it does.
    #[must_use]
    pub fn excess(&self) -> Option<String> {
        let conditions = self.match_labels.len() + self.match_expressions.len();
        if conditions > MAX_CONDITIONS {
            return Some(format!(
                "has {conditions} conditions, more than {MAX_CONDITIONS}"
            ));
        }
        let texts = self
            .match_labels
            .iter()
            .flat_map(|(key, value)| [key, value]);
        let texts = texts.chain(self.match_expressions.iter().flat_map(Requirement::texts));
        if let Some(n) = texts.map(String::len).find(|n| *n > MAX_TEXT) {
            return Some(format!("has a text of {n} bytes, more than {MAX_TEXT}"));
        }
        self.match_expressions.iter().find_map(|requirement| {
            let values = match &requirement.operator {
                Operator::In { values } | Operator::NotIn { values } => values.len(),
                Operator::Exists | Operator::DoesNotExist => 0,
            };
            let key = &requirement.key;
            (values > MAX_VALUES)
                .then(|| format!("names {values} values of {key}, more than {MAX_VALUES}"))
        })
    }

    /// Whether the object of this name, whose labels `label` finds by key, is selected.
    pub fn selects<'a>(&self, name: &'a Name, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let value = |key: &str| match key {
            NAME_LABEL => Some(name.as_str()),
            other => label(other),
        };
        let labels = self.match_labels.iter();
        let mut labels = labels.map(|(key, wanted)| value(key) == Some(wanted.as_str()));
        let mut others = self
            .match_expressions
            .iter()
            .map(|requirement| requirement.operator.met(value(&requirement.key)));
        labels.all(|met| met) && others.all(|met| met)
    }
}

impl Operator {
    fn met(&self, value: Option<&str>) -> bool {
        match self {
            Self::In { values } => value.is_some_and(|value| values.contains(value)),
            Self::NotIn { values } => value.is_none_or(|value| !values.contains(value)),
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn selects(selector: &Selector, labels: &[(&str, &str)]) -> bool {
        let labels: Labels = labels
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        let name = Name::new("www").unwrap();
        selector.selects(&name, |key| labels.get(key).map(String::as_str))
    }

    fn expression(key: &str, operator: Operator) -> Selector {
        Selector {
            match_expressions: [Requirement {
                key: key.into(),
                operator,
            }]
            .into(),
            ..Selector::default()
        }
    }

    #[test]
    fn an_empty_selector_selects_everything() {
        assert!(selects(&Selector::default(), &[]));
        assert!(selects(&Selector::default(), &[("app", "web")]));
    }

    #[test]
    fn each_operator_does_what_it_does_in_kubernetes() {
        let values: BTreeSet<String> = ["a".into(), "b".into()].into();
        let table = [
            (
                Operator::In {
                    values: values.clone(),
                },
                [true, false, false],
            ),
            (Operator::NotIn { values }, [false, true, true]),
            (Operator::Exists, [true, true, false]),
            (Operator::DoesNotExist, [false, false, true]),
        ];
        for (operator, wanted) in table {
            let selector = expression("rack", operator.clone());
            let met = [
                selects(&selector, &[("rack", "a")]),
                selects(&selector, &[("rack", "z")]),
                selects(&selector, &[("tier", "a")]),
            ];
            assert_eq!(met, wanted, "{operator:?} on rack=a, rack=z, no rack");
        }
    }

    #[test]
    fn every_condition_must_be_met() {
        let mut selector = expression("rack", Operator::Exists);
        selector.match_labels.insert("app".into(), "web".into());
        assert!(selects(&selector, &[("app", "web"), ("rack", "a")]));
        assert!(!selects(&selector, &[("app", "web")]));
        assert!(!selects(&selector, &[("rack", "a")]));
    }

    #[test]
    fn an_object_is_selected_by_its_name_and_nobody_can_pretend_to_it() {
        let mut selector = Selector::default();
        selector
            .match_labels
            .insert(NAME_LABEL.into(), "www".into());
        assert!(selects(&selector, &[]));
        selector.match_labels.insert(NAME_LABEL.into(), "db".into());
        assert!(!selects(&selector, &[(NAME_LABEL, "db")]));
    }
}
