//! Which process a task belongs to: it is frozen, and it dies, with it.

use std::cell::RefCell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use super::Clock;
use crate::lock;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

thread_local! {
    static CURRENT: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

/// A set of tasks on one host that is frozen and killed as a whole. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Scope(Arc<Inner>);

struct Inner {
    label: String,
    clock: Arc<Clock>,
    dead: AtomicBool,
    frozen: AtomicBool,
    parked: Mutex<Vec<Waker>>,
    tasks: Mutex<Vec<Weak<Cell>>>,
    /// Panics of its tasks: always a fault of the product or of the simulator.
    panics: Arc<Mutex<Vec<String>>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.label)
    }
}

/// The future of a task, where a kill can reach it.
struct Cell(Mutex<Option<Work>>);

impl Scope {
    /// A scope without tasks. What its tasks panic with goes to `panics`.
    #[must_use]
    pub(crate) fn new(label: &str, clock: Arc<Clock>, panics: Arc<Mutex<Vec<String>>>) -> Self {
        Self(Arc::new(Inner {
            label: label.to_owned(),
            clock,
            dead: AtomicBool::new(false),
            frozen: AtomicBool::new(false),
            parked: Mutex::default(),
            tasks: Mutex::default(),
            panics,
        }))
    }

    /// The scope of the task that runs now.
    #[must_use]
    pub(crate) fn current() -> Option<Self> {
        CURRENT.with(|current| current.borrow().clone())
    }

    /// The clock of its host.
    #[must_use]
    pub(crate) fn clock(&self) -> &Arc<Clock> {
        &self.0.clock
    }

    /// Whether it was killed.
    #[must_use]
    pub(crate) fn is_dead(&self) -> bool {
        self.0.dead.load(Ordering::Relaxed)
    }

    /// Drops all its tasks where they stand, as `kill -9` does. Nothing of it runs again.
    pub(crate) fn kill(&self) {
        if self.0.dead.swap(true, Ordering::Relaxed) {
            return;
        }
        let tasks = std::mem::take(&mut *lock(&self.0.tasks));
        let _in = Enter::new(self.clone());
        for cell in tasks.iter().filter_map(Weak::upgrade) {
            let work = lock(&cell.0).take();
            drop(work);
        }
        lock(&self.0.parked).clear();
    }

    /// Stops it as SIGSTOP does.
    pub(crate) fn freeze(&self) {
        self.0.frozen.store(true, Ordering::Relaxed);
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.0.frozen.store(false, Ordering::Relaxed);
        let parked = std::mem::take(&mut *lock(&self.0.parked));
        parked.into_iter().for_each(Waker::wake);
    }

    /// Wraps `work` into a task of this scope.
    pub(crate) fn task(&self, work: impl Future<Output = ()> + Send + 'static) -> Task {
        let cell = Arc::new(Cell(Mutex::new(Some(Box::pin(work)))));
        let mut tasks = lock(&self.0.tasks);
        if tasks.len() >= 64 && tasks.len().is_power_of_two() {
            tasks.retain(|task| task.strong_count() > 0);
        }
        tasks.push(Arc::downgrade(&cell));
        Task {
            scope: self.clone(),
            cell,
        }
    }
}

/// A task of a scope, to be given to the executor.
pub(crate) struct Task {
    scope: Scope,
    cell: Arc<Cell>,
}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let inner = &self.scope.0;
        if self.scope.is_dead() {
            return Poll::Ready(());
        }
        if inner.frozen.load(Ordering::Relaxed) {
            lock(&inner.parked).push(cx.waker().clone());
            return Poll::Pending;
        }
        let Some(mut work) = lock(&self.cell.0).take() else {
            return Poll::Ready(());
        };
        let polled = {
            let _in = Enter::new(self.scope.clone());
            std::panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)))
        };
        match polled {
            Ok(Poll::Pending) if !self.scope.is_dead() => {
                *lock(&self.cell.0) = Some(work);
                Poll::Pending
            }
            Ok(Poll::Pending | Poll::Ready(())) => Poll::Ready(()),
            Err(_) => {
                let what = crate::panics::last();
                lock(&inner.panics).push(format!("{} panicked: {what}", inner.label));
                Poll::Ready(())
            }
        }
    }
}

/// While this lives, its scope is the current one.
struct Enter(Option<Scope>);

impl Enter {
    fn new(scope: Scope) -> Self {
        Self(CURRENT.with(|current| current.replace(Some(scope))))
    }
}

impl Drop for Enter {
    fn drop(&mut self) {
        let before = self.0.take();
        CURRENT.with(|current| current.replace(before));
    }
}
