//! Connections survive their holder, and clients come back to their backends: it tells the node that would hold an address next of each flow,
//! and of each client that is kept, which this node could not work out by itself, and that node puts them into its own kernel, where nothing uses them before it is the holder.
//!
//! ```text
//!   kernel ── news of flows ──> book: who holds the address next? ──> a queue for each node ──tell──> that node's kernel
//!                                 ▲ the state: somebody else is next: all flows of the address
//! ```
//! Best effort: a flow that was not told in time breaks when its holder dies, as all do elsewhere. The book is pure;
//! here are channels and tasks.

mod book;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};
use vipd_core::id::NodeId;
use vipd_datapath::{DatapathError, FlowKey, FlowNews, FlowRecord, Kept, Records, Services};
use vipd_raft::{RaftNode, TellError, Told};

use book::{Book, Tellings, next_holders, recorded};

/// Between two looks at who holds what next; a first change is looked at at once.
const LOOKS: Duration = Duration::from_millis(100);
/// How often everything is told again: it keeps alive what the next holder would forget for age, and mends what was lost.
const AGAIN: Duration = Duration::from_secs(600);
/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest time until a node that could not be told is told again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Between two tries of a telling that a node had no room for.
const ROOM: Duration = Duration::from_millis(50);
/// How often it is tried.
const TRIES: usize = 20;
/// Tellings that wait for one node. It is told everything anew if that is not enough.
const QUEUE: usize = 64;

/// Tells and is told until it is dropped. `services` are those that the datapath was last told.
pub(super) async fn keep(
    raft: RaftNode,
    records: Arc<dyn Records>,
    mut services: watch::Receiver<Arc<Services>>,
) {
    let (Some(mut news), Some(told)) = (records.news(), raft.told()) else {
        warn!("flows are not told to other nodes: somebody else listens to them");
        return;
    };
    let mut applied = raft.applied();
    let mut teller = Teller::new(raft.clone(), records.clone());
    teller.tasks.spawn(listen(raft, records, told));
    let (mut look, mut again) = (Instant::now(), Instant::now() + AGAIN);
    let mut changed = true;
    loop {
        let rested = teller.rested();
        tokio::select! {
            batch = news.recv() => match batch {
                Some(batch) => teller.tell_news(batch),
                None => return,
            },
            Some(node) = teller.missed.1.recv() => {
                teller.rest(node);
                changed = true;
            }
            () = sleep_until(rested.unwrap_or(again)), if rested.is_some() => changed = true,
            Ok(()) = services.changed() => changed = true,
            result = applied.changed(), if !changed => match result {
                Ok(()) => changed = true,
                Err(_) => return,
            },
            () = sleep_until(look), if changed => {
                changed = false;
                look = Instant::now() + LOOKS;
                applied.borrow_and_update();
                let services = services.borrow_and_update().clone();
                teller.look(&services).await;
            }
            () = sleep_until(again), if !teller.book.is_empty() => {
                again = Instant::now() + AGAIN;
                let all = teller.book.all();
                teller.tell_everything(all);
            }
        }
    }
}

/// What tells others.
struct Teller {
    raft: RaftNode,
    records: Arc<dyn Records>,
    book: Book,
    queues: BTreeMap<NodeId, mpsc::Sender<Bytes>>,
    /// Nodes that could not be told something.
    missed: (
        mpsc::UnboundedSender<NodeId>,
        mpsc::UnboundedReceiver<NodeId>,
    ),
    /// Who could not be told something: when to try again, and how long that pause is.
    resting: BTreeMap<NodeId, (Instant, Duration)>,
    /// They end with it.
    tasks: JoinSet<()>,
}

