//! Who is decided about next by a version whose decisions overrun their ticks.
//!
//! A decision is over within microseconds or is interrupted at the end of its first slice: nobody knows
//! before which of the two it is. Where many of the second sort arrive at once, each would take its first
//! slice before anything else of the worker goes on. So, once one has overrun, decisions begin one by one
//! for a while, with a look at the sockets in between. First those from connections whose last decision was
//! one of the first sort; of them the newest and the oldest in turn, so that a request that came before or
//! behind a burst waits for few of it and not for all.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Fault;

/// So many decisions in a row that do not overrun, and they begin as they come again.
const CALM_AFTER: u32 = 100;

/// That of a worker's instances of one version.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) strain: Arc<Strain>,
    /// The oldest in front; first those that nothing speaks against.
    waiting: [RefCell<VecDeque<oneshot::Sender<Pass>>>; 2],
    dispatching: Cell<bool>,
}

/// Leave to begin. Dropped when the decision does so: only then comes the next one's turn, so that all do
/// not wait for an instance in the order in which they came.
#[derive(Debug)]
pub(super) struct Pass(
    #[expect(dead_code, reason = "its end is what it is for")] oneshot::Sender<()>,
);

/// Counts down from [`CALM_AFTER`] when a decision has overrun. Only its worker touches it.
#[derive(Debug, Default)]
pub(super) struct Strain(AtomicU32);

impl Strain {
    pub(super) fn overran(&self) {
        self.0.store(CALM_AFTER, Relaxed);
    }

    /// Whether one has overrun of late.
    pub(super) fn is_felt(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    /// Notes that another decision begins.
    fn count_down(&self) {
        self.0.store(self.0.load(Relaxed) - 1, Relaxed);
    }
}

impl Gate {
    /// Returns when a decision may begin, about a `suspect` request after all others. Costs one load while none overruns.
    pub(super) async fn pass(
        self: &Rc<Self>,
        suspect: bool,
        patience: Duration,
    ) -> Result<Option<Pass>, Fault> {
        if !self.strain.is_felt() {
            return Ok(None);
        }
        self.strain.count_down();
        let (go, may_go) = oneshot::channel();
        self.waiting[usize::from(suspect)].borrow_mut().push_back(go);
        if !self.dispatching.replace(true) {
            tokio::task::spawn_local(self.clone().dispatch());
        }
        match tokio::time::timeout(patience, may_go).await {
            Ok(pass) => Ok(pass.ok()),
            Err(_) => {
                let text = format!(
                    "others overran their ticks for {patience:?} (its limit is `wall_timeout`)"
                );
                Err(Fault::NoInstance { text, its_own: false })
            }
        }
    }

    /// Lets them begin, until nobody waits.
    async fn dispatch(self: Rc<Self>) {
        let mut newest = false;
        loop {
            newest = !newest;
            let next = self.waiting.iter().find_map(|waiting| match newest {
                true => waiting.borrow_mut().pop_back(),
                false => waiting.borrow_mut().pop_front(),
            });
            let Some(next) = next else { break };
            let (begins, has_begun) = oneshot::channel();
            if next.send(Pass(begins)).is_ok() {
                let _ = has_begun.await; // Nobody sends: its end is the word.
                // It runs, and the worker looks at its sockets, before this goes on.
                tokio::task::yield_now().await;
            }
        }
        self.dispatching.set(false);
    }
}
