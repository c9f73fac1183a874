//! Which combinations of labels were seen? They come to be as requests bring them, so their number
//! has a bound; what is beyond it is counted all the same, in one place.
//!
//! The worker that owns a table is the only one to add to it. A lookup is a hash and a comparison
//! or two, without a lock; what is found stays where it is for ever, so that `/metrics` can read it
//! from another thread at any time.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};

use super::cells::{Cell, Histogram};

/// Combinations of labels that one worker tells apart in one metric, OpenTelemetry's own default
/// (`otel.metric.overflow` marks the rest).
pub(super) const SERIES_MAX: usize = 2000;

/// Routes that one worker tells apart.
pub(super) const ROUTES_MAX: usize = 1000;

/// At most half full, so that a lookup ends soon.
const SERIES_SLOTS: usize = 4096;
const ROUTE_SLOTS: usize = 2048;

/// OpenTelemetry's advice for durations of HTTP requests, in nanoseconds.
pub(super) const DURATION_BOUNDS: [u64; 14] = {
    const MS: u64 = 1_000_000;
    [
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        75 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        750 * MS,
        1000 * MS,
        2500 * MS,
        5000 * MS,
        7500 * MS,
        10_000 * MS,
    ]
};

pub(super) type Durations = Histogram<{ DURATION_BOUNDS.len() + 1 }>;

/// A histogram for each combination of labels, which is packed into a number other than 0.
#[derive(Debug)]
pub(super) struct Series {
    /// 0: free.
    keys: Box<[AtomicU64]>,
    histograms: Box<[OnceLock<Box<Durations>>]>,
    taken: Cell,
    /// All that came when no more combinations were told apart.
    pub(super) overflow: Durations,
}

impl Series {
    pub(super) fn new() -> Series {
        Series {
            keys: (0..SERIES_SLOTS).map(|_| AtomicU64::new(0)).collect(),
            histograms: (0..SERIES_SLOTS).map(|_| OnceLock::new()).collect(),
            taken: Cell::default(),
            overflow: Durations::default(),
        }
    }

    pub(super) fn observe(&self, key: u64, nanoseconds: u64) {
        self.of(key).observe(&DURATION_BOUNDS, nanoseconds);
    }

    fn of(&self, key: u64) -> &Durations {
        debug_assert_ne!(key, 0);
        // Fibonacci hashing: keys are small numbers side by side, their high bits spread well.
        let mut slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize % SERIES_SLOTS;
        loop {
            match self.keys[slot].load(Acquire) {
                known if known == key => {
                    return self.histograms[slot].get().map_or(&self.overflow, |known| known);
                }
                0 if self.taken.get() == SERIES_MAX as u64 => return &self.overflow,
                0 => {
                    self.taken.add(1);
                    let histogram = self.histograms[slot].get_or_init(Box::default);
                    // Behind the histogram: who sees the key finds it.
                    self.keys[slot].store(key, Release);
                    return histogram;
                }
                _ => slot = (slot + 1) % SERIES_SLOTS,
            }
        }
    }

    /// All combinations so far.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Durations)> {
        self.keys.iter().zip(&self.histograms).filter_map(|(key, histogram)| {
            let key = key.load(Acquire);
            Some((key, &**histogram.get()?)).filter(|_| key != 0)
        })
    }
}

/// The names of routes, which policies make up, as small numbers.
#[derive(Debug)]
pub(super) struct Names {
    /// Where a name is looked for; its place is its number.
    names: Box<[OnceLock<Box<str>>]>,
    taken: Cell,
    hasher: RandomState,
}

impl Names {
    /// The number of requests that have no route's name.
    pub(super) const NONE: u16 = ROUTE_SLOTS as u16;
    /// The number of all names beyond [`ROUTES_MAX`].
    pub(super) const OTHER: u16 = ROUTE_SLOTS as u16 + 1;

    pub(super) fn new() -> Names {
        Names {
            names: (0..ROUTE_SLOTS).map(|_| OnceLock::new()).collect(),
            taken: Cell::default(),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn number(&self, name: Option<&str>) -> u16 {
        let Some(name) = name else { return Names::NONE };
        let mut slot = self.hasher.hash_one(name) as usize % ROUTE_SLOTS;
        loop {
            match self.names[slot].get() {
                Some(known) if **known == *name => return slot as u16,
                Some(_) => slot = (slot + 1) % ROUTE_SLOTS,
                None if self.taken.get() == ROUTES_MAX as u64 => return Names::OTHER,
                None => {
                    self.taken.add(1);
                    self.names[slot].get_or_init(|| name.into());
                    return slot as u16;
                }
            }
        }
    }

    /// Empty for a request without one.
    pub(super) fn name(&self, number: u16) -> &str {
        match number {
            Names::NONE => "",
            Names::OTHER => "(other)",
            _ => self.names[usize::from(number)].get().map_or("", |name| name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_combination_keeps_its_place() {
        let series = Series::new();
        for round in 1..=3 {
            for key in (1..=500).chain([u64::MAX, 1 << 63, 1 << 40]) {
                series.observe(key, 1);
                let (_, found) = series.iter().find(|(known, _)| *known == key).expect("counted");
                assert_eq!(found.buckets.sum(), round, "{key}");
            }
        }
        assert_eq!(series.iter().count(), 503);
        assert_eq!(series.overflow.buckets.sum(), 0);
    }

    #[test]
    fn beyond_the_bound_combinations_are_counted_together() {
        let series = Series::new();
        for key in 1..=10_000 {
            series.observe(key, 5_000_000);
        }
        series.observe(1, 5_000_001);
        assert_eq!(series.iter().count(), SERIES_MAX);
        assert_eq!(series.overflow.buckets.sum(), 10_000 - SERIES_MAX as u64);
        let all: u64 = series.iter().map(|(_, histogram)| histogram.buckets.sum()).sum();
        assert_eq!(all, SERIES_MAX as u64 + 1);
        let (_, first) = series.iter().find(|(key, _)| *key == 1).expect("one of the first");
        let buckets: Vec<_> = first.buckets.0.iter().map(Cell::get).take(3).collect();
        assert_eq!((buckets, first.sum.get()), (vec![1, 1, 0], 10_000_001), "a bound is within");
    }

    #[test]
    fn names_have_numbers_up_to_a_bound() {
        let names = Names::new();
        let first = names.number(Some("first"));
        for number in 1..5000 {
            let number = names.number(Some(&number.to_string()));
            assert!(number == Names::OTHER || names.name(number).parse::<u32>().is_ok());
        }
        assert_eq!(names.number(Some("first")), first);
        assert_eq!(names.name(first), "first");
        assert_eq!(names.name(names.number(Some("5001"))), "(other)");
        assert_eq!(names.name(names.number(None)), "");
        let known =
            (0..5000).filter(|number| names.number(Some(&number.to_string())) < Names::NONE);
        assert_eq!(known.count(), ROUTES_MAX - 1, "and `first`");
    }

    #[test]
    fn what_one_thread_adds_another_reads_whole() {
        let series = std::sync::Arc::new(Series::new());
        let writer = series.clone();
        let writing = std::thread::spawn(move || {
            for round in 0..20_u64 {
                (1..=SERIES_MAX as u64).for_each(|key| writer.observe(key, round));
            }
        });
        let mut seen = 0;
        while !writing.is_finished() {
            let now = series.iter().count();
            assert!(now >= seen, "nothing that was there is gone");
            seen = now;
        }
        writing.join().expect("the writer does not panic");
        assert!(series.iter().all(|(_, histogram)| histogram.buckets.sum() == 20));
    }
}
