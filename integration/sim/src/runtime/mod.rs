//! openraft-rt-sim's executor and virtual clock, with hosts in it: every task belongs to a [`Scope`] of some host,
//! sees time by that host's [`Clock`], and is frozen or killed with its scope.

mod clock;
mod scope;
mod time;

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft::{AsyncRuntime, OptionalSend};
use openraft_rt_sim::SimRuntime;
use tokio::sync::oneshot;

pub(crate) use clock::{Clock, true_now};
pub(crate) use scope::Scope;
pub(crate) use time::{Local, Sleep, Timeout, TooLate};

/// The runtime that openraft and everything else in the simulation runs on.
pub(crate) struct NodeRuntime(SimRuntime);

impl fmt::Debug for NodeRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeRuntime")
    }
}

impl NodeRuntime {
    /// A runtime whose chance comes from `seed`.
    #[must_use]
    pub(crate) fn with_seed(seed: u64) -> Self {
        Self(SimRuntime::with_seed(seed))
    }
}

/// Runs `work` in the background, in the current scope if there is one.
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    match Scope::current() {
        Some(scope) => spawn_in(&scope, work),
        None => drop(SimRuntime::spawn(work)),
    }
}

/// Runs `work` in the background of `scope`.
pub(crate) fn spawn_in(scope: &Scope, work: impl Future<Output = ()> + Send + 'static) {
    drop(SimRuntime::spawn(scope.task(work)));
}

/// Waits, by the clock of the current scope.
pub(crate) fn sleep(span: Duration) -> Sleep {
    NodeRuntime::sleep(span)
}

/// The result of a task, or that it was killed or has panicked.
#[derive(Debug)]
pub(crate) struct Joined<T>(oneshot::Receiver<T>);

/// The task ended without a result.
#[derive(Debug)]
pub(crate) struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task was killed, or has panicked")
    }
}

impl<T> Future for Joined<T> {
    type Output = Result<T, Gone>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_err(|_| Gone)
    }
}

impl AsyncRuntime for NodeRuntime {
    type JoinError = Gone;
    type JoinHandle<T: OptionalSend + 'static> = Joined<T>;
    type Sleep = Sleep;
    type Instant = Local;
    type TimeoutError = TooLate;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = <SimRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <SimRuntime as AsyncRuntime>::Mpsc;
    type Watch = <SimRuntime as AsyncRuntime>::Watch;
    type Oneshot = <SimRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <SimRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Joined<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let (done, joined) = oneshot::channel();
        spawn(async move { drop(done.send(future.await)) });
        Joined(joined)
    }

    fn sleep(duration: Duration) -> Sleep {
        Sleep::until(time::now_here() + duration)
    }

    fn sleep_until(deadline: Local) -> Sleep {
        Sleep::until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Timeout<F> {
        Timeout::new(future, Self::sleep(duration))
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Local,
        future: F,
    ) -> Timeout<F> {
        Timeout::new(future, Sleep::until(deadline))
    }

    fn is_panic(_: &Gone) -> bool {
        false
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        SimRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(SimRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    async fn spawn_blocking<F, T>(_: F) -> Result<T, io::Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "nothing blocks in virtual time",
        ))
    }
}
