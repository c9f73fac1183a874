//! Who is decided about next by a version whose decisions take long.
//!
//! A decision is over within microseconds, or takes much of its first slice and may be interrupted at the end
//! of it: nobody knows before which of the two it is. Where many of the second sort arrive at once, each would
//! have its slice before anything else of the worker goes on. So, once one was long, a tick's worth of them
//! begins at a time, or one where one has overrun, with a look at the sockets in between; and more and more of
//! them, while none is long. First those from connections whose last decision was one of the first sort; of
//! them the newest and the oldest in turn, so that a request that came before or behind a burst waits for few
//! of it and not for all. Then the others as they came: a version may be slow and mean no harm.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Fault;
use super::engine::TICK;
use super::facts::Pace;

/// One is long that ran for so long itself: a worker would make sixty of them between two looks at the sockets.
/// Half of that may be what the machine does meanwhile.
pub(super) const LONG: Duration = Duration::from_micros(250);

/// Who waits for others that are long, and have not overrun, begins after so long in any case.
const PATIENCE: Duration = Duration::from_millis(20);

/// So many decisions in a row that are not long, and they begin as they come again.
const CALM_AFTER: u32 = 100;

/// So many are timed once one seems to have been long.
const TIMED: u32 = 8;

/// So many times as many begin between two looks at the sockets as before the last, where none was long. Each
/// look costs what all who are ready do: of a thousand connections, a fifth of `wall_timeout`.
const MORE: usize = 4;

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

/// Whether decisions are long. Only its worker touches it.
#[derive(Debug, Default)]
pub(super) struct Strain {
    /// Counts down from [`CALM_AFTER`] when one was long.
    calm_in: AtomicU32,
    /// The same when one has overrun.
    overruns_in: AtomicU32,
    /// What the longest took since the last look at the sockets, in microseconds.
    longest_us: AtomicU32,
    /// Counts down from [`TIMED`] when one seems to have been long.
    timed: AtomicU32,
}

impl Strain {
    /// Notes that one met the end of its slice.
    pub(super) fn overran(&self) {
        self.overruns_in.store(CALM_AFTER, Relaxed);
        self.was_long(TICK);
    }

    /// Notes that one ran for so long itself: how it went.
    pub(super) fn ran(&self, time: Duration) -> Pace {
        if time < LONG {
            return Pace::Quick;
        }
        self.was_long(time);
        Pace::Long
    }

    fn was_long(&self, time: Duration) {
        let us = time.as_micros().try_into().unwrap_or(u32::MAX);
        self.calm_in.store(CALM_AFTER, Relaxed);
        self.longest_us.store(self.longest_us.load(Relaxed).max(us), Relaxed);
    }

    /// Notes that one took [`LONG`] by the wall clock, with all that kept it waiting.
    pub(super) fn seems_long(&self) {
        self.timed.store(TIMED, Relaxed);
    }

    /// Whether one was long of late.
    pub(super) fn is_felt(&self) -> bool {
        self.calm_in.load(Relaxed) > 0
    }

    fn some_overran(&self) -> bool {
        self.overruns_in.load(Relaxed) > 0
    }

    /// Whether the decision that begins is to be timed, which costs as much as a small one.
    pub(super) fn take_timed(&self) -> bool {
        let timed = self.timed.load(Relaxed);
        self.timed.store(timed.saturating_sub(1), Relaxed);
        timed > 0 || self.is_felt()
    }

