//! Thousands of VIPs at once: when each of them is served by another host, asked by one thread at a bounded rate.
//!
//! An address counts as served when its new holder answers an echo request: so it answers for the address *and* has it.
//! Who to send the echo to, the wire says: an announcement, or the answer to a who-has that goes round and round over
//! all addresses that nobody spoke for yet.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::Stamp;
use crate::lab::{Lab, Mac};
use crate::wire::{Answer, How, Line, Tap, echo_request, question};

/// Between two looks at what was heard.
const TICK: Duration = Duration::from_millis(1);
/// Questions of who has an address, for each tick: ten thousand a second.
const ASKED: usize = 10;
/// Echo requests for each tick.
const ECHOED: usize = 40;
/// Before the same address is asked, or sent an echo request, again.
const AGAIN: Duration = Duration::from_millis(4);

/// What one address came to.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// The host that spoke for it last.
    claimed: Option<Mac>,
    /// When it was announced unasked by another host for the first time.
    announced: Option<Stamp>,
    /// When another host first answered an echo request.
    served: Option<Stamp>,
    /// When it was last asked.
    asked: Option<Instant>,
}

/// What came of all addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Swept {
    /// When each address that is served again was.
    pub(crate) served: Vec<Stamp>,
    /// When each address that was announced unasked was.
    pub(crate) announced: Vec<Stamp>,
    /// Addresses that nobody served in time.
    pub(crate) lost: usize,
    /// All that was heard, by address.
    pub(crate) answers: BTreeMap<IpAddr, Vec<Answer>>,
}

/// One sweep over all addresses of a lab.
#[derive(Debug)]
pub(crate) struct Sweep {
    line: Line,
    tap: Tap,
    from: (Mac, std::net::Ipv4Addr, std::net::Ipv6Addr),
    addresses: Vec<IpAddr>,
}

impl Sweep {
    /// Begins to listen, and asks nothing yet.
    pub(crate) fn start(lab: &Lab, addresses: &[IpAddr]) -> Result<Self> {
        let tap = Tap::start(lab.switch())?;
        for &address in addresses {
            tap.watch(address);
        }
        let observer = lab.observer();
        Ok(Self {
            line: Line::open(observer).context("the observer cannot ask")?,
            tap,
            from: (observer.mac(), observer.v4(), observer.v6()),
            addresses: addresses.to_vec(),
        })
    }

    /// Asks until a host that is not `old` serves each of the addresses, at most `bound`, and listens for `tail` more;
    /// what was said before `since` does not count.
    pub(crate) fn run(
        &self,
        old: Option<Mac>,
        since: Stamp,
        bound: Duration,
        tail: Duration,
    ) -> Swept {
        let mut progress: BTreeMap<IpAddr, Progress> = BTreeMap::new();
        progress.extend(self.addresses.iter().map(|&a| (a, Progress::default())));
        let mut swept = Swept::default();
        let mut dark: VecDeque<IpAddr> = self.addresses.iter().copied().collect();
        let mut claimed: VecDeque<IpAddr> = VecDeque::new();
        let mut cursor = 0;
        let mut missing = self.addresses.len();
        let until = Instant::now() + bound;
        while missing > 0 && Instant::now() < until {
            for answer in self.tap.news(&mut cursor) {
                let heard = answer.at >= since && Some(answer.mac) != old;
                if let Some(its) = progress.get_mut(&answer.address)
                    && heard
                {
                    if its.claimed.replace(answer.mac).is_none() {
                        claimed.push_back(answer.address);
                    }
                    match answer.how {
                        How::Gratuitous | How::Unsolicited => {
                            its.announced.get_or_insert(answer.at);
                        }
                        How::Packet if its.served.is_none() => {
                            its.served = Some(answer.at);
                            missing -= 1;
                        }
                        How::Packet | How::ArpReply | How::ArpRequest | How::Advertisement => {}
                    }
                }
                swept
                    .answers
                    .entry(answer.address)
                    .or_default()
                    .push(answer);
            }
            self.ask(&mut dark, ASKED, &mut progress, |its| its.claimed.is_none());
            self.ask(&mut claimed, ECHOED, &mut progress, |its| {
                its.served.is_none()
            });
            sleep(TICK);
        }
        sleep(tail);
        for answer in self.tap.news(&mut cursor) {
            swept
                .answers
                .entry(answer.address)
                .or_default()
                .push(answer);
        }
        for answers in swept.answers.values_mut() {
            // Two CPUs may queue two frames in the other order than they stamped them.
            answers.sort_by_key(|answer| answer.at);
        }
        swept.lost = missing;
        swept.served = progress.values().filter_map(|its| its.served).collect();
        swept.announced = progress.values().filter_map(|its| its.announced).collect();
        swept
    }

    /// Sends up to `count` frames for addresses of the queue that are still `open`; those stay in it.
    fn ask(
        &self,
        queue: &mut VecDeque<IpAddr>,
        count: usize,
        progress: &mut BTreeMap<IpAddr, Progress>,
        open: impl Fn(&Progress) -> bool,
    ) {
        let mut sent = 0;
        for _ in 0..queue.len() {
            if sent == count {
                break;
            }
            let Some(address) = queue.pop_front() else {
                break;
            };
            let Some(its) = progress.get_mut(&address).filter(|its| open(its)) else {
                continue;
            };
            queue.push_back(address);
            if its.asked.is_some_and(|at| at.elapsed() < AGAIN) {
                continue;
            }
            its.asked = Some(Instant::now());
            let (mac, v4, v6) = self.from;
            let frame = match its.claimed {
                Some(to) => echo_request(mac, v4, v6, to, address),
                None => question(mac, v4, v6, address),
            };
            // A cable that is out at the moment is no reason to stop asking.
            let _ = self.line.send(&frame);
            sent += 1;
        }
    }
}
