//! Policies: made, replaced, deleted; the VIPs that they are about move where they may be.

use alloc::format;

use super::{Entry, State, Topic, done, expected, not_found, put, size};
use crate::command::{Applied, Expect, Outcome};
use crate::event::What;
use crate::name::{Labels, Name};
use crate::policy::{Policy, PolicySpec};
use crate::rejection::Rejection;

/// The most policies: each is looked at for each address.
const MAX_POLICIES: usize = 256;
/// The most interface patterns of one policy.
const MAX_PATTERNS: usize = 32;

impl State {
    pub(super) fn put_policy(
        &mut self,
        entry: Entry,
        name: &Name,
        labels: &Labels,
        spec: &PolicySpec,
        expect: Expect,
    ) -> Outcome {
        let old = self.policies.get(name);
        expected(expect, name, "policy", old.map(|policy| policy.revision))?;
        if let Some(old) = old
            && old.spec == *spec
            && old.labels == *labels
        {
            return Ok(Applied::Done {
                revision: old.revision,
            });
        }
        let new = old.is_none();
        size::check_labels("policy", name, labels)?;
        self.check_policy(name, spec)?;
        let (created, generation) = match old {
            Some(old) => (old.created, old.generation + u64::from(old.spec != *spec)),
            None => (entry.at, 1),
        };
        let policy = Policy {
            name: name.clone(),
            labels: labels.clone(),
            spec: spec.clone(),
            created,
            generation,
            revision: entry.revision,
        };
        let had = old.map(size::of_policy);
        let has = size::of_policy(&policy);
        self.has_room(had.unwrap_or(0), has)?;
        self.index.weigh(had, Some(has));
        self.policies.insert(name.clone(), policy);
        if new {
            self.made(Topic::Policy, name);
        }
        let policy = name.clone();
        self.note(entry, What::PolicyPut { policy });
        self.settle(entry);
        put(entry, new)
    }

    /// Refuses a policy that would be one too many, or too large.
    pub(super) fn check_policy(&self, name: &Name, spec: &PolicySpec) -> Result<(), Rejection> {
        if spec.interfaces.len() > MAX_PATTERNS {
            let n = spec.interfaces.len();
            return Err(Rejection::Invalid {
                why: format!("policy {name} has {n} interface patterns, more than {MAX_PATTERNS}"),
            });
        }
        for (which, selector) in [("VIP", &spec.vips), ("node", &spec.nodes)] {
            if let Some(excess) = selector.excess() {
                return Err(Rejection::Invalid {
                    why: format!("the {which} selector of policy {name} {excess}"),
                });
            }
        }
        if !self.policies.contains_key(name) && self.policies.len() >= MAX_POLICIES {
            return Err(Rejection::Invalid {
                why: format!("there are {MAX_POLICIES} policies already, which is the most"),
            });
        }
        Ok(())
    }

    pub(super) fn delete_policy(&mut self, entry: Entry, name: &Name, expect: Expect) -> Outcome {
        let policy = self
            .policies
            .get(name)
            .ok_or_else(|| not_found("policy", name))?;
        expected(expect, name, "policy", Some(policy.revision))?;
        let weight = size::of_policy(policy);
        self.index.weigh(Some(weight), None);
        self.policies.remove(name);
        let policy = name.clone();
        self.note(entry, What::PolicyDeleted { policy });
        self.settle(entry);
        done(entry)
    }
}
