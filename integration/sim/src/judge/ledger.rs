//! What clients were told: no acknowledged allocation is lost, none is given twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vipd_core::command::{Applied, Outcome};
use vipd_core::event::What;
use vipd_core::id::Revision;
use vipd_core::name::Name;
use vipd_core::state::State;
use vipd_core::vip::Vip;

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
pub(super) struct Ledger {
    known: BTreeMap<Name, Known>,
    /// Being written: nobody has promised anything yet.
    asked: BTreeSet<Name>,
    /// Addresses that VIPs were given others for, since somebody outside had them.
    exchanged: BTreeSet<(Name, IpAddr)>,
}

enum Known {
    There(Revision, Vec<IpAddr>),
    Gone(Revision),
    Unsure,
}

impl Ledger {
    pub(super) fn asks(&mut self, name: &Name) {
        self.asked.insert(name.clone());
    }

    pub(super) fn acknowledged(
        &mut self,
        state: &State,
        name: &Name,
        write: Write,
        outcome: &Outcome,
    ) -> Result<(), String> {
        self.asked.remove(name);
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
                if vip.addresses.is_empty() && vip.unmet.is_empty() {
                    return Err(format!(
                        "VIP {name} was acknowledged with no address and no wish"
                    ));
                }
                self.known.insert(
                    name.clone(),
                    Known::There(*revision, vip.addresses.to_vec()),
                );
                Ok(())
            }
            (Write::Put, _, _) => Err(format!("VIP {name} was acknowledged and is not in the log")),
            (Write::Delete, Applied::Done { revision } | Applied::Created { revision }, None) => {
                self.known.insert(name.clone(), Known::Gone(*revision));
                Ok(())
            }
            (Write::Delete, _, _) => {
                Err(format!("VIP {name} was acknowledged to be gone and is not"))
            }
        }
    }

    /// An entry was applied: notes what it has exchanged.
    pub(super) fn follow(&mut self, state: &State) {
        let events = state.events().iter().rev();
        let new = events.take_while(|event| event.revision.0 == state.applied());
        self.exchanged
            .extend(new.filter_map(|event| match &event.what {
                What::SetAside { address, vip, .. } => Some((vip.clone(), *address)),
                _ => None,
            }));
    }

    pub(super) fn unanswered(&mut self, name: &Name) {
        self.known.insert(name.clone(), Known::Unsure);
    }

    pub(super) fn check(&self, state: &State) -> Result<(), (Name, String)> {
        let settled = self
            .known
            .iter()
            .filter(|(name, _)| !self.asked.contains(*name));
        for (name, known) in settled {
            let found = state.vips().get(name);
            match known {
                Known::There(revision, addresses) => {
                    // One that waited may have got more since; nobody loses what he was told.
                    let has = |vip: &Vip| {
                        let chosen = vip.spec.addresses.is_empty();
                        addresses.iter().all(|address| {
                            let exchanged = self.exchanged.contains(&(name.clone(), *address));
                            vip.addresses.contains(address) || (chosen && exchanged)
                        })
                    };
                    let kept = found.is_some_and(|vip| vip.revision == *revision && has(vip));
                    if !kept {
                        let why = format!(
                            "the VIP {name}, acknowledged by entry {revision}, was lost or changed: {found:?}"
                        );
                        return Err((name.clone(), why));
                    }
                }
                Known::Gone(revision) if found.is_some() => {
                    let why = format!("the VIP {name}, deleted by entry {revision}, is back");
                    return Err((name.clone(), why));
                }
                Known::Gone(_) | Known::Unsure => {}
            }
        }
        Ok(())
    }
}
