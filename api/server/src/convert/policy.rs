//! Policies and their selectors.

use vipd_api_types as wire;
use vipd_core::policy::{Pattern, Policy, PolicySpec};
use vipd_core::state::State;

use super::selector::{selector_from_wire, selector_to_wire};
use crate::problem::Refusal;

/// What a user says about a policy.
pub(crate) fn spec_from_wire(spec: &wire::PolicySpec) -> Result<PolicySpec, Refusal> {
    let interfaces = spec.interfaces.iter();
    Ok(PolicySpec {
        vips: selector_from_wire("vip_selector", &spec.vip_selector)?,
        nodes: selector_from_wire("node_selector", &spec.node_selector)?,
        interfaces: interfaces
            .map(|text| Pattern::new(text).map_err(Refusal::invalid))
            .collect::<Result<_, _>>()?,
    })
}

/// The same the other way.
pub(crate) fn spec_to_wire(spec: &PolicySpec) -> wire::PolicySpec {
    let patterns = spec.interfaces.iter();
    wire::PolicySpec {
        vip_selector: selector_to_wire(&spec.vips),
        node_selector: selector_to_wire(&spec.nodes),
        interfaces: patterns
            .map(|pattern| pattern.as_str().to_owned())
            .collect(),
    }
}

/// A policy, and what it selects now.
pub(crate) fn to_wire(state: &State, policy: &Policy) -> wire::Policy {
    let vips = state.vips().values().filter(|vip| policy.selects(vip));
    let mut nodes: Vec<String> = state
        .nodes()
        .values()
        .filter(|node| {
            let mut interfaces = node.interfaces.iter();
            interfaces.any(|interface| policy.allows(node, &interface.name))
        })
        .map(|node| node.name.to_string())
        .collect();
    nodes.sort();
    wire::Policy {
        name: policy.name.to_string(),
        labels: policy.labels.clone(),
        generation: policy.generation,
        revision: policy.revision.0,
        spec: spec_to_wire(&policy.spec),
        status: wire::PolicyStatus {
            vips: vips.map(|vip| vip.name.to_string()).collect(),
            nodes,
        },
    }
}
