//! A host's disk: what was synced survives, of the rest a crash keeps as much as it likes.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use vipd_core::id::{Epoch, NodeId};
use vipd_raft::parts::{Entry, LogId, SnapshotMeta, Vote, encode_record};

use crate::dice::Dice;
use crate::lock;
use crate::raft::Flushed;
use crate::runtime::{sleep, true_now};

/// One change, in the order in which it was asked for.
#[derive(Debug)]
pub(crate) enum Op {
    /// Entries that follow the last one.
    Append(Vec<Entry>),
    /// Drop every entry after this one.
    Truncate(Option<LogId>),
    /// Drop every entry up to this one.
    Purge(LogId),
    /// The vote.
    Vote(Vote),
    /// A hint, which nobody waits for.
    Committed(Option<LogId>),
    /// Never support this epoch again.
    Fence(NodeId, Epoch),
    /// A snapshot in place of the older one.
    Snapshot(Box<SnapshotMeta>, Bytes),
}

/// Who wants to know that it is durable.
pub(crate) enum Notice {
    /// Nobody.
    Nobody,
    /// openraft.
    Raft(Flushed),
    /// Whoever awaits it.
    Caller(oneshot::Sender<io::Result<()>>),
}

impl Notice {
    fn tell(self, result: io::Result<()>) {
        match self {
            Self::Nobody => {}
            Self::Raft(flushed) => flushed.io_completed(result),
            Self::Caller(caller) => drop(caller.send(result)),
        }
    }
}

/// What survives a crash. Entries lie here as the bytes that the daemon would write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Platter {
    /// Records by index.
    pub(crate) entries: BTreeMap<u64, Vec<u8>>,
    /// Up to where the log was purged.
    pub(crate) purged: Option<LogId>,
    /// The vote.
    pub(crate) vote: Option<Vote>,
    /// The hint.
    pub(crate) committed: Option<LogId>,
    /// The fences.
    pub(crate) fences: BTreeMap<NodeId, Epoch>,
    /// The snapshot.
    pub(crate) snapshot: Option<(SnapshotMeta, Bytes)>,
}

/// How the disk behaves now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Health {
    /// A sync takes a fraction of a millisecond, seldom a few.
    #[default]
    Good,
    /// Nothing completes before this true time.
    Stalled(u64),
    /// Every write fails.
    Broken,
    /// Every write fails for lack of space.
    Full,
}

/// The disk. Belongs to the host: processes come and go.
pub(crate) struct Disk(Mutex<Inner>);

struct Inner {
    dice: Dice,
    platter: Platter,
    health: Health,
    queue: VecDeque<(Op, Notice)>,
    bell: Arc<Notify>,
    /// Tells of success before it has done anything: a planted fault.
    lies: bool,
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub(crate) fn new(dice: Dice, lies: bool) -> Self {
        Self(Mutex::new(Inner {
            dice,
            platter: Platter::default(),
            health: Health::Good,
            queue: VecDeque::new(),
            bell: Arc::default(),
            lies,
        }))
    }

    /// How it behaves from now on.
    pub(crate) fn set_health(&self, health: Health) {
        lock(&self.0).health = health;
    }

    /// What a process finds that starts now.
    #[must_use]
    pub(crate) fn recover(&self) -> Platter {
        lock(&self.0).platter.clone()
    }

    /// The snapshot on it.
    #[must_use]
    pub(crate) fn snapshot(&self) -> Option<(SnapshotMeta, Bytes)> {
        lock(&self.0).platter.snapshot.clone()
    }

    /// Everything is new: the data directory was moved away.
    pub(crate) fn wipe(&self) {
        let mut inner = lock(&self.0);
        inner.queue.clear();
        inner.platter = Platter::default();
    }

    /// The process is gone, or the power: of what was not synced, some first part may be there all the same.
    pub(crate) fn crash(&self) {
        let mut inner = lock(&self.0);
        let queued = std::mem::take(&mut inner.queue);
        let kept = inner.dice.below(queued.len() as u64 + 1);
        for (op, _) in queued.into_iter().take(usize::try_from(kept).unwrap_or(0)) {
            inner.platter.carry_out(op);
        }
    }

