//! Asks the link whether somebody has addresses, before they are announced for the first time: ARP probes (RFC 5227) and
//! neighbour solicitations from `::` (RFC 4862 5.4).
//!
//! A tap of its own listens, which hears frames before the programs do: those drop what comes for an address that is shut.
//! Its frames pass the egress programs as all do, and claim nothing. Nothing runs while nothing is asked.

mod course;
mod frames;
mod socket;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use self::{
    course::{BURST, Course},
    frames::question,
    socket::Tap,
};
use crate::DatapathError;

/// Between frames that leave together answers are taken in.
const PAUSE: Duration = Duration::from_millis(1);
/// The longest that one step listens: then further questions may join.
const STEP: Duration = Duration::from_millis(5);

/// An address that is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The address.
    pub address: IpAddr,
    /// The interface that would carry it.
    pub interface: String,
    /// The MAC of that.
    pub mac: [u8; 6],
}

/// What was heard of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The address.
    pub address: IpAddr,
    /// Who has it.
    pub said: Said,
}

/// Whether somebody has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Nobody answered.
    Free,
    /// Somebody with this MAC did, or asks for it as his own.
    Taken([u8; 6]),
    /// It could not be asked: its interface is gone, or is down.
    Unasked,
}

/// Asks the link: three questions for each address, and an answer after 200 ms, or as soon as somebody claims it. Many
/// are paced, and asked side by side.
pub trait Prober: Send {
    /// Asks about these beside what is being asked about. Of the members of the cluster, whose MACs are `members`, one may
    /// have asked for the same a moment ago: their questions claim nothing, but their answers do.
    fn ask(&mut self, probes: Vec<Probe>, members: &BTreeSet<[u8; 6]>);

    /// Goes on with it for some milliseconds, in which the thread blocks; what has come to its end. `None` once nothing is
    /// being asked about.
    ///
    /// # Errors
    /// If the link can't be listened to: then all that was being asked about is forgotten.
    fn step(&mut self) -> Result<Option<Vec<Heard>>, DatapathError>;
}

/// The real one, in the network namespace of the thread that takes the steps.
pub(crate) struct Link {
    began: Instant,
    waiting: Vec<Probe>,
    course: Course,
    tap: Option<Tap>,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            waiting: Vec::new(),
            course: Course::default(),
            tap: None,
        }
    }

    fn listen_and_ask(&mut self) -> Result<Vec<Heard>, DatapathError> {
        let mut heard = Vec::new();
        let tap = match self.tap.take() {
            Some(tap) => tap,
            None => Tap::open()?,
        };
        for probe in self.waiting.drain(..) {
            match socket::index_of(&probe.interface) {
                Some(index) => self.course.begin(self.began.elapsed(), &probe, index),
                None => heard.push(Heard {
                    address: probe.address,
                    said: Said::Unasked,
                }),
            }
        }
        let due = self.course.due(self.began.elapsed());
        for (address, index, mac) in &due {
            if let Err(error) = tap.send(*index, &question(*address, *mac)) {
                tracing::debug!(%address, %error, "not asked about");
                self.course.lost(*address);
            }
        }
        let patience = if due.len() == BURST { PAUSE } else { STEP };
        let until = self.began.elapsed() + patience;
        let until = self.course.next().map_or(until, |next| until.min(next));
        let course = &mut self.course;
        tap.listen(self.began + until, |index, frame| course.hear(index, frame))?;
        heard.extend(self.course.over(self.began.elapsed()));
        self.tap = Some(tap);
        Ok(heard)
    }
}

impl Prober for Link {
    fn ask(&mut self, probes: Vec<Probe>, members: &BTreeSet<[u8; 6]>) {
        self.course.members.clone_from(members);
        self.waiting.extend(probes);
    }

    fn step(&mut self) -> Result<Option<Vec<Heard>>, DatapathError> {
        if self.waiting.is_empty() && self.course.is_empty() {
            self.tap = None;
            return Ok(None);
        }
        let heard = self.listen_and_ask();
        if heard.is_err() {
            *self = Self::new();
        }
        heard.map(Some)
    }
}