    /// Notes that another decision begins.
    fn count_down(&self) {
        for counter in [&self.calm_in, &self.overruns_in] {
            counter.store(counter.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    /// How many may begin between two looks at the sockets, where those of the last were so many.
    fn take_together(&self, last: usize) -> usize {
        match self.longest_us.swap(0, Relaxed) {
            0 => last.saturating_mul(MORE),
            longest => (TICK.as_micros() as usize / longest as usize).max(1),
        }
    }
}

impl Gate {
    /// Returns when a decision may begin about a request of a connection whose last one went so. Costs one load
    /// while none is long. Where its patience ends it begins in any case; but not after one that overran, while
    /// `others_overrun`.
    pub(super) async fn pass(
        self: &Rc<Self>,
        last: Pace,
        wall_timeout: Duration,
        others_overrun: impl Fn() -> bool,
    ) -> Result<Option<Pass>, Fault> {
        match self.strain.is_felt() {
            false => Ok(None),
            true => Box::pin(self.wait(last, wall_timeout, others_overrun)).await,
        }
    }

    async fn wait(
        self: &Rc<Self>,
        last: Pace,
        wall_timeout: Duration,
        others_overrun: impl Fn() -> bool,
    ) -> Result<Option<Pass>, Fault> {
        let patience = match self.strain.some_overran() {
            true => wall_timeout,
            false => wall_timeout.min(PATIENCE),
        };
        self.strain.count_down();
        let (go, may_go) = oneshot::channel();
        self.waiting[usize::from(last != Pace::Quick)].borrow_mut().push_back(go);
        if !self.dispatching.replace(true) {
            tokio::task::spawn_local(self.clone().dispatch());
        }
        match tokio::time::timeout(patience, may_go).await {
            Ok(pass) => Ok(pass.ok()),
            // That the worker has much to do, too, has kept it waiting, and nothing speaks against it.
            Err(_) if last != Pace::Overran || !others_overrun() => Ok(None),
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
        let mut together = 1;
        let mut begun = Vec::new();
        loop {
            while begun.len() < together {
                newest = !newest;
                let Some(next) = self.next(newest, begun.is_empty()) else { break };
                let (begins, has_begun) = oneshot::channel();
                if next.send(Pass(begins)).is_ok() {
                    begun.push(has_begun);
                }
            }
            if begun.is_empty() {
                break;
            }
            for has_begun in begun.drain(..) {
                let _ = has_begun.await; // Nobody sends: its end is the word.
            }
            // They run, and the worker looks at its sockets, before this goes on.
            tokio::task::yield_now().await;
            together = self.strain.take_together(together);
        }
        self.dispatching.set(false);
    }

    /// Who begins next. Those whose patience has ended are passed over, so that none of them stays here.
    fn next(&self, newest: bool, is_first: bool) -> Option<oneshot::Sender<Pass>> {
        let [unsuspected, others] = &self.waiting;
        let still_waits = |queue: &mut VecDeque<oneshot::Sender<Pass>>, newest| {
            loop {
                let next = if newest { queue.pop_back() } else { queue.pop_front() }?;
                if !next.is_closed() {
                    return Some(next);
                }
            }
        };
        still_waits(&mut unsuspected.borrow_mut(), newest).or_else(|| {
            // One by one where some of them may overrun.
            (is_first || !self.strain.some_overran())
                .then(|| still_waits(&mut others.borrow_mut(), false))
                .flatten()
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::spawn_local;

    use super::*;

    #[test]
    fn what_seemed_long_has_the_next_ones_timed_and_only_one_that_ran_long_has_them_wait() {
        let strain = Strain::default();
        assert!(!strain.take_timed());
        // The machine, or others of the worker, may have kept it.
        strain.seems_long();
        assert_eq!(strain.ran(LONG / 2), Pace::Quick);
        assert!(!strain.is_felt());
        assert!((0..TIMED).all(|_| strain.take_timed()));
        assert!(!strain.take_timed());

        assert_eq!(strain.ran(LONG), Pace::Long);
        for _ in 0..CALM_AFTER {
            assert!(strain.is_felt() && strain.take_timed());
            strain.count_down();
        }
        assert!(!strain.is_felt() && !strain.take_timed());
    }

    #[test]
    fn a_ticks_worth_of_long_ones_begins_and_one_of_those_that_overrun() {
        let strain = Strain::default();
        assert_eq!(strain.take_together(2), 2 * MORE);
        strain.ran(LONG);
        assert_eq!(strain.take_together(1), 4);
        strain.ran(LONG);
        strain.overran();
        assert_eq!(strain.take_together(16), 1);
        assert!(strain.some_overran());
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build_local(tokio::runtime::LocalOptions::default())
            .expect("a runtime");
        runtime.block_on(test);
    }

    const WALL_TIMEOUT: Duration = Duration::from_secs(30);

    #[test]
    fn those_whose_patience_ends_begin_and_leave_nothing_behind() {
        run(async {
            let gate = Rc::new(Gate::default());
            gate.strain.ran(LONG);
            let begin = |last| {
                let gate = gate.clone();
                spawn_local(async move { gate.pass(last, WALL_TIMEOUT, || true).await })
            };
            let held = begin(Pace::Quick).await.expect("it ran").expect("it begins");
            assert!(held.is_some());
            // While that one does not begin, nobody else does, but for the end of their patience.
            let began = tokio::time::Instant::now();
            let kinds = [Pace::Quick, Pace::Long].into_iter().cycle();
            let waiting: Vec<_> = kinds.take(50).map(begin).collect();
            for waits in waiting {
                let pass = waits.await.expect("it ran").expect("nothing speaks against it");
                assert!(pass.is_none());
            }
            assert!((PATIENCE..WALL_TIMEOUT).contains(&began.elapsed()));
            let newer = begin(Pace::Quick);
            tokio::task::yield_now().await;
            drop(held);
            assert!(newer.await.expect("it ran").expect("it begins").is_some());
            while gate.dispatching.get() {
                tokio::task::yield_now().await;
            }
            assert!(gate.waiting.iter().all(|waiting| waiting.borrow().is_empty()));
        });
    }

    #[test]
    fn after_one_that_overran_none_begins_while_others_overrun() {
        run(async {
            let gate = Rc::new(Gate::default());
            gate.strain.overran();
            let pass =
                async |last, others| gate.pass(last, Duration::from_millis(100), || others).await;
            let _held = pass(Pace::Quick, true).await.expect("it begins");
            let refused = pass(Pace::Overran, true).await.expect_err("others overrun");
            assert!(matches!(refused, Fault::NoInstance { its_own: false, .. }));
            assert!(pass(Pace::Overran, false).await.expect("none does").is_none());
            assert!(pass(Pace::Long, true).await.expect("it only was long").is_none());
        });
    }
}