impl Teller {
    fn new(raft: RaftNode, records: Arc<dyn Records>) -> Self {
        Self {
            raft,
            records,
            book: Book::default(),
            queues: BTreeMap::new(),
            missed: mpsc::unbounded_channel(),
            resting: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// It could not be told something. Telling it everything reads the whole table: it is tried less and less often.
    fn rest(&mut self, node: NodeId) {
        self.book.missed(node);
        let now = Instant::now();
        let (until, pause) = self.resting.get(&node).copied().unwrap_or((now, PATIENCE));
        if until <= now {
            let pause = (2 * pause).min(LONGEST_PAUSE);
            self.resting.insert(node, (now + pause, pause));
        }
    }

    /// When the first of those who rest is to be tried again.
    fn rested(&self) -> Option<Instant> {
        let now = Instant::now();
        let times = self.resting.values().map(|(until, _)| *until);
        times.filter(|until| *until > now).min()
    }

    /// Who holds what next may have changed.
    async fn look(&mut self, services: &Services) {
        let recorded = recorded(services);
        if recorded.is_empty() && self.book.is_empty() {
            return;
        }
        let (state, me) = (self.raft.state().read().clone(), self.raft.id());
        // On a copy and aside: entries wait for neither, and it works out what this node's loss would do.
        let next = spawn_blocking(move || next_holders(&state, me, &recorded));
        let Ok(mut next) = next.await else {
            return;
        };
        let now = Instant::now();
        // Who has had no trouble for long begins anew.
        self.resting
            .retain(|_, (until, pause)| now < *until + 2 * *pause);
        next.retain(|_, node| {
            self.resting
                .get(node)
                .is_none_or(|(until, _)| *until <= now)
        });
        let everything = self.book.turn(next);
        let all = self.book.all();
        self.queues.retain(|node, _| all.contains_key(node));
        while self.tasks.try_join_next().is_some() {}
        self.tell_everything(everything);
    }

    fn tell_news(&mut self, news: Vec<FlowNews>) {
        for (node, news) in self.book.sort(news) {
            for part in news.chunks(wire::AT_ONCE) {
                let queue = self.queue(node);
                if queue.try_send(wire::encode(part)).is_err() {
                    // There is always room: the channel has no bound.
                    let _ = self.missed.0.send(node);
                    break;
                }
            }
        }
    }

    /// Reads the flows of these addresses in the kernel, on a thread that may wait, and tells them.
    fn tell_everything(&mut self, everything: Tellings<BTreeSet<IpAddr>>) {
        for (node, addresses) in everything {
            let (records, queue) = (self.records.clone(), self.queue(node));
            let missed = self.missed.0.clone();
            spawn_blocking(move || {
                let mut part = Vec::new();
                let mut lost = false;
                let mut send = |part: &mut Vec<FlowNews>| {
                    if !part.is_empty() {
                        lost |= queue.blocking_send(wire::encode(part)).is_err();
                        part.clear();
                    }
                };
                let read = records.all(&addresses, &mut |news| {
                    part.push(news);
                    if part.len() == wire::AT_ONCE {
                        send(&mut part);
                    }
                });
                send(&mut part);
                if let Err(error) = read {
                    warn!(%node, "not all flows can be told to the next holder: {error}; tried again in a second");
                    lost = true;
                }
                if lost {
                    // Nobody listens only while the node goes down.
                    let _ = missed.send(node);
                }
            });
        }
    }

    /// The queue to a node; a task empties it for as long as it is kept.
    fn queue(&mut self, node: NodeId) -> mpsc::Sender<Bytes> {
        let (raft, missed) = (self.raft.clone(), self.missed.0.clone());
        let start = || {
            let (queue, mut waiting) = mpsc::channel::<Bytes>(QUEUE);
            self.tasks.spawn(async move {
                while let Some(bytes) = waiting.recv().await {
                    if let Err(error) = tell(&raft, node, bytes).await {
                        debug!(%node, "it was not told of flows: {error}");
                        // What waits is told with all the rest.
                        while waiting.try_recv().is_ok() {}
                        let _ = missed.send(node);
                    }
                }
            });
            queue
        };
        self.queues.entry(node).or_insert_with(start).clone()
    }
}

/// Tells, and comes back if the other has yet to read what it was told before.
async fn tell(raft: &RaftNode, node: NodeId, bytes: Bytes) -> Result<(), TellError> {
    let mut tries = 0;
    loop {
        match raft.tell(node, bytes.clone(), PATIENCE).await {
            Err(TellError::Refused { .. }) if tries < TRIES => {
                tries += 1;
                sleep(ROOM).await;
            }
            result => return result,
        }
    }
}

/// Takes what others tell.
async fn listen(raft: RaftNode, records: Arc<dyn Records>, mut told: mpsc::Receiver<Told>) {
    while let Some(Told { from, bytes }) = told.recv().await {
        let news = match wire::decode(&bytes) {
            Ok(news) => news,
            Err(error) => {
                warn!(node = %from, "what it tells of flows cannot be read: {error}; upgrade the older node");
                continue;
            }
        };
        let believed = believed(&raft, from, news);
        let records = records.clone();
        // Thousands of writes to the kernel's maps: not on a thread that others wait for.
        let taken = spawn_blocking(move || take(&*records, &believed)).await;
        match taken {
            Ok(Ok(taken)) => debug!(node = %from, taken, "told of flows"),
            Ok(Err(error)) => warn!(node = %from, "its flows cannot be taken: {error}"),
            Err(panic) => warn!("taking flows panicked: {panic}"),
        }
    }
}

/// What is believed of a telling.
#[derive(Default)]
struct Believed {
    made: BTreeMap<FlowKey, FlowRecord>,
    gone: BTreeSet<FlowKey>,
    kept: Vec<Kept>,
}

/// Of each flow what was told last. What is made, and who is kept, may be told late, by the last holder; what is gone only the
/// holder knows.
fn believed(raft: &RaftNode, from: NodeId, news: Vec<FlowNews>) -> Believed {
    let state = raft.state();
    let state = state.read();
    let holds = |key: &FlowKey| {
        let allocation = state.allocations().get(&IpAddr::from(key.destination));
        allocation.is_some_and(|allocation| allocation.holder == Some(from))
    };
    let mut believed = Believed::default();
    for item in news {
        match item {
            FlowNews::Made(record) => drop(believed.made.insert(record.key, record)),
            FlowNews::Gone(key) if holds(&key) => {
                believed.made.remove(&key);
                believed.gone.insert(key);
            }
            FlowNews::Gone(_) => {}
            FlowNews::Kept(kept) => believed.kept.push(kept),
        }
    }
    believed
}

/// What was made after it had gone, with the same ports, is another flow.
fn take(records: &dyn Records, believed: &Believed) -> Result<usize, DatapathError> {
    let gone: Vec<FlowKey> = believed.gone.iter().copied().collect();
    let made: Vec<FlowRecord> = believed.made.values().copied().collect();
    records.forget(&gone)?;
    let kept = records.keep(&believed.kept)?;
    Ok(kept + records.install(&made)?)
}
