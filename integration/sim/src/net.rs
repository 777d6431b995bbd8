//! The wire between hosts: latency, loss, repetition, disorder, and cuts in either direction.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft_rt_sim::{SimRuntime, SimSleep};

use crate::dice::Dice;
use crate::lock;
use crate::runtime::true_now;

/// A host, by its place in the simulation; its NIC, its disk and its clock. Not a member's number: a host may join
/// anew under another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HostId(pub usize);

impl std::fmt::Display for HostId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "h{}", self.0)
    }
}

/// Something that happens when a packet arrives.
pub(crate) type Event = Box<dyn FnOnce() + Send>;

/// One way across the switch, in nanoseconds.
const LATENCY: (u64, u64) = (40_000, 250_000);
/// TCP sends a lost segment again after this long, then after twice as long, ...
const RETRANSMIT: u64 = 200_000_000;
/// ... and gives up after so many times; whoever waits has given up by then.
const RETRANSMITS: u32 = 6;

/// How the wire behaves now, for everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weather {
    /// Packets lost, in parts per million.
    pub(crate) loss: u64,
    /// Datagrams that arrive twice, in parts per million.
    pub(crate) twice: u64,
    /// Packets that are held up, in parts per million ...
    pub(crate) late: u64,
    /// ... by up to this many nanoseconds: they arrive after packets sent later.
    pub(crate) late_by: u64,
}

/// The wire.
pub(crate) struct Net(Mutex<Inner>);

struct Inner {
    dice: Dice,
    weather: Weather,
    /// Directions that carry nothing: (from, to).
    cut: BTreeSet<(HostId, HostId)>,
    queue: BTreeMap<(u64, u64), Event>,
    sent: u64,
    /// The task that delivers, and when it will wake by itself.
    carrier: Option<Waker>,
    armed: u64,
}

impl Net {
    /// A quiet network.
    #[must_use]
    pub(crate) fn new(dice: Dice) -> Self {
        Self(Mutex::new(Inner {
            dice,
            weather: Weather::default(),
            cut: BTreeSet::new(),
            queue: BTreeMap::new(),
            sent: 0,
            carrier: None,
            armed: u64::MAX,
        }))
    }

    /// Changes the weather.
    pub(crate) fn set_weather(&self, weather: Weather) {
        lock(&self.0).weather = weather;
    }

    /// Cuts, or mends, one direction.
    pub(crate) fn set_cut(&self, from: HostId, to: HostId, cut: bool) {
        let mut inner = lock(&self.0);
        if cut {
            inner.cut.insert((from, to));
        } else {
            inner.cut.remove(&(from, to));
        }
    }

    /// Mends everything.
    pub(crate) fn heal(&self) {
        let mut inner = lock(&self.0);
        inner.cut.clear();
        inner.weather = Weather::default();
    }

    /// Packets sent so far.
    #[must_use]
    pub(crate) fn sent(&self) -> u64 {
        lock(&self.0).sent
    }

    /// Sends a datagram: it arrives once, never, late or twice. `arrive` is run for each arrival.
    pub(crate) fn datagram(
        &self,
        from: HostId,
        to: HostId,
        arrive: impl Fn() + Clone + Send + 'static,
    ) {
        let mut inner = lock(&self.0);
        let (twice, Some(span)) = (inner.weather.twice, inner.transit(from, to)) else {
            return;
        };
        if inner.dice.ppm(twice) {
            let (again, later) = (arrive.clone(), span + inner.dice.below(20_000_000));
            inner.push(later, Box::new(again));
        }
        inner.push(span, Box::new(arrive));
    }

    /// Sends a message over TCP: what is lost is sent again, for a while. The order of different messages is not kept.
    pub(crate) fn message(self: &Arc<Self>, from: HostId, to: HostId, arrive: Event) {
        self.message_until(u64::MAX, from, to, arrive);
    }

    /// The same over a connection that is closed at that true time, with what has not arrived by then.
    pub(crate) fn message_until(
        self: &Arc<Self>,
        closed: u64,
        from: HostId,
        to: HostId,
        arrive: Event,
    ) {
        self.attempt((from, to), arrive, closed, 0);
    }

    fn attempt(
        self: &Arc<Self>,
        (from, to): (HostId, HostId),
        arrive: Event,
        closed: u64,
        tries: u32,
    ) {
        if true_now() > closed {
            return;
        }
        let mut inner = lock(&self.0);
        match inner.transit(from, to) {
            Some(span) => inner.push(span, arrive),
            None if tries < RETRANSMITS => {
                let net = self.clone();
                let again = Box::new(move || net.attempt((from, to), arrive, closed, tries + 1));
                inner.push(RETRANSMIT << tries, again);
            }
            None => {}
        }
    }

    /// How long one packet takes from `from` to `to` now; `None` if it is lost.
    #[must_use]
    pub(crate) fn transit(&self, from: HostId, to: HostId) -> Option<u64> {
        lock(&self.0).transit(from, to)
    }

    /// Runs `event` after `span` nanoseconds of true time.
    pub(crate) fn after(&self, span: u64, event: Event) {
        lock(&self.0).push(span, event);
    }

    /// Forgets everything under way.
    pub(crate) fn clear(&self) {
        let queue = std::mem::take(&mut lock(&self.0).queue);
        drop(queue);
    }

    /// Delivers for as long as the simulation runs.
    pub(crate) async fn carry(&self) {
        let mut sleep: Option<Pin<Box<SimSleep>>> = None;
        poll_fn(|cx| {
            loop {
                let due = lock(&self.0).take_due();
                if let Some(event) = due {
                    event();
                    continue;
                }
                let next = {
                    let mut inner = lock(&self.0);
                    inner.carrier = Some(cx.waker().clone());
                    let next = inner.queue.first_key_value().map(|((at, _), _)| *at);
                    inner.armed = next.unwrap_or(u64::MAX);
                    next
                };
                let Some(next) = next else {
                    return Poll::<()>::Pending;
                };
                let wait = Duration::from_nanos(next.saturating_sub(true_now()));
                let mut timer = Box::pin(SimRuntime::sleep(wait));
                if timer.as_mut().poll(cx).is_pending() {
                    sleep = Some(timer);
                    let _kept_until_the_next_one = &sleep;
                    return Poll::Pending;
                }
            }
        })
        .await;
    }
}

impl Inner {
    fn transit(&mut self, from: HostId, to: HostId) -> Option<u64> {
        self.sent += 1;
        let weather = self.weather;
        if self.cut.contains(&(from, to)) || self.dice.ppm(weather.loss) {
            return None;
        }
        let mut span = self.dice.between(LATENCY.0, LATENCY.1);
        if self.dice.ppm(weather.late) {
            span += self.dice.below(weather.late_by);
        }
        Some(span)
    }

    fn push(&mut self, span: u64, event: Event) {
        let at = true_now() + span;
        self.sent += 1;
        self.queue.insert((at, self.sent), event);
        if at < self.armed
            && let Some(carrier) = self.carrier.take()
        {
            self.armed = u64::MAX;
            carrier.wake();
        }
    }

    fn take_due(&mut self) -> Option<Event> {
        let first = self.queue.first_entry()?;
        (first.key().0 <= true_now()).then(|| first.remove())
    }
}
