//! Who was elected, in order: what the daemons say among themselves, to hold the wire against.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

use super::{Api, Cluster};
use crate::Stamp;

const PERIOD: Duration = Duration::from_millis(15);
const PATIENCE: Duration = Duration::from_millis(150);

type Reigns = BTreeMap<IpAddr, BTreeMap<u64, (Option<String>, Stamp)>>;

/// Asks every daemon all the time and keeps each holder it hears of, by epoch. A daemon that is
/// frozen or dead is simply not heard.
#[derive(Debug)]
pub struct History {
    stop: Arc<AtomicBool>,
    reigns: Arc<Mutex<Reigns>>,
    threads: Vec<JoinHandle<()>>,
}

impl History {
    /// How late an election is heard of at most: a poll, its patience, and a busy machine.
    pub const LAG: Duration = Duration::from_millis(400);

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
        let known = reigns.get(&address).into_iter().flatten();
        known
            .map(|(&epoch, (holder, _))| (epoch, holder.clone()))
            .collect()
    }

    /// The holders of `address` in order, each change once, with when it was first heard of. The
    /// election itself was earlier, by [`History::LAG`] at most.
    pub fn elections(&self, address: IpAddr) -> Vec<(String, Stamp)> {
        let reigns = self.reigns.lock().unwrap_or_else(PoisonError::into_inner);
        let known = reigns.get(&address).into_iter().flat_map(BTreeMap::values);
        let mut elections: Vec<_> = known
            .filter_map(|(holder, at)| Some((holder.clone()?, *at)))
            .collect();
        elections.dedup_by(|later, earlier| later.0 == earlier.0);
        elections
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
            let heard = Stamp::now();
            let mut reigns = reigns.lock().unwrap_or_else(PoisonError::into_inner);
            for state in states {
                let known = reigns.entry(state.address).or_default();
                known.entry(state.epoch).or_insert((state.holder, heard));
            }
        }
        thread::sleep(PERIOD);
    }
}
