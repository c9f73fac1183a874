//! Which of a service's endpoints gets the attempt? The less busy of two that are drawn by lot.
//!
//! Two random choices come close to the best balance and, unlike always taking the least busy one,
//! do not send every worker to the same endpoint at once.

/// An endpoint that may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The caller's own number for it: what [`p2c`] answers with.
    pub index: usize,
    /// Attempts, bodies and tunnels that are under way there.
    pub in_flight: u32,
}

/// Picks the [`Candidate::index`] of the less busy of two distinct candidates, of equally busy ones
/// the first drawn, so that ties are spread evenly. `None` where there is no candidate.
///
/// `random` is uniform over all of `u64`: its halves draw one candidate each.
pub fn p2c(candidates: &[Candidate], random: u64) -> Option<usize> {
    let several = match candidates {
        [] => return None,
        [only] => return Some(only.index),
        several => several,
    };
    let first = draw(random >> 32, several.len());
    let second = draw(random & u64::from(u32::MAX), several.len() - 1);
    // Drawn from one fewer and moved past the first: distinct, and each pair equally likely.
    let second = if second < first { second } else { second + 1 };
    let (first, second) = (several[first], several[second]);
    let pick = if second.in_flight < first.in_flight { second } else { first };
    Some(pick.index)
}

/// Maps 32 random bits to `0..len` by multiplying, which is off from even by less than `len` in
/// 2^32.
fn draw(bits: u64, len: usize) -> usize {
    (bits.wrapping_mul(len as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidates(in_flight: &[u32]) -> Vec<Candidate> {
        // Indices that are no positions, for a service may hide some of its endpoints.
        let candidate = |(i, &in_flight)| Candidate { index: 10 + 2 * i, in_flight };
        in_flight.iter().enumerate().map(candidate).collect()
    }

    /// How often each candidate is picked in `rounds`.
    fn picks(in_flight: &[u32], rounds: usize) -> Vec<usize> {
        let candidates = candidates(in_flight);
        let mut random = fastrand::Rng::with_seed(7);
        let mut picks = vec![0; in_flight.len()];
        for _ in 0..rounds {
            let index = p2c(&candidates, random.u64(..)).expect("there are candidates");
            picks[(index - 10) / 2] += 1;
        }
        picks
    }

    #[test]
    fn none_of_none_and_the_one_of_one() {
        assert_eq!(p2c(&[], 0), None);
        for random in [0, 1, u64::MAX] {
            assert_eq!(p2c(&candidates(&[u32::MAX]), random), Some(10));
        }
    }

    #[test]
    fn of_two_always_the_less_busy() {
        assert_eq!(picks(&[3, 2], 1_000), [0, 1_000]);
        assert_eq!(picks(&[2, 3], 1_000), [1_000, 0]);
    }

    #[test]
    fn equally_busy_ones_share_evenly() {
        for count in [2, 3, 5, 16] {
            let picks = picks(&vec![4; count], 10_000 * count);
            for share in picks {
                assert!((9_500..10_500).contains(&share), "{share} of 10000");
            }
        }
    }

    #[test]
    fn one_idle_endpoint_gets_each_pair_that_it_is_in() {
        // With four candidates it is in half of the pairs.
        let picks = picks(&[9, 9, 0, 9], 30_000);
        assert!((14_500..15_500).contains(&picks[2]), "{picks:?}");
    }

    proptest! {
        #[test]
        fn the_busiest_is_never_picked_and_every_random_is_fine(
            in_flight in prop::collection::vec(0..100u32, 2..20),
            random: u64,
        ) {
            let mut candidates = candidates(&in_flight);
            candidates.push(Candidate { index: 1, in_flight: 100 });
            let index = p2c(&candidates, random).expect("there are candidates");
            prop_assert_ne!(index, 1);
            prop_assert!(candidates.iter().any(|candidate| candidate.index == index));
        }
    }
}
