//! A set of a service's endpoints, by their places: bits on the stack, so that nothing on a
//! request's path allocates for it.

use crate::config::ENDPOINTS_MAX;

const WORDS: usize = ENDPOINTS_MAX / u64::BITS as usize;

/// Some of the endpoints of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndpointSet([u64; WORDS]);

impl EndpointSet {
    /// The first `count` places.
    pub fn first(count: usize) -> EndpointSet {
        (0..count).collect()
    }

    pub fn insert(&mut self, endpoint: usize) {
        self.0[endpoint / 64] |= 1 << (endpoint % 64);
    }

    pub fn remove(&mut self, endpoint: usize) {
        self.0[endpoint / 64] &= !(1 << (endpoint % 64));
    }

    pub fn contains(self, endpoint: usize) -> bool {
        self.0[endpoint / 64] & 1 << (endpoint % 64) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == [0; WORDS]
    }

    pub fn len(self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Those of this set that are not in the other.
    #[must_use]
    pub fn without(self, other: EndpointSet) -> EndpointSet {
        EndpointSet(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    /// In the order of their places.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(word, mut bits)| {
            std::iter::from_fn(move || {
                let bit = bits.trailing_zeros() as usize;
                bits &= bits.checked_sub(1)?;
                Some(word * 64 + bit)
            })
        })
    }

    pub(super) fn of_words(words: impl Fn(usize) -> u64) -> EndpointSet {
        EndpointSet(std::array::from_fn(words))
    }

    pub(super) fn words(self) -> [u64; WORDS] {
        self.0
    }
}

impl FromIterator<usize> for EndpointSet {
    fn from_iter<I: IntoIterator<Item = usize>>(endpoints: I) -> EndpointSet {
        let mut set = EndpointSet::default();
        endpoints.into_iter().for_each(|endpoint| set.insert(endpoint));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn is_a_set(
            ops in prop::collection::vec((any::<bool>(), 0..ENDPOINTS_MAX), 0..600),
            others in prop::collection::btree_set(0..ENDPOINTS_MAX, 0..200),
        ) {
            let (mut set, mut model) = (EndpointSet::default(), BTreeSet::new());
            for (add, endpoint) in ops {
                match add {
                    true => { set.insert(endpoint); model.insert(endpoint); }
                    false => { set.remove(endpoint); model.remove(&endpoint); }
                }
                prop_assert_eq!(set.contains(endpoint), add);
            }
            prop_assert_eq!(set.len(), model.len());
            prop_assert_eq!(set.is_empty(), model.is_empty());
            prop_assert!(set.iter().eq(model.iter().copied()));
            let left = set.without(others.iter().copied().collect());
            prop_assert!(left.iter().eq(model.difference(&others).copied()));
        }
    }
}
