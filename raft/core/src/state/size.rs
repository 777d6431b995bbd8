//! How large the state may get: a snapshot of it goes to a peer in one piece.
//!
//! Users' objects are weighed by what they may come to hold, not by what they hold now: whether a write is refused does not
//! depend on who waits for an address, and what is given later needs no room any more. All else has bounds of its own.

use alloc::format;

use super::State;
use crate::codec::Wire;
use crate::name::{Labels, Name};
use crate::policy::Policy;
use crate::pool::Pool;
use crate::rejection::Rejection;
use crate::vip::VipSpec;

/// The most that users' objects may weigh, in bytes: with names and specs of usual length, 140,000 VIPs of two addresses each.
pub const MOST: u64 = 128 * 1024 * 1024;

/// What is encoded of a VIP besides name, labels, spec and addresses, or of a pool or policy besides those.
const OBJECT: usize = 64;
/// An allocation, at the longest names.
const ALLOCATION: usize = 320;
/// An address that a VIP asks for: in the VIP, allocated, with the VIP's name among those that share it. Why it has not been
/// given is shorter.
const WISH: usize = 17 + 4 + Name::MAX + ALLOCATION;

/// The most labels of one object.
pub(super) const MAX_LABELS: usize = 64;
/// The longest key of a label, in bytes: `prefix/name`, 253 and 63 in Kubernetes.
const MAX_KEY: usize = 317;
/// The longest value, in bytes.
const MAX_VALUE: usize = 1024;
/// The longest name of an interface that Linux knows, in bytes.
const MAX_INTERFACE: usize = 15;

/// What a VIP whose spec weighs so much may come to hold.
pub(super) fn of_vip(name: &Name, labels: &Labels, spec: u64) -> u64 {
    weight(OBJECT + name.size() + labels.size()) + spec
}

/// What a spec lets its VIP come to hold.
pub(super) fn of_spec(spec: &VipSpec) -> u64 {
    weight(spec.size() + wishes(spec) * WISH)
}

/// How many addresses a VIP asks for.
pub(super) fn wishes(spec: &VipSpec) -> usize {
    match spec.addresses.len() {
        0 => spec.families.wanted().len(),
        named => named,
    }
}

/// The same of a pool; its addresses are those of VIPs.
pub(super) fn of_pool(pool: &Pool) -> u64 {
    weight(OBJECT + pool.name.size() + pool.size())
}

/// The same of a policy.
pub(super) fn of_policy(policy: &Policy) -> u64 {
    weight(OBJECT + policy.name.size() + policy.size())
}

/// The same of so many addresses that a VIP had, and that are still to be let go, or cool down.
pub(super) fn of_late(addresses: usize) -> u64 {
    weight(addresses * ALLOCATION)
}

fn weight(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl State {
    /// What users' objects weigh, and the addresses that their VIPs had a while ago.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.index.weight + of_late(self.index.stock.late_addresses())
    }

    /// Refuses a write by which something that weighed `from` weighs `to`, if that is too much.
    pub(super) fn has_room(&self, from: u64, to: u64) -> Result<(), Rejection> {
        let size = self.size();
        if to > from && size.saturating_sub(from) + to > MOST {
            return Err(Rejection::StateFull { size, most: MOST });
        }
        Ok(())
    }

    /// Refuses a state that is too large as a whole.
    pub(super) fn has_all_room(&self) -> Result<(), Rejection> {
        let size = self.size();
        match size > MOST {
            true => Err(Rejection::StateFull { size, most: MOST }),
            false => Ok(()),
        }
    }
}

/// Refuses labels that are too many or too long.
pub(super) fn check_labels(kind: &str, name: &Name, labels: &Labels) -> Result<(), Rejection> {
    let invalid = |why| Err(Rejection::Invalid { why });
    if labels.len() > MAX_LABELS {
        let n = labels.len();
        return invalid(format!(
            "{kind} {name} would have {n} labels, more than {MAX_LABELS}"
        ));
    }
    for (key, value) in labels {
        let of = [("key", key, MAX_KEY), ("value", value, MAX_VALUE)];
        if let Some((part, text, most)) = of.into_iter().find(|(_, text, most)| text.len() > *most)
        {
            let n = text.len();
            return invalid(format!(
                "{kind} {name} has a label whose {part} has {n} bytes, more than {most}"
            ));
        }
    }
    Ok(())
}

/// Refuses a VIP's interface that is too long.
pub(super) fn check_interface(name: &Name, spec: &VipSpec) -> Result<(), Rejection> {
    match spec.interface.as_ref().map(|interface| interface.len()) {
        Some(n) if n == 0 || n > MAX_INTERFACE => Err(Rejection::Invalid {
            why: format!(
                "VIP {name} names an interface of {n} bytes: names of interfaces have 1 to {MAX_INTERFACE}"
            ),
        }),
        Some(_) | None => Ok(()),
    }
}
