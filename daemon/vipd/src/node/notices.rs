//! What this node tells the cluster of its own host: news once, then once a minute while it lasts. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vipd_core::notice::Notice;
use vipd_core::time::{Instant, Span};
use vipd_datapath::Observed;

/// Between two notices of the same thing.
const AGAIN: Span = Span::millis(60_000);
/// Notices in that time altogether: they go through the log, and a broken network can make thousands.
const MOST: usize = 32;
/// Conflicts among them: one stray host can claim thousands of addresses, and must not silence the rest.
const MOST_CONFLICTS: usize = 8;
/// How long a claim that was heard counts as a conflict that lasts.
const LASTS: Span = Span::millis(60_000);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Conflict(IpAddr, [u8; 6]),
    Programs(String, bool),
    Clock,
}

/// Another host's claim on an address that this node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The other host's.
    pub(super) mac: [u8; 6],
    /// Where it was heard.
    pub(super) interface: String,
    /// When it was last heard.
    pub(super) heard: Instant,
}

/// What was noticed so far.
#[derive(Debug, Default)]
pub(super) struct Notices {
    told: BTreeMap<Subject, Instant>,
    claims: BTreeMap<IpAddr, Claim>,
    counts: BTreeMap<&'static str, u64>,
    standstills: (u64, u64),
}

impl Notices {
    /// Takes an observation of the datapath; returns what is to be told.
    pub(super) fn observe(&mut self, now: Instant, observed: &Observed) -> Vec<Notice> {
        let mut notices = Vec::new();
        for conflict in &observed.conflicts {
            let claim = Claim {
                mac: conflict.mac,
                interface: conflict.interface.clone(),
                heard: Instant(conflict.time_ns),
            };
            self.claims.insert(conflict.address, claim);
            let subject = Subject::Conflict(conflict.address, conflict.mac);
            let notice = Notice::Conflict {
                address: conflict.address,
                mac: conflict.mac,
                interface: conflict.interface.clone(),
            };
            notices.extend(self.tell(now, "conflict", subject, notice));
        }
        for lost in &observed.lost {
            let (interface, back) = (lost.interface.clone(), lost.back);
            let subject = Subject::Programs(interface.clone(), back);
            let notice = Notice::ProgramsLost { interface, back };
            notices.extend(self.tell(now, "programs_lost", subject, notice));
        }
        let open = |address: &IpAddr| {
            let seen = observed.addresses.get(address);
            seen.is_some_and(|seen| seen.gate == vipd_datapath::Gate::Open)
        };
        self.claims
            .retain(|address, claim| now.since(claim.heard) < LASTS && open(address));
        notices
    }

    /// Takes how often, and for how many milliseconds altogether, the host has stood still.
    pub(super) fn standstills(&mut self, now: Instant, seen: (u64, u64)) -> Option<Notice> {
        let milliseconds = seen.1.saturating_sub(self.standstills.1);
        let news = seen.0 > self.standstills.0;
        self.standstills = seen;
        news.then(|| {
            let notice = Notice::ClockJumped { milliseconds };
            self.tell(now, "clock_jumped", Subject::Clock, notice)
        })?
    }

    /// The claims that last, by address.
    pub(super) fn claims(&self) -> &BTreeMap<IpAddr, Claim> {
        &self.claims
    }

    /// How often each kind of thing was noticed, told or not.
    pub(super) fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    fn tell(
        &mut self,
        now: Instant,
        kind: &'static str,
        subject: Subject,
        notice: Notice,
    ) -> Option<Notice> {
        *self.counts.entry(kind).or_default() += 1;
        self.told.retain(|_, at| now.since(*at) < AGAIN);
        let conflict = |subject: &Subject| matches!(subject, Subject::Conflict(..));
        let conflicts = self.told.keys().filter(|told| conflict(told)).count();
        let full = conflict(&subject) && conflicts >= MOST_CONFLICTS;
        if self.told.contains_key(&subject) || full || self.told.len() >= MOST {
            return None;
        }
        self.told.insert(subject, now);
        Some(notice)
    }
}

#[cfg(test)]
mod tests {
    use vipd_datapath::{Conflict, Gate, Lost, ObservedAddress};

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    fn vip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn claimed(addresses: impl IntoIterator<Item = u8>, when: Instant) -> Observed {
        let mut observed = Observed::default();
        for last in addresses {
            observed.conflicts.push(Conflict {
                address: vip(last),
                interface: "eth0".into(),
                mac: [2, 0, 0, 0, 0, 9],
                time_ns: when.0,
            });
            let seen = ObservedAddress {
                interface: "eth0".into(),
                gate: Gate::Open,
                epoch: 1,
                present: true,
                foreign: false,
                answering: true,
            };
            observed.addresses.insert(vip(last), seen);
        }
        observed
    }

    #[test]
    fn a_conflict_is_told_at_once_and_then_once_a_minute_while_it_lasts() {
        let mut notices = Notices::default();
        let told: Vec<u64> = (0..180)
            .filter(|s| !notices.observe(at(*s), &claimed([1], at(*s))).is_empty())
            .collect();
        assert_eq!(told, [0, 60, 120]);
        assert_eq!(notices.counts()["conflict"], 180);
    }

    #[test]
    fn a_claim_is_forgotten_a_minute_after_it_was_last_heard_or_when_the_address_is_lost() {
        let mut notices = Notices::default();
        notices.observe(at(0), &claimed([1], at(0)));
        assert_eq!(notices.claims()[&vip(1)].interface, "eth0");
        let mut quiet = claimed([1], at(0));
        quiet.conflicts.clear();
        notices.observe(at(59), &quiet);
        assert_eq!(notices.claims().len(), 1);
        notices.observe(at(61), &quiet);
        assert!(notices.claims().is_empty());
        notices.observe(at(100), &claimed([1], at(100)));
        notices.observe(at(101), &Observed::default());
        assert!(notices.claims().is_empty());
    }

    #[test]
    fn a_broken_network_does_not_fill_the_log_nor_silence_what_else_is_noticed() {
        let mut notices = Notices::default();
        let mut told = 0;
        for second in 0..60 {
            told += notices
                .observe(at(second), &claimed(0..=255, at(second)))
                .len();
        }
        assert_eq!(told, MOST_CONFLICTS);
        let notice = notices.standstills(at(59), (1, 300));
        assert_eq!(notice, Some(Notice::ClockJumped { milliseconds: 300 }));
    }

    #[test]
    fn programs_that_stay_away_are_told_beside_those_that_came_back() {
        let mut notices = Notices::default();
        let lost = |back| Observed {
            lost: vec![Lost {
                interface: "eth0".into(),
                back,
            }],
            ..Observed::default()
        };
        assert_eq!(notices.observe(at(0), &lost(true)).len(), 1);
        assert_eq!(notices.observe(at(1), &lost(false)).len(), 1);
        assert_eq!(notices.observe(at(2), &lost(false)).len(), 0);
    }

    #[test]
    fn a_standstill_is_told_with_its_length() {
        let mut notices = Notices::default();
        assert_eq!(notices.standstills(at(0), (0, 0)), None);
        let notice = notices.standstills(at(1), (1, 300));
        assert_eq!(notice, Some(Notice::ClockJumped { milliseconds: 300 }));
        assert_eq!(notices.standstills(at(2), (1, 300)), None);
    }
}
