//! The live timeline: prints each change that the daemons, the wire or the client show.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::host_of;
use super::screen::{Screen, Tone};
use crate::Stamp;
use crate::bench::Bench;
use crate::probe::Probe;

const PERIOD: Duration = Duration::from_millis(5);
/// A silence longer than this is worth a line.
const SILENCE: Duration = Duration::from_millis(50);

/// Prints changes until `done`.
pub(super) fn follow(bench: &Bench, screen: &Screen, done: &AtomicBool) {
    let mut views: Vec<View> = bench
        .addresses()
        .iter()
        .map(|&address| View::new(address))
        .collect();
    while !done.load(Ordering::Relaxed) {
        for (view, probe) in views.iter_mut().zip(bench.probes()) {
            view.daemons(bench, screen);
            view.wire(bench, screen);
            view.client(probe, screen);
        }
        thread::sleep(PERIOD);
    }
}

/// What was last printed about one address.
struct View {
    address: IpAddr,
    epoch: u64,
    answering: Option<String>,
    served_by: Option<String>,
    silent_since: Option<Stamp>,
}

impl View {
    fn new(address: IpAddr) -> Self {
        Self {
            address,
            epoch: 0,
            answering: None,
            served_by: None,
            silent_since: None,
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

    fn wire(&mut self, bench: &Bench, screen: &Screen) {
        let Some(answer) = bench.tap().latest(self.address) else {
            return;
        };
        let host = host_of(bench.lab(), answer.mac);
        if self.answering.as_ref() != Some(&host) {
            self.say(
                screen,
                Tone::Plain,
                "wire",
                &format!("{host} answers ({}, {})", answer.how, answer.mac),
            );
            self.answering = Some(host);
        }
    }

    fn client(&mut self, probe: &Probe, screen: &Screen) {
        let Some(reply) = probe.latest() else { return };
        let host = reply.host.to_string();
        match self.silent_since {
            None if Stamp::now().since(reply.at) > SILENCE => {
                self.silent_since = Some(reply.at);
                self.say(screen, Tone::Bad, "client", "no answer");
            }
            Some(since) if reply.at > since => {
                self.silent_since = None;
                self.served_by = Some(host.clone());
                self.say(
                    screen,
                    Tone::Good,
                    "client",
                    &format!("served by {host} again"),
                );
            }
            _ if self.served_by.as_ref() != Some(&host) => {
                self.say(screen, Tone::Good, "client", &format!("served by {host}"));
                self.served_by = Some(host);
            }
            _ => {}
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
