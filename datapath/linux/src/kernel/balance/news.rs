//! The news of flows: the programs tell of new ones by the ring buffer NEW_FLOWS, the collector of those that are over.

use std::{
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use aya::maps::{MapData, RingBuf};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};
use tokio::sync::mpsc::{self, Receiver, Sender};
use vipd_datapath_common::balance::flow_flags;

use super::{
    affinity::begun,
    records::{Numbers, SharedNumbers, is_told},
};
use crate::{DatapathError, FlowNews, FlowRecord};

/// News in a batch.
const BATCH: usize = 512;
/// Batches that wait for the receiver.
const WAITING: usize = 256;
/// A batch that is not full waits so long for more, ms.
const GATHER_MS: u16 = 5;

/// Where news go. Clones share it.
#[derive(Clone, Default)]
pub(super) struct News(Arc<Inside>);

#[derive(Default)]
struct Inside {
    sender: Mutex<Option<Sender<Vec<FlowNews>>>>,
    lost: AtomicU64,
}

impl News {
    /// Tells whoever listens; what he has no room for is lost.
    pub(super) fn tell(&self, news: Vec<FlowNews>) {
        let sender = self.0.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = &*sender else {
            return;
        };
        for batch in news.chunks(BATCH) {
            if sender.try_send(batch.to_vec()).is_err() {
                let before = self.0.lost.fetch_add(batch.len() as u64, Ordering::Relaxed);
                // Not once for each: this happens when there is too much to do already.
                if before == 0 {
                    tracing::warn!(
                        "news of flows are lost: the runner-up will not know all connections"
                    );
                }
            }
        }
    }

    fn listen(&self) -> Receiver<Vec<FlowNews>> {
        let (sender, receiver) = mpsc::channel(WAITING);
        *self.0.sender.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }
}

/// Reads the ring buffer, as soon as somebody wants to know.
pub(super) struct Reporter {
    news: News,
    numbers: SharedNumbers,
    ring: Mutex<Option<RingBuf<MapData>>>,
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Reporter {
    pub(super) fn new(ring: RingBuf<MapData>, news: News, numbers: SharedNumbers) -> Self {
        Self {
            news,
            numbers,
            ring: Mutex::new(Some(ring)),
            running: Mutex::default(),
        }
    }

    /// Starts the thread; `None` if it runs, or cannot be started.
    pub(super) fn start(&self) -> Option<Receiver<Vec<FlowNews>>> {
        let ring = self
            .ring
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?;
        match run(ring, self.news.clone(), Arc::clone(&self.numbers)) {
            Ok(running) => {
                *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
                Some(self.news.listen())
            }
            Err(error) => {
                tracing::warn!(%error, "the runner-up will know no connections");
                None
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It fails only when the counter is full, and then the thread is being woken.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn run(
    mut ring: RingBuf<MapData>,
    news: News,
    numbers: SharedNumbers,
) -> Result<Running, DatapathError> {
    let stop = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
        .map_err(|errno| DatapathError::system("make an eventfd", errno))?;
    let stop = Arc::new(stop);
    let thread = thread::Builder::new()
        .name("vipd-news".to_owned())
        .spawn({
            let stop = Arc::clone(&stop);
            move || {
                while !waits(&stop, Some(&ring), PollTimeout::NONE) {
                    report(&mut ring, &news, &Numbers::of(&numbers), &stop);
                }
            }
        })
        .map_err(|source| DatapathError::system("start the thread for new flows", source))?;
    Ok(Running {
        stop,
        thread: Some(thread),
    })
}

/// Until the ring has something, the time is over, or the thread shall stop: then `true`.
fn waits(stop: &EventFd, ring: Option<&RingBuf<MapData>>, time: PollTimeout) -> bool {
    let mut fds = vec![PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
    fds.extend(ring.map(|ring| PollFd::new(ring.as_fd(), PollFlags::POLLIN)));
    match poll(&mut fds, time) {
        Ok(_) => fds[0].any().unwrap_or(true),
        Err(Errno::EINTR) => false,
        Err(error) => {
            tracing::warn!(%error, "new flows are not told of any more");
            true
        }
    }
}

/// Empties the ring, then gives new flows the time to become a batch.
fn report(ring: &mut RingBuf<MapData>, news: &News, numbers: &Numbers, stop: &EventFd) {
    let mut batch = Vec::new();
    while let Some(item) = ring.next() {
        let Some(record) = FlowRecord::from_bytes(&item) else {
            continue;
        };
        if is_told(&record.flow) {
            batch.push(FlowNews::Made(record));
        }
        if record.flow.has(flow_flags::STICKY) {
            batch.extend(begun(&record, numbers).map(FlowNews::Kept));
        }
        if batch.len() >= BATCH {
            news.tell(std::mem::take(&mut batch));
        }
    }
    if !batch.is_empty() {
        news.tell(batch);
        waits(stop, None, PollTimeout::from(GATHER_MS));
    }
}
