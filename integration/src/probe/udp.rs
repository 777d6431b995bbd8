//! One numbered datagram each millisecond to one address, and every reply with the kernel's stamp.

use std::collections::BTreeSet;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use super::gap::{Gap, gaps, longest_gap};
use super::{UDP_PORT, responder};
use crate::Stamp;
use crate::lab::Host;

/// How often the client asks.
const PERIOD: Duration = Duration::from_millis(1);

/// How long an answer may be under way before its datagram counts as lost.
const IN_FLIGHT: Duration = Duration::from_millis(50);

/// One answered datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The number of the datagram.
    pub number: u64,
    /// When the reply reached the client.
    pub at: Stamp,
    /// The host that answered.
    pub host: Arc<str>,
}

/// One datagram, answered or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its number.
    pub number: u64,
    /// When it was sent.
    pub at: Stamp,
}

/// A client that asks all the time, until dropped.
#[derive(Debug)]
pub struct Probe {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    asked: Mutex<Vec<Stamp>>,
    replies: Mutex<Vec<Reply>>,
}

impl Shared {
    fn asked(&self) -> MutexGuard<'_, Vec<Stamp>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replies(&self) -> MutexGuard<'_, Vec<Reply>> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Probe {
    /// Starts to ask `address` from `client`.
    pub fn start(client: &Host, address: IpAddr) -> Result<Self> {
        let socket = client
            .netns()?
            .enter(|| Ok(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?))?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20))?;
        let shared = Arc::new(Shared::default());
        let (ask, hear) = (Arc::clone(&shared), Arc::clone(&shared));
        let out = socket.try_clone()?;
        let threads = vec![
            thread::Builder::new()
                .name("probe-ask".into())
                .spawn(move || ask_on(&out, address, &ask))?,
            thread::Builder::new()
                .name("probe-hear".into())
                .spawn(move || hear_on(&socket, &hear))?,
        ];
        Ok(Self { shared, threads })
    }

    /// How many datagrams were sent so far.
    pub fn sent(&self) -> usize {
        self.shared.asked().len()
    }

    /// Every reply so far, in the order of arrival.
    pub fn replies(&self) -> Vec<Reply> {
        self.shared.replies().clone()
    }

    /// The replies later than `after`, in the order of arrival.
    pub fn replies_since(&self, after: Stamp) -> Vec<Reply> {
        let replies = self.shared.replies();
        replies[replies.partition_point(|r| r.at <= after)..].to_vec()
    }

    /// How many datagrams, sent since `from` and not just now, were never answered.
    pub fn lost_since(&self, from: Stamp) -> usize {
        self.unanswered_since(from).len()
    }

    /// The datagrams that were sent since `from`, and not just now, and never answered.
    pub fn unanswered_since(&self, from: Stamp) -> Vec<Question> {
        let asked = self.shared.asked();
        let first = asked.partition_point(|&at| at < from);
        let end = asked.partition_point(|&at| at < Stamp::now() - IN_FLIGHT);
        let answered: BTreeSet<u64> = self.shared.replies().iter().map(|r| r.number).collect();
        let numbers = (first as u64..).zip(&asked[first..end.max(first)]);
        numbers
            .filter(|(number, _)| !answered.contains(number))
            .map(|(number, &at)| Question { number, at })
            .collect()
    }

    /// The newest reply.
    pub fn latest(&self) -> Option<Reply> {
        self.shared.replies().last().cloned()
    }

    /// The longest time since `from` in which the client asked in vain.
    pub fn outage_since(&self, from: Stamp) -> Gap {
        let asked = self.shared.asked().clone();
        longest_gap(&asked, &self.replies(), from, Stamp::now())
    }

    /// Since when the client asked in vain for longer than `noticed`, for the first time since `from`.
    pub fn silent_since(&self, from: Stamp, noticed: Duration) -> Option<Stamp> {
        let asked = self.shared.asked().clone();
        let gaps = gaps(&asked, &self.replies(), from, Stamp::now());
        let silent = gaps.into_iter().find(|gap| gap.length() > noticed);
        silent.map(|gap| gap.from)
    }

    /// Waits until `host` answers, at most `bound`, and returns its first reply later than `after`.
    pub fn wait_for(&self, host: &str, after: Stamp, bound: Duration) -> Result<Reply> {
        let until = Instant::now() + bound;
        loop {
            let found = {
                let replies = self.shared.replies();
                let start = replies.partition_point(|r| r.at <= after);
                replies[start..].iter().find(|r| &*r.host == host).cloned()
            };
            if let Some(reply) = found {
                return Ok(reply);
            }
            if Instant::now() > until {
                let last = self.latest().map_or("nobody".into(), |r| r.host);
                bail!(
                    "{host} did not answer the client within {bound:?}; the last who did is {last}"
                );
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the thread was already printed.
            let _ = thread.join();
        }
    }
}

fn ask_on(socket: &UdpSocket, address: IpAddr, shared: &Shared) {
    let to = responder::mapped(address, UDP_PORT);
    let mut next = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        let number = {
            let mut asked = shared.asked();
            asked.push(Stamp::now());
            asked.len() as u64 - 1
        };
        // "No route to host" is how an outage feels; ask on.
        let _: io::Result<usize> = socket.send_to(&number.to_be_bytes(), to);
        next += PERIOD;
        let now = Instant::now();
        match next.checked_duration_since(now) {
            Some(wait) => thread::sleep(wait),
            // Late: no burst to catch up, the client just asked less often.
            None => next = now,
        }
    }
}

fn hear_on(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0_u8; 512];
    let mut control = nix::cmsg_space!(TimeSpec);
    let mut names: Vec<Arc<str>> = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let got = recvmsg::<SockaddrIn6>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        );
        let (length, at) = match got {
            Ok(message) => {
                let stamp = message
                    .cmsgs()
                    .into_iter()
                    .flatten()
                    .find_map(|extra| match extra {
                        ControlMessageOwned::ScmTimestampns(stamp) => Some(Stamp::from(stamp)),
                        _ => None,
                    });
                (message.bytes, stamp.unwrap_or_else(Stamp::now))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            // An ICMP error for an earlier datagram: nobody was there.
            Err(_) => continue,
        };
        let Some((number, name)) = buffer[..length].split_first_chunk::<8>() else {
            continue;
        };
        let name = String::from_utf8_lossy(name);
        let known = names.iter().find(|known| ***known == *name).cloned();
        let host = known.unwrap_or_else(|| {
            let new: Arc<str> = name.into();
            names.push(Arc::clone(&new));
            new
        });
        let reply = Reply {
            number: u64::from_be_bytes(*number),
            at,
            host,
        };
        shared.replies().push(reply);
    }
}
