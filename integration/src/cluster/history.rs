//! Who was elected, in order: what the daemons say among themselves, to hold the wire against.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

use super::{Api, Cluster};

const PERIOD: Duration = Duration::from_millis(15);
const PATIENCE: Duration = Duration::from_millis(150);

type Reigns = BTreeMap<IpAddr, BTreeMap<u64, Option<String>>>;

/// Asks every daemon all the time and keeps each holder it hears of, by epoch. A daemon that is
/// frozen or dead is simply not heard.
#[derive(Debug)]
pub struct History {
    stop: Arc<AtomicBool>,
    reigns: Arc<Mutex<Reigns>>,
    threads: Vec<JoinHandle<()>>,
}

impl History {
    /// Starts to listen to all nodes of `cluster`.
    pub fn start(cluster: &Cluster) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let reigns = Arc::new(Mutex::new(Reigns::new()));
        let mut threads = Vec::new();
        for node in cluster.nodes() {
            let (api, stop, reigns) = (
                node.api().within(PATIENCE),
                Arc::clone(&stop),
                Arc::clone(&reigns),
            );
            let name = format!("history-{}", node.host().name());
            threads.push(
                thread::Builder::new()
                    .name(name)
                    .spawn(move || listen(&api, &stop, &reigns))?,
            );
        }
        Ok(Self {
            stop,
            reigns,
            threads,
        })
    }

    /// The holders of `address` so far, by epoch; `None` where nobody could hold it.
    pub fn epochs(&self, address: IpAddr) -> BTreeMap<u64, Option<String>> {
        let reigns = self.reigns.lock().unwrap_or_else(PoisonError::into_inner);
        reigns.get(&address).cloned().unwrap_or_default()
    }

    /// The holders of `address` in order, each change once.
    pub fn holders(&self, address: IpAddr) -> Vec<String> {
        let mut names: Vec<String> = self.epochs(address).into_values().flatten().collect();
        names.dedup();
        names
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the thread was already printed.
            let _ = thread.join();
        }
    }
}

fn listen(api: &Api, stop: &AtomicBool, reigns: &Mutex<Reigns>) {
    while !stop.load(Ordering::Relaxed) {
        if let Ok(states) = api.addresses() {
            let mut reigns = reigns.lock().unwrap_or_else(PoisonError::into_inner);
            for state in states {
                reigns
                    .entry(state.address)
                    .or_default()
                    .insert(state.epoch, state.holder);
            }
        }
        thread::sleep(PERIOD);
    }
}
