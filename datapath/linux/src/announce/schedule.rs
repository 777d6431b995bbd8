//! When to announce what: pure, time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use vipd_datapath_common::{Address, flags};

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
/// Answers to a conflict: one in this time at most.
const AGAIN: Duration = Duration::from_millis(100);
/// Announcements in one go.
const BATCH: usize = 64;
/// After a full batch of repeats: 10,000 frames a second are left to them, so that a thousand addresses are repeated
/// within 0.2 s and ten thousand within 2 s, and neither the beats nor anybody's switch drown in them.
const PAUSE: Duration = Duration::from_micros(12_800);

/// Where an address is announced, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) ifindex: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) router: bool,
}

impl Target {
    /// As the entry of the map says.
    pub(crate) fn of(entry: &Address) -> Self {
        Self {
            ifindex: entry.ifindex,
            mac: entry.mac,
            router: entry.has(flags::ROUTER),
        }
    }
}

/// Which of the two forms of a gratuitous ARP; a neighbour advertisement has but one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The request: of many addresses each gets this first.
    Request,
    /// The reply: as soon as all have had the other.
    Reply,
    /// Both, from then on.
    Both,
}

/// One announcement to make now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) address: IpAddr,
    pub(crate) target: Target,
    pub(crate) form: Form,
}

struct Entry {
    target: Target,
    started: Duration,
    /// What is next.
    form: Form,
    /// Announcements of the burst that are out.
    sent: usize,
    due: Duration,
    urgent: bool,
    last: Duration,
}

/// All addresses that are announced. Times are since some fixed moment.
///
/// What is urgent (a first announcement, the answer to a conflict) goes before every repeat, and repeats are paced.
pub(crate) struct Schedule {
    refresh: Duration,
    entries: BTreeMap<IpAddr, Entry>,
    urgent: BTreeSet<(Duration, IpAddr)>,
    repeats: BTreeSet<(Duration, IpAddr)>,
    /// No repeats before this.
    resume: Duration,
}

impl Schedule {
    /// Repeats for good each `refresh` after the burst: switches forget MACs sooner than hosts forget neighbours.
    pub(crate) fn new(refresh: Duration) -> Self {
        Self {
            refresh,
            entries: BTreeMap::new(),
            urgent: BTreeSet::new(),
            repeats: BTreeSet::new(),
            resume: Duration::ZERO,
        }
    }

    /// Starts a burst, also for an address that is announced already. Its first announcement is
    /// due at once.
    pub(crate) fn start(&mut self, address: IpAddr, target: Target, now: Duration) {
        self.stop(address);
        let entry = Entry {
            target,
            started: now,
            form: Form::Request,
            sent: 0,
            due: now,
            urgent: true,
            last: now,
        };
        self.urgent.insert((now, address));
        self.entries.insert(address, entry);
    }

    /// Ends it.
    pub(crate) fn stop(&mut self, address: IpAddr) {
        if let Some(entry) = self.entries.remove(&address) {
            self.queue(entry.urgent).remove(&(entry.due, address));
        }
    }

    /// Makes one more announcement due at once, because somebody else was heard; not more often
    /// than [`AGAIN`].
    pub(crate) fn again(&mut self, address: IpAddr, now: Duration) {
        let Some(entry) = self.entries.get_mut(&address) else {
            return;
        };
        let before = (entry.due, address);
        let due = now.max(entry.last + AGAIN);
        if entry.urgent || due >= entry.due {
            return;
        }
        (entry.due, entry.urgent, entry.form) = (due, true, Form::Both);
        self.repeats.remove(&before);
        self.urgent.insert((due, address));
    }

    /// The urgent announcements that are due, a batch of them; asking counts as making them.
    pub(crate) fn urgent(&mut self, now: Duration) -> Vec<Announcement> {
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(announcement) = self.pop(true, now)
        {
            batch.push(announcement);
        }
        batch
    }

    /// What is due, a batch of it, the urgent first; asking counts as making them.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<Announcement> {
        let mut batch = self.urgent(now);
        if now < self.resume {
            return batch;
        }
        while batch.len() < BATCH
            && let Some(announcement) = self.pop(false, now)
        {
            batch.push(announcement);
        }
        if batch.len() == BATCH {
            self.resume = now + PAUSE;
        }
        batch
    }

    /// When something is due next.
    pub(crate) fn next(&self) -> Option<Duration> {
        let urgent = self.urgent.first().map(|(due, _)| *due);
        let repeat = self.repeats.first().map(|(due, _)| (*due).max(self.resume));
        urgent.into_iter().chain(repeat).min()
    }

    fn queue(&mut self, urgent: bool) -> &mut BTreeSet<(Duration, IpAddr)> {
        if urgent {
            &mut self.urgent
        } else {
            &mut self.repeats
        }
    }

    fn pop(&mut self, urgent: bool, now: Duration) -> Option<Announcement> {
        let queue = self.queue(urgent);
        let (due, address) = *queue.first()?;
        if due > now {
            return None;
        }
        queue.pop_first();
        let entry = self.entries.get_mut(&address)?;
        let late = now >= entry.started + BURST[1];
        let form = match entry.form {
            Form::Request if address.is_ipv4() => Form::Request,
            Form::Reply if !late => Form::Reply,
            Form::Request | Form::Reply | Form::Both => Form::Both,
        };
        entry.last = now;
        entry.urgent = false;
        if form == Form::Request {
            (entry.form, entry.due) = (Form::Reply, now);
        } else {
            entry.form = Form::Both;
            // What was missed while this thread did not run is not caught up with.
            while BURST
                .get(entry.sent)
                .is_some_and(|at| entry.started + *at <= now)
            {
                entry.sent += 1;
            }
            entry.due = match BURST.get(entry.sent) {
                Some(at) => entry.started + *at,
                None => now + self.refresh,
            };
        }
        self.repeats.insert((entry.due, address));
        Some(Announcement {
            address,
            target: entry.target,
            form,
        })
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
