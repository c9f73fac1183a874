//! Timers of the request's path: set seldom, looked at often.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is moved seldom: while its deadline only goes further away, it wakes early, finds
/// that out and goes on. That saves the timer wheel two visits per request.
#[derive(Debug, Default)]
pub(crate) struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    pub(crate) fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Keeps the timer running without waiting for anything: the task is woken within `interval`.
    /// `anew`: what it was set to before may be later than that.
    pub(super) fn keep_running(&mut self, interval: Duration, anew: bool, cx: &mut Context<'_>) {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(interval)));
        if anew {
            sleep.as_mut().reset(Instant::now() + interval);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            sleep.as_mut().reset(Instant::now() + interval);
        }
    }
}

/// A timer that the exchanges of one connection share, one after the other.
#[derive(Debug, Default)]
pub(crate) struct ConnectionTimer(RefCell<LazyTimer>);

impl ConnectionTimer {
    pub(crate) fn poll_until(&self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        self.0.borrow_mut().poll_until(deadline, cx)
    }
}
