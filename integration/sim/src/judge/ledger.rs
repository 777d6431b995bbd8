//! What clients were told: no acknowledged allocation is lost, none is given twice.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vipd_core::command::{Applied, Outcome};
use vipd_core::id::Revision;
use vipd_core::name::Name;
use vipd_core::state::State;

/// What a client asked. Each VIP has one writer, which does one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// A VIP.
    Put,
    /// A VIP no more.
    Delete,
}

/// What the last answer about each VIP promises.
#[derive(Default)]
pub(super) struct Ledger(BTreeMap<Name, Known>);

enum Known {
    There(Revision, Vec<IpAddr>),
    Gone,
    Unsure,
}

impl Ledger {
    pub(super) fn acknowledged(
        &mut self,
        state: &State,
        name: &Name,
        write: Write,
        outcome: &Outcome,
    ) -> Result<(), String> {
        let Ok(applied) = outcome else {
            return Ok(()); // refused: nothing has changed
        };
        let found = state.vips().get(name);
        match (write, applied, found) {
            (Write::Put, Applied::Done { revision } | Applied::Created { revision }, Some(vip)) => {
                if vip.revision != *revision {
                    return Err(format!(
                        "VIP {name} was acknowledged at entry {revision}, but the log has it at {}",
                        vip.revision
                    ));
                }
                if vip.addresses.is_empty() {
                    return Err(format!("VIP {name} was acknowledged without an address"));
                }
                self.0
                    .insert(name.clone(), Known::There(*revision, vip.addresses.clone()));
                Ok(())
            }
            (Write::Put, _, _) => Err(format!("VIP {name} was acknowledged and is not in the log")),
            (Write::Delete, _, None) => {
                self.0.insert(name.clone(), Known::Gone);
                Ok(())
            }
            (Write::Delete, _, Some(_)) => {
                Err(format!("VIP {name} was acknowledged to be gone and is not"))
            }
        }
    }

    pub(super) fn unanswered(&mut self, name: &Name) {
        self.0.insert(name.clone(), Known::Unsure);
    }

    pub(super) fn check(&self, state: &State) -> Result<(), String> {
        for (name, known) in &self.0 {
            let found = state.vips().get(name);
            match known {
                Known::There(revision, addresses) => {
                    let kept = found.is_some_and(|vip| {
                        vip.revision == *revision && vip.addresses == *addresses
                    });
                    if !kept {
                        return Err(format!(
                            "the acknowledged VIP {name} was lost or changed: {found:?}"
                        ));
                    }
                }
                Known::Gone if found.is_some() => {
                    return Err(format!("the deleted VIP {name} is back"));
                }
                Known::Gone | Known::Unsure => {}
            }
        }
        Ok(())
    }
}
