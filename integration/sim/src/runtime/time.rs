//! Instants and timers by a host's own clock.

use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::async_runtime::Instant;
use openraft_rt_sim::{SimRuntime, SimSleep};

use super::{Clock, Scope, true_now};

/// Nanoseconds by the clock of the scope that asks; true time outside of any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Local(pub u64);

pub(super) fn now_here() -> Local {
    Local(Scope::current().map_or_else(true_now, |scope| scope.clock().now()))
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

impl Instant for Local {
    fn now() -> Self {
        now_here()
    }
}

impl Add<Duration> for Local {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

impl AddAssign<Duration> for Local {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

impl Sub<Duration> for Local {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(span)))
    }
}

impl SubAssign<Duration> for Local {
    fn sub_assign(&mut self, span: Duration) {
        *self = *self - span;
    }
}

impl Sub for Local {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Ready once the clock of the scope that made it shows its deadline.
#[derive(Debug)]
pub(crate) struct Sleep {
    deadline: Local,
    clock: Option<Arc<Clock>>,
    inner: Pin<Box<SimSleep>>,
}

impl Sleep {
    pub(super) fn until(deadline: Local) -> Self {
        let clock = Scope::current().map(|scope| scope.clock().clone());
        let inner = Box::pin(arm(clock.as_deref(), deadline));
        Self {
            deadline,
            clock,
            inner,
        }
    }
}

fn arm(clock: Option<&Clock>, deadline: Local) -> SimSleep {
    let left = match clock {
        Some(clock) => clock.until(deadline.0),
        None => deadline.0.saturating_sub(true_now()),
    };
    // Beyond a century nobody waits; the executor's own instant must not overflow.
    SimRuntime::sleep(Duration::from_nanos(left.min(1 << 61)))
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = self.clock.as_deref().map_or_else(true_now, Clock::now);
            if now >= self.deadline.0 {
                return Poll::Ready(());
            }
            if self.inner.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // The clock has slowed down since.
            let again = arm(self.clock.as_deref(), self.deadline);
            self.inner.set(again);
        }
    }
}

/// The deadline has passed.
#[derive(Debug)]
pub(crate) struct TooLate;

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline has passed")
    }
}

/// What a future gives, or that its time is over.
#[derive(Debug)]
pub(crate) struct Timeout<F> {
    future: Pin<Box<F>>,
    sleep: Sleep,
}

impl<F> Timeout<F> {
    pub(super) fn new(future: F, sleep: Sleep) -> Self {
        Self {
            future: Box::pin(future),
            sleep,
        }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, TooLate>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut self.sleep).poll(cx).map(|()| Err(TooLate))
    }
}
