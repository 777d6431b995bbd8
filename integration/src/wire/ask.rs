//! Asks on the wire who has an address, all the time, so that the tap hears who would answer at each
//! moment, also while every neighbour table is fresh.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::speak::{Line, question};
use crate::lab::Host;

/// A thread on the observer that broadcasts who-has (IPv4) and multicasts solicitations (IPv6).
///
/// It asks from a host of its own, so that no answer to it touches the client's neighbour table.
#[derive(Debug)]
pub struct Asker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Asker {
    /// Asks from `host` for each of `addresses`, each `period`: one question after the other, spread over it.
    pub fn start(host: &Host, addresses: &[IpAddr], period: Duration) -> Result<Self> {
        let line = Line::open(host)?;
        let questions: Vec<Vec<u8>> = addresses
            .iter()
            .map(|&address| question(host.mac(), host.v4(), host.v6(), address))
            .collect();
        ensure!(!questions.is_empty(), "there is no address to ask for");
        let pause = period / u32::try_from(questions.len())?;
        let stop = Arc::new(AtomicBool::new(false));
        let own = Arc::clone(&stop);
        let thread = thread::Builder::new().name("asker".into()).spawn(move || {
            while !own.load(Ordering::Relaxed) {
                for question in &questions {
                    // A cable that is out at the moment is no reason to stop asking.
                    let _ = line.send(question);
                    thread::sleep(pause);
                }
            }
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already printed.
            let _ = thread.join();
        }
    }
}
