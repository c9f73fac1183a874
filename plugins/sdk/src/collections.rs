//! Maps and sets whose order is the same in every instance.
//!
//! The order of std's `HashMap` comes from a random seed and differs from map to map. A policy that
//! iterates over one gives answers that differ between instances, and is refused as impure.
//!
//! The hash is FNV-1a: fast for names and paths, and known to everybody. Do not collect keys that
//! clients choose.

use std::hash::{BuildHasherDefault, Hasher};

/// A `HashMap` with a fixed hasher: make one by `HashMap::default()`.
pub type HashMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Fnv1a>>;

/// A `HashSet` with a fixed hasher: make one by `HashSet::default()`.
pub type HashSet<T> = std::collections::HashSet<T, BuildHasherDefault<Fnv1a>>;

/// The FNV-1a hash with 64 bits.
#[derive(Debug, Clone)]
pub struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Fnv1a(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv1a {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        for (text, hash) in [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c)] {
            let mut hasher = Fnv1a::default();
            hasher.write(text.as_bytes());
            assert_eq!(hasher.finish(), hash, "{text:?}");
        }
    }

    #[test]
    fn two_maps_have_the_same_order() {
        let map = || (0..100).map(|n| (format!("/{n}"), n)).collect::<HashMap<_, _>>();
        assert!(map().into_iter().eq(map()));
    }
}
