//! The words that counting writes: each has one writer, so that none needs a locked instruction.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter with one writer. It wraps after centuries.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    pub(super) fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A counter for each of so many cases.
#[derive(Debug)]
pub(super) struct Cells<const N: usize>(pub(super) [Cell; N]);

impl<const N: usize> Cells<N> {
    pub(super) fn add(&self, at: usize) {
        self.0[at].add(1);
    }

    pub(super) fn sum(&self) -> u64 {
        self.0.iter().map(Cell::get).sum()
    }

    pub(super) fn absorb(&self, others: &Cells<N>) {
        for (sum, other) in self.0.iter().zip(&others.0) {
            sum.add(other.get());
        }
    }
}

impl<const N: usize> Default for Cells<N> {
    fn default() -> Self {
        Cells(array::from_fn(|_| Cell::default()))
    }
}

/// How often a value came to lie in each bucket, and the sum of all values. There is one bucket
/// more than bounds, for what is beyond the last. How many values there were is the buckets' sum,
/// so that the two never disagree.
#[derive(Debug, Default)]
pub(super) struct Histogram<const BUCKETS: usize> {
    pub(super) buckets: Cells<BUCKETS>,
    pub(super) sum: Cell,
}

impl<const BUCKETS: usize> Histogram<BUCKETS> {
    /// A bucket contains its bound.
    pub(super) fn observe(&self, bounds: &[u64], value: u64) {
        debug_assert_eq!(bounds.len() + 1, BUCKETS);
        self.buckets.add(bounds.partition_point(|bound| *bound < value));
        self.sum.add(value);
    }

    pub(super) fn absorb(&self, other: &Histogram<BUCKETS>) {
        self.buckets.absorb(&other.buckets);
        self.sum.add(other.sum.get());
    }
}
