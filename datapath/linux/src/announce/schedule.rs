//! When to announce what: pure, time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

/// The burst after an address was opened: offsets from its start.
const BURST: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// Then for good: switches forget MACs sooner than hosts forget neighbours.
const REFRESH: Duration = Duration::from_secs(30);
/// Answers to a conflict: one in this time at most.
const AGAIN: Duration = Duration::from_millis(100);

/// Where an address is announced, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) ifindex: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) router: bool,
}

struct Entry {
    target: Target,
    started: Duration,
    /// Announcements of the burst that are out.
    sent: usize,
    due: Duration,
    last: Duration,
}

/// All addresses that are announced. Times are since some fixed moment.
#[derive(Default)]
pub(crate) struct Schedule {
    entries: BTreeMap<IpAddr, Entry>,
    queue: BTreeSet<(Duration, IpAddr)>,
}

impl Schedule {
    /// Starts a burst, also for an address that is announced already. Its first announcement is
    /// due at once.
    pub(crate) fn start(&mut self, address: IpAddr, target: Target, now: Duration) {
        self.stop(address);
        let entry = Entry {
            target,
            started: now,
            sent: 0,
            due: now,
            last: now,
        };
        self.queue.insert((now, address));
        self.entries.insert(address, entry);
    }

    /// Ends it.
    pub(crate) fn stop(&mut self, address: IpAddr) {
        if let Some(entry) = self.entries.remove(&address) {
            self.queue.remove(&(entry.due, address));
        }
    }

    /// Makes one more announcement due at once, because somebody else was heard; not more often
    /// than [`AGAIN`].
    pub(crate) fn again(&mut self, address: IpAddr, now: Duration) {
        let Some(entry) = self.entries.get_mut(&address) else {
            return;
        };
        let due = now.max(entry.last + AGAIN);
        if due < entry.due {
            self.queue.remove(&(entry.due, address));
            entry.due = due;
            self.queue.insert((due, address));
        }
    }

    /// The next address that is due; asking counts as announcing it.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<(IpAddr, Target)> {
        let (due, address) = *self.queue.first()?;
        if due > now {
            return None;
        }
        self.queue.pop_first();
        let entry = self.entries.get_mut(&address)?;
        entry.last = now;
        // What was missed while this thread did not run is not caught up with.
        while BURST
            .get(entry.sent)
            .is_some_and(|at| entry.started + *at <= now)
        {
            entry.sent += 1;
        }
        entry.due = match BURST.get(entry.sent) {
            Some(at) => entry.started + *at,
            None => now + REFRESH,
        };
        self.queue.insert((entry.due, address));
        Some((address, entry.target))
    }

    /// When something is due next.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.queue.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target {
        ifindex: 2,
        mac: [2; 6],
        router: false,
    };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn vip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// Runs until `end`, as the thread does, and returns when what was announced.
    fn run(schedule: &mut Schedule, end: Duration) -> Vec<(u64, IpAddr)> {
        let mut sent = Vec::new();
        while let Some(now) = schedule.next().filter(|next| *next <= end) {
            while let Some((address, _)) = schedule.pop(now) {
                sent.push((now.as_millis() as u64, address));
            }
        }
        sent
    }

    #[test]
    fn a_burst_thins_out_into_a_slow_refresh() {
        let mut schedule = Schedule::default();
        schedule.start(vip(1), TARGET, ms(1000));
        let times: Vec<u64> = run(&mut schedule, ms(63_000)).iter().map(|s| s.0).collect();
        let burst = [1000, 1050, 1100, 1200, 1500, 2000, 3000];
        assert_eq!(times, [&burst[..], &[33_000, 63_000]].concat());
    }

    #[test]
    fn nothing_is_due_after_a_stop() {
        let mut schedule = Schedule::default();
        schedule.start(vip(1), TARGET, ms(0));
        schedule.start(vip(2), TARGET, ms(0));
        run(&mut schedule, ms(60));
        schedule.stop(vip(1));
        assert!(run(&mut schedule, ms(90_000)).iter().all(|s| s.1 == vip(2)));
    }

    #[test]
    fn every_address_is_announced_once_before_any_is_twice() {
        let mut schedule = Schedule::default();
        for last in 0..100 {
            schedule.start(vip(last), TARGET, ms(0));
        }
        let first: BTreeSet<IpAddr> = run(&mut schedule, ms(120))[..100]
            .iter()
            .map(|s| s.1)
            .collect();
        assert_eq!(first.len(), 100);
    }

    #[test]
    fn a_conflict_is_answered_at_once_but_not_without_end() {
        let mut schedule = Schedule::default();
        schedule.start(vip(1), TARGET, ms(0));
        run(&mut schedule, ms(5_000));
        let mut sent = Vec::new();
        for now in (5_000..6_000).step_by(5) {
            schedule.again(vip(1), ms(now));
            sent.extend(run(&mut schedule, ms(now)).iter().map(|s| s.0));
        }
        assert_eq!(sent[..3], [5_000, 5_100, 5_200]);
        assert_eq!(sent.len(), 10);
    }

    #[test]
    fn a_thread_that_slept_sends_one_announcement_not_all_it_missed() {
        let mut schedule = Schedule::default();
        schedule.start(vip(1), TARGET, ms(0));
        assert!(schedule.pop(ms(1_600)).is_some());
        assert!(schedule.pop(ms(1_600)).is_none());
        assert_eq!(schedule.next(), Some(ms(2_000)));
    }
}
