//! One log, one state: what any replica applies at an index is what the first one did, and leaves the same bytes.

use std::collections::BTreeMap;

use vipd_core::command::Outcome;
use vipd_core::event::What;
use vipd_core::name::Name;
use vipd_core::state::State;
use vipd_raft::parts::{Entry, Replica, encode_record};

use crate::net::HostId;
use crate::trace::{Trace, hash_bytes};

/// Entries between two checks of the state against itself.
const CHECK_EVERY: u64 = 16;

pub(super) struct Replicas {
    /// The judge's own replica, as far as anybody has come.
    golden: Replica,
    /// Of each entry: its hash, and that of the state after it.
    seen: Vec<(u64, Option<u64>)>,
    compare_every: u64,
    told: u64,
    /// Of each VIP: the entries that wrote it, and whether each made or deleted it.
    writes: BTreeMap<Name, Vec<(u64, bool)>>,
}

impl Replicas {
    pub(super) fn new(compare_every: u64) -> Self {
        Self {
            golden: Replica::default(),
            seen: Vec::new(),
            compare_every,
            told: 0,
            writes: BTreeMap::new(),
        }
    }

    pub(super) fn look<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.golden.state)
    }

    /// What the log did to a VIP, in words.
    pub(super) fn history(&self, vip: &Name) -> String {
        let writes = self.writes.get(vip).map_or(&[][..], Vec::as_slice);
        let word = |(index, made): &(u64, bool)| {
            format!("{} by entry {index}", if *made { "put" } else { "deleted" })
        };
        writes.iter().map(word).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn applied(
        &mut self,
        host: HostId,
        replica: &Replica,
        entry: &Entry,
        outcome: Option<&Outcome>,
        trace: &Trace,
    ) -> Result<(), String> {
        let index = entry.log_id.index;
        let hash = hash_bytes(&encode_record(entry));
        let next = self.seen.len() as u64;
        if index > next {
            return Err(format!(
                "{host} applied entry {index}, but nobody has applied {next}"
            ));
        }
        if index == next {
            let expected = self.golden.apply(entry);
            let compare = index.is_multiple_of(self.compare_every);
            let body = compare.then(|| hash_bytes(&self.golden.body()));
            self.seen.push((hash, body));
            trace.mix(hash);
            self.tell(trace);
            if index.is_multiple_of(CHECK_EVERY) {
                self.golden
                    .state
                    .check()
                    .map_err(|why| format!("entry {index}: {why}"))?;
            }
            if expected.as_ref() != outcome {
                return Err(format!(
                    "{host} made {outcome:?} of entry {index}, where {expected:?} was right"
                ));
            }
        }
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        let (known, body) = self.seen[at];
        if known != hash {
            return Err(format!(
                "{host} applied another entry {index} than was applied before: {entry:?}"
            ));
        }
        match body {
            Some(body) if hash_bytes(&replica.body()) != body => Err(format!(
                "{host} has other bytes after entry {index} than the first replica"
            )),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn restored(&self, host: HostId, replica: &Replica) -> Result<(), String> {
        let Some(id) = replica.applied else {
            return Ok(());
        };
        let at = usize::try_from(id.index).unwrap_or(usize::MAX);
        match self.seen.get(at) {
            None => Err(format!(
                "{host} restored a snapshot of entry {}, which nobody has applied",
                id.index
            )),
            Some((_, Some(body))) if hash_bytes(&replica.body()) != *body => Err(format!(
                "{host} restored other bytes than the first replica had at entry {}",
                id.index
            )),
            Some(_) => Ok(()),
        }
    }

    /// The changes that people read first go into the trace.
    fn tell(&mut self, trace: &Trace) {
        let index = self.golden.applied.map_or(0, |id| id.index);
        for event in self
            .golden
            .state
            .events()
            .iter()
            .rev()
            .take_while(|event| event.seq > self.told)
        {
            match &event.what {
                What::VipPut { vip } => self
                    .writes
                    .entry(vip.clone())
                    .or_default()
                    .push((index, true)),
                What::VipDeleted { vip } => self
                    .writes
                    .entry(vip.clone())
                    .or_default()
                    .push((index, false)),
                _ => {}
            }
            let read_first = matches!(
                event.what,
                What::NodeUp { .. }
                    | What::NodeDown { .. }
                    | What::NodeJoined { .. }
                    | What::NodeRemoved { .. }
                    | What::NodeRetiring { .. }
                    | What::NodeDrained { .. }
                    | What::VotersChanged { .. }
            );
            if read_first {
                trace.line(format_args!("  [{index}] {}", event.what));
            } else {
                trace.mix(hash_bytes(event.what.to_string().as_bytes()));
            }
        }
        self.told = self
            .golden
            .state
            .events()
            .back()
            .map_or(self.told, |event| event.seq);
    }
}
