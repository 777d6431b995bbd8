//! The one thread that writes. It takes whatever has queued up, commits it as one group, and only then tells
//! those who wait.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use openraft::storage::IOFlushed;
use tokio::sync::{oneshot, watch};

use super::StoreError;
use super::disk::{Disk, Op};
use crate::types::Types;

/// The most operations that share a flush.
const GROUP: usize = 512;
/// How long a hint may stay unflushed when nothing else is written.
const SETTLE: Duration = Duration::from_millis(100);

/// Who wants to know that an operation is durable.
pub(super) enum Notify {
    Nobody,
    Openraft(IOFlushed<Types>),
    Caller(oneshot::Sender<io::Result<()>>),
}

enum Job {
    Write(Op, Notify),
    Stop,
}

/// A handle to the thread: to queue work, and to stop it at the end.
#[derive(Debug)]
pub(crate) struct IoThread {
    queue: Queue,
    failed: watch::Receiver<Option<String>>,
    thread: Option<JoinHandle<()>>,
}

/// The sending side of the queue, cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Queue(Sender<Job>);

impl IoThread {
    /// Starts the thread on `disk`.
    pub(crate) fn start(disk: impl Disk) -> io::Result<Self> {
        let (sender, jobs) = channel();
        let (report, failed) = watch::channel(None);
        let thread = thread::Builder::new()
            .name("vipd-log".into())
            .spawn(move || run(disk, &jobs, &report))?;
        Ok(Self {
            queue: Queue(sender),
            failed,
            thread: Some(thread),
        })
    }

    pub(super) fn queue(&self) -> Queue {
        self.queue.clone()
    }

    /// Becomes `Some` with the reason when the store can no longer be used.
    pub(crate) fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// Finishes the queue, makes it durable and lets go of the files. Blocks.
    pub(crate) fn stop(&mut self) {
        // The thread is gone already if sending fails.
        let _ = self.queue.0.send(Job::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log thread panicked");
        }
    }
}

impl Drop for IoThread {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Queue {
    /// Queues `op`. If the thread is gone, `notify` hears so.
    pub(super) fn push(&self, op: Op, notify: Notify) {
        if let Err(std::sync::mpsc::SendError(Job::Write(_, notify))) =
            self.0.send(Job::Write(op, notify))
        {
            tell(notify, Err(&StoreError::Failed("it is closed".into())));
        }
    }

    /// Queues `op` and waits until it is durable.
    pub(super) async fn push_and_wait(&self, op: Op) -> io::Result<()> {
        let (tell, told) = oneshot::channel();
        self.push(op, Notify::Caller(tell));
        told.await
            .unwrap_or_else(|_| Err(io::Error::other("the log thread is gone")))
    }
}

fn run(mut disk: impl Disk, jobs: &Receiver<Job>, failed: &watch::Sender<Option<String>>) {
    let mut unsettled = false;
    loop {
        let first = match if unsettled {
            jobs.recv_timeout(SETTLE)
        } else {
            jobs.recv().map_err(Into::into)
        } {
            Ok(Job::Write(op, notify)) => (op, notify),
            Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                unsettled = false;
                if let Err(error) = disk.settle() {
                    return refuse(disk, &error, jobs, failed);
                }
                continue;
            }
        };
        let (mut ops, mut notify, mut stop) = (vec![first.0], vec![first.1], false);
        while ops.len() < GROUP {
            match jobs.try_recv() {
                Ok(Job::Write(op, who)) => {
                    ops.push(op);
                    notify.push(who);
                }
                Ok(Job::Stop) => {
                    stop = true;
                    break;
                }
                Err(_) => break,
            }
        }
        let durable = ops.iter().any(Op::must_be_durable);
        let result = disk.commit(&ops);
        for who in notify {
            tell(who, result.as_ref().copied());
        }
        if let Err(error) = result {
            return refuse(disk, &error, jobs, failed);
        }
        unsettled = !durable;
        if stop {
            break;
        }
    }
    if let Err(error) = disk.settle() {
        tracing::error!(%error, "the last flush of the log failed");
        std::mem::forget(disk); // as in `refuse`
    }
}

/// The end of a store that failed: everybody who still asks gets the reason. No flush is ever tried again.
///
/// The disk is never dropped: sled flushes once more when it is, and after a failed write waits for ever for a
/// flush that nobody does. The process is about to end anyway, and with it the handles.
fn refuse(
    disk: impl Disk,
    error: &StoreError,
    jobs: &Receiver<Job>,
    failed: &watch::Sender<Option<String>>,
) {
    std::mem::forget(disk);
    tracing::error!(%error, "the log cannot be written; this node stops taking part");
    failed.send_replace(Some(error.to_string()));
    let error = StoreError::Failed(error.to_string());
    while let Ok(Job::Write(_, who)) = jobs.recv() {
        tell(who, Err(&error));
    }
}

fn tell(who: Notify, result: Result<(), &StoreError>) {
    let result = result.map_err(|error| match error {
        StoreError::Io { source, .. } => io::Error::new(source.kind(), error.to_string()),
        other => io::Error::other(other.to_string()),
    });
    match who {
        Notify::Nobody => {}
        Notify::Openraft(flushed) => flushed.io_completed(result),
        // Whoever asked may have been cancelled.
        Notify::Caller(caller) => drop(caller.send(result)),
    }
}