    /// Queues `op`.
    pub(crate) fn push(&self, op: Op, notice: Notice) {
        let mut inner = lock(&self.0);
        let (notice, liar) = if inner.lies {
            (Notice::Nobody, Some(notice))
        } else {
            (notice, None)
        };
        inner.queue.push_back((op, notice));
        inner.bell.notify_one();
        drop(inner);
        if let Some(notice) = liar {
            notice.tell(Ok(()));
        }
    }

    /// Queues `op` and waits until it is durable.
    ///
    /// # Errors
    /// If the disk failed, or its process ended meanwhile.
    pub(crate) async fn push_and_wait(&self, op: Op) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.push(op, Notice::Caller(done));
        wait.await
            .unwrap_or_else(|_| Err(io::Error::other("the log thread is gone")))
    }

    /// Works the queue off, in groups, until a write fails; gives the reason then. Runs in the process's scope.
    pub(crate) async fn work(&self) -> String {
        let bell = lock(&self.0).bell.clone();
        loop {
            if lock(&self.0).queue.is_empty() {
                bell.notified().await;
                continue;
            }
            let pause = lock(&self.0).pause();
            sleep(Duration::from_nanos(pause)).await;
            loop {
                let health = lock(&self.0).health;
                match health {
                    Health::Stalled(until) if true_now() < until => {
                        sleep(
                            Duration::from_nanos(until - true_now()).min(Duration::from_millis(50)),
                        )
                        .await;
                    }
                    Health::Good | Health::Stalled(_) | Health::Broken | Health::Full => break,
                }
            }
            let (done, failed) = lock(&self.0).commit();
            for (notice, result) in done {
                notice.tell(result);
            }
            if let Some(why) = failed {
                return why;
            }
        }
    }
}

type Done = Vec<(Notice, io::Result<()>)>;

impl Inner {
    fn pause(&mut self) -> u64 {
        if self.lies {
            200_000_000
        } else if self.dice.one_in(200) {
            self.dice.between(2_000_000, 20_000_000)
        } else {
            self.dice.between(100_000, 800_000)
        }
    }

    fn commit(&mut self) -> (Done, Option<String>) {
        let kind = match self.health {
            Health::Good | Health::Stalled(_) => {
                let mut done = Vec::new();
                while let Some((op, notice)) = self.queue.pop_front() {
                    self.platter.carry_out(op);
                    done.push((notice, Ok(())));
                }
                return (done, None);
            }
            Health::Broken => io::ErrorKind::Other,
            Health::Full => io::ErrorKind::StorageFull,
        };
        // Nobody can know what a failed write has kept.
        let kept = self.dice.below(self.queue.len() as u64 + 1);
        let mut done = Vec::new();
        for (n, (op, notice)) in std::mem::take(&mut self.queue).into_iter().enumerate() {
            if (n as u64) < kept {
                self.platter.carry_out(op);
            }
            done.push((
                notice,
                Err(io::Error::new(kind, "the log cannot be written")),
            ));
        }
        (done, Some(format!("the log cannot be written: {kind}")))
    }
}

impl Platter {
    fn carry_out(&mut self, op: Op) {
        match op {
            Op::Append(entries) => {
                let records = entries
                    .iter()
                    .map(|entry| (entry.log_id.index, encode_record(entry)));
                self.entries.extend(records);
            }
            Op::Truncate(after) => {
                self.entries.split_off(&after.map_or(0, |id| id.index + 1));
            }
            Op::Purge(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = self.purged.max(Some(upto));
            }
            Op::Vote(vote) => self.vote = Some(vote),
            Op::Committed(committed) => self.committed = committed,
            Op::Fence(node, epoch) => {
                let fence = self.fences.entry(node).or_insert(epoch);
                *fence = epoch.max(*fence);
            }
            Op::Snapshot(meta, body) => self.snapshot = Some((*meta, body)),
        }
    }
}
