//! What is asked about, how far that has come, and what was heard: pure, time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::{Heard, Probe, Said, frames::claim};

/// Questions for each address.
const ROUNDS: u32 = 3;
/// Between them.
const APART: Duration = Duration::from_millis(60);
/// How long the last one is listened to.
const LAST: Duration = Duration::from_millis(80);
/// Frames that leave together.
pub(super) const BURST: usize = 64;

struct Asked {
    index: u32,
    mac: [u8; 6],
    /// Questions so far, and how many of them did not leave.
    rounds: u32,
    lost: u32,
    /// When the next one is due, or all is over.
    next: Duration,
    by: Option<[u8; 6]>,
}

/// All that is asked about. Times are since some fixed moment.
#[derive(Default)]
pub(super) struct Course {
    asked: BTreeMap<IpAddr, Asked>,
    /// The MACs of the cluster's members.
    pub(super) members: BTreeSet<[u8; 6]>,
}

impl Course {
    /// Begins to ask, also about an address that is asked about already.
    pub(super) fn begin(&mut self, now: Duration, probe: &Probe, index: u32) {
        let asked = Asked {
            index,
            mac: probe.mac,
            rounds: 0,
            lost: 0,
            next: now,
            by: None,
        };
        self.asked.insert(probe.address, asked);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// The questions that are due, a burst of them, the most overdue first, each by an interface and as its MAC. Asking for
    /// them counts as asking them.
    pub(super) fn due(&mut self, now: Duration) -> Vec<(IpAddr, u32, [u8; 6])> {
        let due = self.asked.iter();
        let due = due.filter(|(_, asked)| asked.rounds < ROUNDS && asked.next <= now);
        let mut due: Vec<_> = due.map(|(address, asked)| (asked.next, *address)).collect();
        due.sort_unstable();
        due.truncate(BURST);
        let mut questions = Vec::new();
        for (_, address) in due {
            if let Some(asked) = self.asked.get_mut(&address) {
                asked.rounds += 1;
                asked.next = now + if asked.rounds < ROUNDS { APART } else { LAST };
                questions.push((address, asked.index, asked.mac));
            }
        }
        questions
    }

    /// A question about the address did not leave.
    pub(super) fn lost(&mut self, address: IpAddr) {
        if let Some(asked) = self.asked.get_mut(&address) {
            asked.lost += 1;
        }
    }

    /// A frame that was heard on the interface of this index.
    pub(super) fn hear(&mut self, index: u32, frame: &[u8]) {
        let Some(claim) = claim(frame) else { return };
        let Some(asked) = self.asked.get_mut(&claim.address) else {
            return;
        };
        let own = [claim.mac, claim.source].contains(&asked.mac);
        let by_a_member = claim.asks && self.members.contains(&claim.mac);
        if asked.index == index && !own && !by_a_member {
            asked.by = Some(claim.mac);
        }
    }

    /// When something is due, or over, next.
    pub(super) fn next(&self) -> Option<Duration> {
        self.asked.values().map(|asked| asked.next).min()
    }

    /// What has come to its end: it is claimed, or was asked about often and long enough. One question that did not leave
    /// is one too many: who did not hear it can't have answered.
    pub(super) fn over(&mut self, now: Duration) -> Vec<Heard> {
        let mut over = Vec::new();
        self.asked.retain(|address, asked| {
            let said = match asked.by {
                Some(mac) => Said::Taken(mac),
                None if asked.rounds < ROUNDS || now < asked.next => return true,
                None if asked.lost > 0 => Said::Unasked,
                None => Said::Free,
            };
            let address = *address;
            over.push(Heard { address, said });
            false
        });
        over
    }
}

#[cfg(test)]
#[path = "course_tests.rs"]
mod tests;
