//! Selectors.

use std::collections::BTreeSet;

use vipd_api_types as wire;
use vipd_core::selector::{Operator, Requirement, Selector};

use crate::problem::Refusal;

/// What a user selects; `field` names it in errors.
pub(crate) fn selector_from_wire(
    field: &str,
    selector: &wire::Selector,
) -> Result<Selector, Refusal> {
    let expressions = selector.match_expressions.iter();
    let match_expressions = expressions.map(|wire| requirement_from_wire(field, wire));
    Ok(Selector {
        match_labels: selector.match_labels.clone(),
        match_expressions: match_expressions.collect::<Result<_, _>>()?,
    })
}

fn requirement_from_wire(field: &str, wire: &wire::Requirement) -> Result<Requirement, Refusal> {
    let bad = |why: &str| {
        let key = &wire.key;
        Err(Refusal::invalid(format!(
            "{field}: condition on {key} {why}"
        )))
    };
    let values: BTreeSet<String> = wire.values.iter().cloned().collect();
    let operator = match (wire.operator, values.is_empty()) {
        (wire::Operator::In, false) => Operator::In { values },
        (wire::Operator::NotIn, false) => Operator::NotIn { values },
        (wire::Operator::Exists, true) => Operator::Exists,
        (wire::Operator::DoesNotExist, true) => Operator::DoesNotExist,
        (wire::Operator::In | wire::Operator::NotIn, true) => {
            return bad("has no values: give at least one");
        }
        (wire::Operator::Exists | wire::Operator::DoesNotExist, false) => {
            return bad("has values, which exists and does_not_exist do not look at");
        }
    };
    Ok(Requirement {
        key: wire.key.clone(),
        operator,
    })
}

/// The same the other way.
pub(crate) fn selector_to_wire(selector: &Selector) -> wire::Selector {
    let expressions = selector.match_expressions.iter().map(|requirement| {
        let listed = |values: &BTreeSet<String>| values.iter().cloned().collect();
        let (operator, values) = match &requirement.operator {
            Operator::In { values } => (wire::Operator::In, listed(values)),
            Operator::NotIn { values } => (wire::Operator::NotIn, listed(values)),
            Operator::Exists => (wire::Operator::Exists, Vec::new()),
            Operator::DoesNotExist => (wire::Operator::DoesNotExist, Vec::new()),
        };
        wire::Requirement {
            key: requirement.key.clone(),
            operator,
            values,
        }
    });
    wire::Selector {
        match_labels: selector.match_labels.clone(),
        match_expressions: expressions.collect(),
    }
}
