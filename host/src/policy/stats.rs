//! What one version has decided, and how: counts, times, faults.
//!
//! Each worker writes a tally of its own, as it does with its counters; a fault, which is rare and costs
//! more anyway, may touch what all share.

use std::array;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::Fault;
use crate::telemetry::metrics::FaultReason;

/// Four buckets for each doubling of a nanosecond, up to the largest number.
const BUCKETS: usize = 4 * 64;

/// A version's counts, those of all workers.
#[derive(Debug, Default)]
pub struct Stats {
    workers: Mutex<Vec<Arc<Tally>>>,
    /// The number of the window in the upper half, the faults within it in the lower.
    window: AtomicU64,
    /// The threshold was reached, and nobody has taken note of it.
    crossed: AtomicBool,
    last_fault: ArcSwapOption<String>,
}

/// The counts of one worker, which alone writes them.
#[derive(Debug)]
pub(super) struct Tally {
    times: [AtomicU64; BUCKETS],
    faults: [AtomicU64; FaultReason::WORDS.len()],
}

/// What a version's counts come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    times: Box<[u64; BUCKETS]>,
    /// In the order of [`FaultReason::ALL`].
    pub faults: [u64; FaultReason::WORDS.len()],
}

impl Stats {
    /// Counts for one more worker.
    pub(super) fn tally(&self) -> Arc<Tally> {
        let tally = Arc::new(Tally {
            times: array::from_fn(|_| AtomicU64::new(0)),
            faults: array::from_fn(|_| AtomicU64::new(0)),
        });
        self.workers.lock().expect("nobody panics while holding it").push(tally.clone());
        tally
    }

    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for worker in &*self.workers.lock().expect("nobody panics while holding it") {
            for (sum, count) in summary.times.iter_mut().zip(&worker.times) {
                *sum += count.load(Relaxed);
            }
            for (sum, count) in summary.faults.iter_mut().zip(&worker.faults) {
                *sum += count.load(Relaxed);
            }
        }
        summary
    }

    /// Notes a fault that counts against the version. True for the one that reaches `threshold` within
    /// a window, and no further one of it: windows follow each other, each `window` long.
    pub(crate) fn faulted(&self, fault: &Fault, threshold: u32, window: Duration) -> bool {
        self.last_fault.store(Some(Arc::new(fault.to_string())));
        let now = u64::try_from(since_start().as_nanos() / window.as_nanos().max(1)).unwrap_or(0);
        let number = now << 32;
        let step = |packed: u64| match packed & !0xffff_ffff == number {
            true => packed + 1,
            false => number + 1,
        };
        let before = self.window.fetch_update(Relaxed, Relaxed, |packed| Some(step(packed)));
        let count = step(before.expect("every state has a next one")) & 0xffff_ffff;
        let reached = count == u64::from(threshold);
        if reached {
            self.cross();
        }
        reached
    }

    /// Its faults have reached the threshold, or nothing could be done about that yet.
    pub(crate) fn cross(&self) {
        self.crossed.store(true, Relaxed);
    }

    /// Whether the threshold was reached since this was last asked.
    pub(crate) fn take_crossed(&self) -> bool {
        self.crossed.swap(false, Relaxed)
    }

    /// The text of the last fault that counted against it.
    pub(crate) fn last_fault(&self) -> Option<Arc<String>> {
        self.last_fault.load_full()
    }
}

/// A clock of one's own, so that windows fit into half a word.
fn since_start() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

impl Tally {
    pub(super) fn decided(&self, took: Duration, fault: Option<&Fault>) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        add(&self.times[bucket_of(nanoseconds)]);
        if let Some(fault) = fault {
            add(&self.faults[FaultReason::from(fault) as usize]);
        }
    }
}

/// One writer each: no locked instruction is needed.
fn add(count: &AtomicU64) {
    count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
}

/// The number of the highest bit, and the two bits below it.
fn bucket_of(nanoseconds: u64) -> usize {
    if nanoseconds < 4 {
        return nanoseconds as usize;
    }
    let highest = nanoseconds.ilog2();
    let next_two = nanoseconds >> (highest - 2) & 3;
    4 * (highest as usize - 1) + next_two as usize
}

/// The middle of a bucket.
fn value_of(bucket: usize) -> f64 {
    if bucket < 4 {
        return bucket as f64;
    }
    let (highest, next_two) = (bucket / 4 + 1, bucket % 4);
    2f64.powi(highest as i32 - 2) * (4.5 + next_two as f64)
}

impl Default for Summary {
    fn default() -> Summary {
        Summary { times: Box::new([0; BUCKETS]), faults: Default::default() }
    }
}

impl Summary {
    pub fn decisions(&self) -> u64 {
        self.times.iter().sum()
    }

    /// The time that this part of the decisions did not exceed, within an eighth; none where there were
    /// no decisions.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let all = self.decisions();
        let rank = ((all as f64 * part).ceil() as u64).clamp(1, all.max(1));
        let mut seen = 0;
        let at = self.times.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(Duration::from_nanos(value_of(at) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_near_its_value() {
        let mut last = 0;
        for nanoseconds in (0..2000).chain((11..63).map(|bit| (1 << bit) + (1 << bit) / 3)) {
            let bucket = bucket_of(nanoseconds);
            assert!(bucket < BUCKETS);
            let off = (value_of(bucket) - nanoseconds as f64).abs();
            assert!(off <= 1.0f64.max(nanoseconds as f64 / 8.0), "{nanoseconds}: {bucket}");
            assert!(bucket >= last, "they are in order");
            last = bucket;
        }
        assert!(bucket_of(u64::MAX) < BUCKETS);
    }

    #[test]
    fn quantiles_are_those_of_all_workers() {
        let stats = Stats::default();
        assert_eq!(stats.summary().quantile(0.5), None);
        for (worker, us) in [(stats.tally(), 1), (stats.tally(), 100)] {
            for _ in 0..50 {
                worker.decided(Duration::from_micros(us), None);
            }
        }
        let summary = stats.summary();
        assert_eq!(summary.decisions(), 100);
        let near = |part, us: f64| {
            let found = summary.quantile(part).expect("there are some").as_secs_f64() * 1e6;
            assert!((found / us - 1.0).abs() < 0.13, "{found} is not near {us}");
        };
        near(0.5, 1.0);
        near(0.51, 100.0);
        near(0.99, 100.0);
    }

    #[test]
    fn the_threshold_is_reached_once_in_a_window() {
        let stats = Stats::default();
        let fault = Fault::Trap("unreachable".into());
        let hour = Duration::from_secs(3600);
        let reached: Vec<bool> = (0..8).map(|_| stats.faulted(&fault, 3, hour)).collect();
        assert_eq!(reached.iter().position(|it| *it), Some(2));
        assert_eq!(reached.iter().filter(|it| **it).count(), 1);
        assert_eq!(stats.last_fault().expect("it is kept").as_str(), "trap: unreachable");
        let short = Duration::from_millis(1);
        let stats = Stats::default();
        for _ in 0..5 {
            assert!(!stats.faulted(&fault, 2, short), "each is alone in its window");
            let begun = Instant::now();
            while begun.elapsed() < 2 * short {
                std::hint::spin_loop();
            }
        }
    }
}
