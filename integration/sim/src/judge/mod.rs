//! The judge: sees true time, every gate, every applied entry and every acknowledged write, and trusts nobody.

mod ledger;
mod owners;
mod replicas;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use vipd_core::command::Outcome;
use vipd_core::id::Epoch;
use vipd_core::name::Name;
use vipd_core::state::State;
use vipd_raft::parts::{Entry, Replica};

use crate::lock;
use crate::net::HostId;
use crate::runtime::Clock;
use crate::trace::Trace;

use ledger::Ledger;
pub(crate) use ledger::Write;
use owners::Owners;
use replicas::Replicas;

/// What is wrong, and when it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation(pub String);

/// The judge of one run.
pub(crate) struct Judge {
    trace: Arc<Trace>,
    owners: Mutex<Owners>,
    replicas: Mutex<Replicas>,
    ledger: Mutex<Ledger>,
    found: Mutex<Vec<Violation>>,
}

impl Judge {
    /// A judge who has seen nothing. States are compared every `compare_every` entries.
    #[must_use]
    pub(crate) fn new(trace: Arc<Trace>, compare_every: u64) -> Self {
        Self {
            trace,
            owners: Mutex::default(),
            replicas: Mutex::new(Replicas::new(compare_every)),
            ledger: Mutex::default(),
            found: Mutex::default(),
        }
    }

    /// One more host, with this clock.
    pub(crate) fn add_host(&self, clock: Arc<Clock>) {
        lock(&self.owners).add_host(clock);
    }

    fn accuse(&self, what: Result<(), String>) {
        if let Err(what) = what {
            self.trace.line(format_args!("VIOLATION: {what}"));
            lock(&self.found).push(Violation(what));
        }
    }

    /// Something is wrong that somebody else has found.
    pub(crate) fn accuse_of(&self, what: String) {
        self.accuse(Err(what));
    }

    /// What was found so far.
    #[must_use]
    pub(crate) fn found(&self) -> Vec<Violation> {
        lock(&self.found).clone()
    }

    /// Whether anything was found so far.
    #[must_use]
    pub(crate) fn is_content(&self) -> bool {
        lock(&self.found).is_empty()
    }

    /// A gate in a kernel was opened or shut.
    pub(crate) fn gate(&self, host: HostId, address: IpAddr, open: bool, epoch: Epoch) {
        self.trace
            .mix(host.0 as u64 ^ (epoch.0 << 8) ^ (u64::from(open) << 63));
        let seen = lock(&self.owners).gate(host, address, open, epoch);
        self.accuse(seen);
        if open {
            self.accuse(self.look(|state| proven(state, host, address, epoch)));
        }
    }

    /// A host that takes an address over serves it in its holder's right: until then, by its own clock; no more, if `None`.
    pub(crate) fn serves(&self, host: HostId, address: IpAddr, until: Option<u64>) {
        self.trace
            .mix(host.0 as u64 ^ until.unwrap_or(0).rotate_left(32));
        let seen = lock(&self.owners).serves(host, address, until);
        self.accuse(seen);
    }

    /// A deadline in a kernel was written; by the host alone, without a majority, if it is `frozen`.
    pub(crate) fn deadline(&self, host: HostId, boottime: u64, frozen: bool) {
        self.trace.mix(host.0 as u64 ^ boottime.rotate_left(16));
        let seen = lock(&self.owners).deadline(host, boottime, frozen);
        self.accuse(seen);
    }

    /// A replica has applied an entry.
    pub(crate) fn applied(
        &self,
        host: HostId,
        replica: &Replica,
        entry: &Entry,
        outcome: Option<&Outcome>,
    ) {
        let mut replicas = lock(&self.replicas);
        let seen = replicas.applied(host, replica, entry, outcome, &self.trace);
        replicas.look(|state| lock(&self.ledger).follow(state));
        drop(replicas);
        self.accuse(seen);
    }

    /// A replica starts over from a snapshot.
    pub(crate) fn restored(&self, host: HostId, replica: &Replica) {
        let seen = lock(&self.replicas).restored(host, replica);
        self.accuse(seen);
    }

    /// A client begins a write.
    pub(crate) fn asks(&self, name: &Name) {
        lock(&self.ledger).asks(name);
    }

    /// A client was told what came of its write.
    pub(crate) fn acknowledged(&self, name: &Name, write: Write, outcome: &Outcome) {
        let seen = lock(&self.replicas)
            .look(|state| lock(&self.ledger).acknowledged(state, name, write, outcome));
        self.accuse(seen);
    }

    /// A client does not know what came of its write.
    pub(crate) fn unanswered(&self, name: &Name) {
        lock(&self.ledger).unanswered(name);
    }

    /// Everything that was acknowledged is there.
    pub(crate) fn check_ledger(&self) {
        let replicas = lock(&self.replicas);
        let seen = replicas.look(|state| {
            state.check()?;
            let kept = lock(&self.ledger).check(state);
            kept.map_err(|(name, why)| format!("{why}; its history: {}", replicas.history(&name)))
        });
        drop(replicas);
        self.accuse(seen);
    }

    /// Looks at the state as of the newest entry that anybody has applied.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        lock(&self.replicas).look(look)
    }

    /// Who announces `address` at this moment.
    #[must_use]
    pub(crate) fn announcer(&self, address: IpAddr) -> Option<HostId> {
        lock(&self.owners).announcer(address)
    }

    /// The hosts that announce now without a majority.
    #[must_use]
    pub(crate) fn frozen(&self) -> Vec<HostId> {
        lock(&self.owners).frozen()
    }

    /// How many times an address began to be announced.
    #[must_use]
    pub(crate) fn handovers(&self) -> u64 {
        lock(&self.owners).begun()
    }
}

/// What is opened under a token was asked about before. The newest state knows the most, and what may once be announced
/// may always.
fn proven(state: &State, host: HostId, address: IpAddr, epoch: Epoch) -> Result<(), String> {
    match state.allocations().get(&address) {
        Some(of) if of.epoch == epoch && !of.proof.lets_announce() => Err(format!(
            "{host} opens {address}, of which is known: {:?}",
            of.proof
        )),
        Some(_) | None => Ok(()),
    }
}
