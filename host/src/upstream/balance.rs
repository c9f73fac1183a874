//! Which of a service's endpoints gets the attempt? Four ways to choose, all pure but for
//! [`RoundRobin`], which remembers whose turn it is.
//!
//! Each is given the endpoints that may be tried, by their places, and looks up what it needs of
//! them: a weight ([`ramped`](super::load::ramped), so that a newcomer's is small), and what is under
//! way. All answer with one of the given endpoints, and with none only where none was given.

use std::cell::Cell;

use super::set::EndpointSet;

/// By lot, each as often as its weight says.
///
/// `random` is uniform over all of `u64`, of which the higher half counts.
pub fn random(of: EndpointSet, weight: impl Fn(usize) -> u32, random: u64) -> Option<usize> {
    draw(of, &weight, random >> 32)
}

/// Of two that are drawn by lot, the one with less under way for its weight; of equally busy ones the
/// first drawn, so that idle endpoints share as their weights say.
///
/// Two random choices come close to the best balance and, unlike always taking the least busy one,
/// do not send every worker to the same endpoint at once. The halves of `random` draw one each.
pub fn p2c(
    of: EndpointSet,
    weight: impl Fn(usize) -> u32,
    load: impl Fn(usize) -> u32,
    random: u64,
) -> Option<usize> {
    let first = draw(of, &weight, random >> 32)?;
    let mut others = of;
    others.remove(first);
    let Some(second) = draw(others, &weight, random & u64::from(u32::MAX)) else {
        return Some(first);
    };
    // One's load for its weight against the other's, without the division.
    let busyness = |one, other| u64::from(load(one)) * u64::from(weight(other));
    Some(if busyness(second, first) < busyness(first, second) { second } else { first })
}

/// The one whose ticket is drawn, where each has as many as its weight.
fn draw(of: EndpointSet, weight: &impl Fn(usize) -> u32, bits: u64) -> Option<usize> {
    let all: u64 = of.iter().map(|endpoint| u64::from(weight(endpoint))).sum();
    // Maps 32 random bits to the tickets by multiplying: off from even by less than `all` in 2^32.
    let mut ticket = (bits * all) >> 32;
    let mut last = None;
    for endpoint in of.iter() {
        let weight = u64::from(weight(endpoint));
        if ticket < weight {
            return Some(endpoint);
        }
        ticket -= weight;
        // A weight that rises between the two looks at it leaves the last one's tickets too few.
        last = Some(endpoint);
    }
    last
}

/// One after the other, those with more weight more often and spread among the others: `a a b a`
/// rather than `a a a b` (nginx's smooth weighted round robin).
///
/// Every worker has its own: turns that all share would be a word that all write.
#[derive(Debug)]
pub struct RoundRobin {
    /// What each endpoint is owed: the highest is next.
    credit: Box<[Cell<i64>]>,
}

impl RoundRobin {
    /// For so many endpoints.
    pub fn new(endpoints: usize) -> RoundRobin {
        RoundRobin { credit: (0..endpoints).map(|_| Cell::new(0)).collect() }
    }

    /// The next one's turn. Whoever may not be tried keeps its credit and gains none.
    pub fn next(&self, of: EndpointSet, weight: impl Fn(usize) -> u32) -> Option<usize> {
        let (mut all, mut next) = (0, None::<(usize, i64)>);
        for endpoint in of.iter() {
            let weight = i64::from(weight(endpoint));
            let credit = self.credit[endpoint].get() + weight;
            self.credit[endpoint].set(credit);
            all += weight;
            if next.is_none_or(|(_, most)| credit > most) {
                next = Some((endpoint, credit));
            }
        }
        let (endpoint, credit) = next?;
        self.credit[endpoint].set(credit - all);
        Some(endpoint)
    }
}

/// No endpoint of [`consistent_hash`] is too busy with fewer requests under way than this, whatever
/// its share: a browser alone has six, and they belong together.
pub const BOUND_MIN: u64 = 8;

/// The endpoint for a key: always the same one while it may be tried and is not too busy.
///
/// Each endpoint draws lots for the key, the luckiest for its weight gets it (weighted rendezvous
/// hashing): when an endpoint goes away, its keys alone move, spread over the others, and they come
/// back with it. Nothing is built or kept for that. "Too busy" is to have 1.25 times the share in all
/// that is under way (consistent hashing with bounded loads): then the key's next endpoint is taken,
/// so that one popular key does not bring an endpoint down. `identity` is a hash of what the endpoint
/// is, so that all workers, and all gateways with this configuration, choose alike.
pub fn consistent_hash(
    of: EndpointSet,
    weight: impl Fn(usize) -> u32,
    in_flight: impl Fn(usize) -> u32,
    identity: impl Fn(usize) -> u64,
    key: u64,
) -> Option<usize> {
    let (mut all_weights, mut all_in_flight) = (0, 1);
    for endpoint in of.iter() {
        all_weights += u128::from(weight(endpoint));
        all_in_flight += u128::from(in_flight(endpoint));
    }
    let is_busy = |endpoint| {
        let share = 5 * all_in_flight * u128::from(weight(endpoint));
        let bound = share.div_ceil(4 * all_weights.max(1)).max(u128::from(BOUND_MIN));
        u128::from(in_flight(endpoint)) >= bound
    };
    // Exponentially distributed with the weight as its rate: the shortest wait wins, and wins as
    // often as the weight says.
    let wait = |endpoint| -unit(mix(key ^ identity(endpoint))).ln() / f64::from(weight(endpoint));
    // Somebody is not too busy, for all the bounds together are more than all that is under way;
    // but the counts move while they are read.
    let free = luckiest(of.iter().filter(|endpoint| !is_busy(*endpoint)), wait);
    free.or_else(|| luckiest(of.iter(), wait))
}

fn luckiest(of: impl Iterator<Item = usize>, wait: impl Fn(usize) -> f64) -> Option<usize> {
    let waits = of.map(|endpoint| (endpoint, wait(endpoint)));
    waits.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(endpoint, _)| endpoint)
}

/// Above 0 and at most 1.
fn unit(hash: u64) -> f64 {
    ((hash >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// A hash that stays the same from version to version and machine to machine, as no hasher of the
/// standard library promises: FNV-1a, mixed. Whoever chooses keys to meet on one endpoint is what
/// the bound on loads is for.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Every bit of the result depends on every bit of `x` (the finaliser of SplitMix64).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Whether so few of several endpoints are well that open circuits are passed over: see
/// `panic_threshold` in [`config::Service`](crate::config::Service).
pub fn panics(closed: usize, all: usize, threshold: f64) -> bool {
    all > 1 && (closed as f64) < threshold * all as f64
}

#[cfg(test)]
mod tests;
