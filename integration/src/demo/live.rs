//! The live timeline: prints each change that the daemons, the wire or the client show.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::host_of;
use super::screen::{Screen, Tone};
use super::table::millis;
use crate::Stamp;
use crate::bench::Bench;
use crate::lab::Mac;
use crate::probe::{Browser, Probe};
use crate::wire::Answer;

const PERIOD: Duration = Duration::from_millis(5);
/// How long the daemons may lag behind the wire before an answer is called wrong.
const DOUBT: Duration = Duration::from_millis(100);
/// A silence longer than this is worth a line.
const SILENCE: Duration = Duration::from_millis(50);

/// Prints changes until `done` says so.
pub(super) fn follow(bench: &Bench, browsers: &[Browser], screen: &Screen, done: &Done) {
    let mut views: Vec<View> = bench
        .addresses()
        .iter()
        .map(|&address| View::new(address))
        .collect();
    let mut cursor = 0;
    while !done.0.load(Ordering::Relaxed) {
        let news = bench.tap().news(&mut cursor);
        for ((view, probe), browser) in views.iter_mut().zip(bench.probes()).zip(browsers) {
            view.daemons(bench, screen);
            view.settle(bench, screen);
            for answer in &news {
                view.wire(answer, bench, screen);
            }
            view.client(probe, screen);
            view.web(browser, screen);
        }
        thread::sleep(PERIOD);
    }
}

/// Says that the show is over, when its guard is dropped: also when an act fails or panics.
#[derive(Debug, Default)]
pub(super) struct Done(AtomicBool);

impl Done {
    pub(super) fn guard(&self) -> impl Drop + '_ {
        struct Guard<'a>(&'a Done);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                self.0.0.store(true, Ordering::Relaxed);
            }
        }
        Guard(self)
    }
}

/// Answers of a former holder.
struct Stray {
    first: Answer,
    last: Stamp,
    told: bool,
}

impl Stray {
    fn new(first: &Answer) -> Self {
        Self {
            first: first.clone(),
            last: first.at,
            told: false,
        }
    }
}

/// What was last printed about one address.
struct View {
    address: IpAddr,
    epoch: u64,
    answering: Option<Mac>,
    /// A former holder that answers.
    stray: Option<Stray>,
    served_by: Option<Arc<str>>,
    silent_since: Option<Stamp>,
    page_of: Option<String>,
}

impl View {
    fn new(address: IpAddr) -> Self {
        Self {
            address,
            epoch: 0,
            answering: None,
            stray: None,
            served_by: None,
            silent_since: None,
            page_of: None,
        }
    }

    fn daemons(&mut self, bench: &Bench, screen: &Screen) {
        for (epoch, holder) in bench
            .history()
            .epochs(self.address)
            .split_off(&(self.epoch + 1))
        {
            self.epoch = epoch;
            match holder {
                Some(holder) => self.say(
                    screen,
                    Tone::Plain,
                    "vipd",
                    &format!("held by {holder}, epoch {epoch}"),
                ),
                None => self.say(
                    screen,
                    Tone::Bad,
                    "vipd",
                    &format!("held by nobody, epoch {epoch}"),
                ),
            }
        }
    }

    fn wire(&mut self, answer: &Answer, bench: &Bench, screen: &Screen) {
        if answer.address != self.address || self.answering == Some(answer.mac) {
            return;
        }
        let holders = bench.history().elections(self.address);
        let host = host_of(bench.lab(), answer.mac);
        let held_once = holders.iter().any(|(holder, _)| *holder == host);
        if held_once && holders.last().is_some_and(|(holder, _)| *holder != host) {
            let stray = self.stray.get_or_insert_with(|| Stray::new(answer));
            stray.last = answer.at;
        } else {
            self.accept(answer, &host, screen);
        }
    }

    /// Settles what an answer of a former holder means: it was elected again and the daemons were
    /// asked a moment too early, or it answers without a right to.
    fn settle(&mut self, bench: &Bench, screen: &Screen) {
        let Some(mut stray) = self.stray.take() else {
            return;
        };
        let host = host_of(bench.lab(), stray.first.mac);
        if bench
            .history()
            .elections(self.address)
            .last()
            .is_some_and(|(holder, _)| *holder == host)
        {
            return self.accept(&stray.first, &host, screen);
        }
        if !stray.told && Stamp::now().since(stray.first.at) > DOUBT {
            stray.told = true;
            let how = stray.first.how;
            self.say(
                screen,
                Tone::Bad,
                "wire",
                &format!("{host} STILL answers ({how}): two at once"),
            );
        }
        if Stamp::now().since(stray.last) > 2 * DOUBT {
            self.say(
                screen,
                Tone::Plain,
                "wire",
                &format!("{host} is silent at last"),
            );
        } else {
            self.stray = Some(stray);
        }
    }

    fn accept(&mut self, answer: &Answer, host: &str, screen: &Screen) {
        self.answering = Some(answer.mac);
        self.say(
            screen,
            Tone::Plain,
            "wire",
            &format!("{host} answers ({}, {})", answer.how, answer.mac),
        );
    }

    fn client(&mut self, probe: &Probe, screen: &Screen) {
        let Some(reply) = probe.latest() else { return };
        match self.silent_since {
            None if Stamp::now().since(reply.at) > SILENCE => {
                self.silent_since = Some(reply.at);
                self.say(screen, Tone::Bad, "client", "no answer");
            }
            Some(since) if reply.at > since => {
                self.silent_since = None;
                let silence = millis(reply.at.since(since));
                self.say(
                    screen,
                    Tone::Good,
                    "client",
                    &format!("served by {} after {silence}", reply.host),
                );
                self.served_by = Some(reply.host);
            }
            _ if self.served_by.as_ref() != Some(&reply.host) => {
                self.say(
                    screen,
                    Tone::Good,
                    "client",
                    &format!("served by {}", reply.host),
                );
                self.served_by = Some(reply.host);
            }
            _ => {}
        }
    }

    fn web(&mut self, browser: &Browser, screen: &Screen) {
        let page_of = browser.pages().last;
        if let Some(host) = page_of.as_ref().filter(|_| page_of != self.page_of) {
            self.say(
                screen,
                Tone::Plain,
                "web",
                &format!("the page says: {host}"),
            );
            self.page_of = page_of;
        }
    }

    fn say(&self, screen: &Screen, tone: Tone, source: &str, text: &str) {
        screen.say(
            tone,
            source,
            &format!("{:<15} {text}", self.address.to_string()),
        );
    }
}
