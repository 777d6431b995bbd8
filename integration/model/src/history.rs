//! Whether what clients saw of the API is one order of things: linearizability.
//!
//! The object is a pool and the VIPs made from it. Its rules: a VIP that is made gets an address that no other has and
//! keeps it; a VIP that was acknowledged is there until it is deleted; a read sees the last write. An operation whose
//! outcome nobody knows (no answer, or an error of the server) may have happened at any time since, or not at all.
//!
//! The search is Wing and Gong's, and remembers what it has tried (Lowe, "Testing for linearizability"). Stateright's own
//! tester does not, and took minutes for histories of two hundred calls.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Makes the VIP, or finds it made.
    Put(String),
    /// Deletes the VIP.
    Delete(String),
    /// Reads the VIP.
    Get(String),
}

/// What it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The VIP is there, with this address.
    Has(IpAddr),
    /// It is there; its address is told by a look of its own.
    Made,
    /// The VIP is deleted.
    Deleted,
    /// There is no such VIP.
    Absent,
}

/// One operation of one client.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it was asked.
    pub asked: Instant,
    /// What.
    pub op: Op,
    /// When and what was answered; `None` when nobody knows what came of it.
    pub said: Option<(Instant, Said)>,
}

/// The rules: VIPs by name, with their address once anybody was told it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Vips(BTreeMap<String, Option<IpAddr>>);

impl Vips {
    /// Whether `name` may have `address`: nobody else has it, and it has no other.
    fn may_have(&self, name: &str, address: IpAddr) -> bool {
        self.0.iter().all(|(other, has)| {
            if other == name {
                has.is_none_or(|has| has == address)
            } else {
                *has != Some(address)
            }
        })
    }

    /// What is there after `op`; `None` if the answer cannot be.
    fn after(&self, op: &Op, said: Option<Said>) -> Option<Self> {
        let mut next = self.clone();
        let possible = match (op, said) {
            (Op::Put(name), Some(Said::Has(address))) => {
                next.0.insert(name.clone(), Some(address));
                self.may_have(name, address)
            }
            (Op::Put(name), Some(Said::Made) | None) => {
                next.0.entry(name.clone()).or_default();
                true
            }
            (Op::Get(name), Some(Said::Has(address))) => {
                let known = next.0.insert(name.clone(), Some(address)).is_some();
                known && self.may_have(name, address)
            }
            (Op::Delete(name), Some(Said::Deleted)) => next.0.remove(name).is_some(),
            (Op::Delete(name), None) => {
                next.0.remove(name);
                true
            }
            (Op::Delete(name) | Op::Get(name), Some(Said::Absent)) => !self.0.contains_key(name),
            (Op::Get(_), None) => true,
            (Op::Put(_), Some(Said::Deleted | Said::Absent))
            | (Op::Get(_), Some(Said::Made | Said::Deleted))
            | (Op::Delete(_), Some(Said::Has(_) | Said::Made)) => false,
        };
        possible.then_some(next)
    }
}

/// How many operations, and how many of them with an unknown outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// All of them.
    pub calls: usize,
    /// Those that nobody knows the outcome of.
    pub unknown: usize,
}

/// Sees whether what `clients` saw, each one call after the other, is one order of things. Starts with no VIP.
///
/// # Errors
/// When there is none, with all calls; or when none was found `within` so long.
pub fn check(clients: &[Vec<Call>], within: Duration) -> Result<Counted> {
    let calls = clients.iter().flatten();
    let counted = Counted {
        calls: calls.clone().count(),
        unknown: calls.filter(|call| call.said.is_none()).count(),
    };
    match explained(&threads(clients), Instant::now() + within) {
        Some(true) => Ok(counted),
        Some(false) => bail!("not linearizable:\n{}", story(clients)),
        None => bail!("no order found within {within:?}:\n{}", story(clients)),
    }
}

/// A client whose call has no known outcome goes on as another one: the call may yet happen beside its later ones.
fn threads(clients: &[Vec<Call>]) -> Vec<&[Call]> {
    clients
        .iter()
        .flat_map(|calls| calls.split_inclusive(|call| call.said.is_none()))
        .collect()
}

/// Whether some order explains all answers; `None` when it is not known by `until`.
fn explained(threads: &[&[Call]], until: Instant) -> Option<bool> {
    let mut tried = HashSet::new();
    let mut open = vec![(vec![0; threads.len()], Vips::default())];
    while let Some((done, vips)) = open.pop() {
        if Instant::now() > until {
            return None;
        }
        let next: Vec<_> = done
            .iter()
            .zip(threads)
            .map(|(n, calls)| calls.get(*n))
            .collect();
        let answers = next.iter().flatten().filter_map(|call| call.said);
        // Nothing asked after an answer can have happened before what was answered.
        let Some(first) = answers.map(|(at, _)| at).min() else {
            return Some(true);
        };
        for (thread, call) in next.iter().enumerate() {
            let Some(call) = call.filter(|call| call.asked <= first) else {
                continue;
            };
            let said = call.said.map(|(_, said)| said);
            if let Some(vips) = vips.after(&call.op, said) {
                let mut done: Vec<usize> = done.clone();
                done[thread] += 1;
                if tried.insert((done.clone(), vips.clone())) {
                    open.push((done, vips));
                }
            }
        }
    }
    Some(false)
}

fn story(clients: &[Vec<Call>]) -> String {
    let all = clients.iter().enumerate();
    let mut calls: Vec<_> = all
        .flat_map(|(client, calls)| calls.iter().map(move |call| (client, call)))
        .collect();
    calls.sort_by_key(|(_, call)| call.asked);
    let Some(start) = calls.first().map(|(_, call)| call.asked) else {
        return String::new();
    };
    let line = |(client, call): &(usize, &Call)| {
        let asked = call.asked.duration_since(start);
        let said = match call.said {
            Some((at, said)) => format!("{said:?} at {:.1?}", at.duration_since(start)),
            None => "nobody knows".to_owned(),
        };
        format!("  {asked:>9.1?} client {client}: {:?} -> {said}", call.op)
    };
    calls.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
