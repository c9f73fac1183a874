use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// How often each endpoint is picked in `rounds`, by what `pick` does with a random number.
fn picks(count: usize, rounds: usize, pick: impl Fn(u64) -> Option<usize>) -> Vec<usize> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut picks = vec![0; count];
    for _ in 0..rounds {
        picks[pick(random.u64(..)).expect("there are endpoints")] += 1;
    }
    picks
}

fn p2c_picks(known: &[(u32, u32)], rounds: usize) -> Vec<usize> {
    let of = EndpointSet::first(known.len());
    picks(known.len(), rounds, |random| p2c(of, |i| known[i].0, |i| known[i].1, random))
}

/// Whether each share is within a twentieth of what `weights` say.
fn assert_shares(picks: &[usize], weights: &[u32]) {
    let (all, weight): (usize, u32) = (picks.iter().sum(), weights.iter().sum());
    for (share, of) in picks.iter().zip(weights) {
        let fair = all as f64 * f64::from(*of) / f64::from(weight);
        assert!((0.95 * fair..1.05 * fair).contains(&(*share as f64)), "{picks:?} for {weights:?}");
    }
}

#[test]
fn none_of_none_and_the_one_of_one() {
    let (none, one) = (EndpointSet::default(), EndpointSet::from_iter([200]));
    let turns = RoundRobin::new(256);
    for (of, expected) in [(none, None), (one, Some(200))] {
        for number in [0, 1, u64::MAX] {
            assert_eq!(random(of, |_| 3, number), expected);
            assert_eq!(p2c(of, |_| 3, |_| u32::MAX, number), expected);
            assert_eq!(turns.next(of, |_| 3), expected);
            assert_eq!(consistent_hash(of, |_| 3, |_| u32::MAX, |i| i as u64, number), expected);
        }
    }
}

#[test]
fn all_256_endpoints_are_picked_by_each_of_the_four() {
    let of = EndpointSet::first(256);
    let turns = RoundRobin::new(256);
    let identity = |i: usize| stable_hash(format!("http://10.0.0.{i}:80").as_bytes());
    for picks in [
        picks(256, 25_600, |number| random(of, |_| 1, number)),
        picks(256, 25_600, |number| p2c(of, |_| 1, |_| 0, number)),
        picks(256, 25_600, |_| turns.next(of, |_| 1)),
        picks(256, 25_600, |number| consistent_hash(of, |_| 1, |_| 0, identity, number)),
    ] {
        assert!(picks.iter().all(|count| (40..170).contains(count)), "{picks:?}");
    }
}

mod lot {
    use super::*;

    #[test]
    fn as_often_as_the_weights_say() {
        for weights in [&[1, 1][..], &[1, 3], &[5, 1, 1, 3], &[1000, 1000, 500]] {
            let of = EndpointSet::first(weights.len());
            let picks = picks(weights.len(), 100_000, |number| random(of, |i| weights[i], number));
            assert_shares(&picks, weights);
        }
    }
}

mod of_two {
    use super::*;

    #[test]
    fn always_the_less_busy() {
        assert_eq!(p2c_picks(&[(1, 3), (1, 2)], 1_000), [0, 1_000]);
        assert_eq!(p2c_picks(&[(1, 2), (1, 3)], 1_000), [1_000, 0]);
    }

    #[test]
    fn busy_is_relative_to_the_weight() {
        assert_eq!(p2c_picks(&[(3, 5), (1, 2)], 1_000), [1_000, 0]);
        assert_eq!(p2c_picks(&[(3, 7), (1, 2)], 1_000), [0, 1_000]);
    }

    #[test]
    fn equally_busy_ones_share_as_their_weights_say() {
        assert_shares(&p2c_picks(&[(1, 4); 5], 100_000), &[1; 5]);
        assert_shares(&p2c_picks(&[(3, 0), (1, 0)], 100_000), &[3, 1]);
        assert_shares(&p2c_picks(&[(3, 6), (1, 2)], 100_000), &[3, 1]);
    }

    #[test]
    fn one_idle_endpoint_gets_each_pair_that_it_is_in() {
        // With four candidates it is in half of the pairs.
        let picks = p2c_picks(&[(1, 9), (1, 9), (1, 0), (1, 9)], 30_000);
        assert!((14_500..15_500).contains(&picks[2]), "{picks:?}");
    }
}

mod in_turn {
    use super::*;

    fn turns(weights: &[u32], rounds: usize) -> Vec<usize> {
        let turns = RoundRobin::new(weights.len());
        let of = EndpointSet::first(weights.len());
        (0..rounds).map(|_| turns.next(of, |i| weights[i]).unwrap()).collect()
    }

    #[test]
    fn one_after_the_other() {
        assert_eq!(turns(&[1, 1, 1], 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn a_heavy_ones_turns_are_spread_among_the_others() {
        assert_eq!(turns(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn whoever_comes_back_does_not_catch_up() {
        let turns = RoundRobin::new(2);
        let (both, first) = (EndpointSet::first(2), EndpointSet::first(1));
        for _ in 0..1_000 {
            assert_eq!(turns.next(first, |_| 1), Some(0));
        }
        let next: Vec<_> = (0..4).map(|_| turns.next(both, |_| 1).unwrap()).collect();
        assert_eq!(next, [0, 1, 0, 1]);
    }
}

mod by_key {
    use super::*;

    const KEYS: u64 = 20_000;

    fn identity(i: usize) -> u64 {
        stable_hash(format!("http://10.0.0.{i}:8080").as_bytes())
    }

    fn of(set: EndpointSet, weights: &[u32], key: u64) -> usize {
        let key = stable_hash(&key.to_be_bytes());
        consistent_hash(set, |i| weights[i], |_| 0, identity, key).unwrap()
    }

    #[test]
    fn keys_are_spread_as_the_weights_say() {
        for weights in [&[1, 1, 1][..], &[1, 3], &[2, 1, 1]] {
            let set = EndpointSet::first(weights.len());
            let mut picks = vec![0; weights.len()];
            (0..KEYS).for_each(|key| picks[of(set, weights, key)] += 1);
            assert_shares(&picks, weights);
        }
    }

    #[test]
    fn when_one_goes_away_its_keys_alone_move_and_are_spread() {
        let all = EndpointSet::first(5);
        let left = all.without(EndpointSet::from_iter([2]));
        let mut moved = [0; 5];
        for key in 0..KEYS {
            let (before, after) = (of(all, &[1; 5], key), of(left, &[1; 5], key));
            match before {
                2 => moved[after] += 1,
                before => assert_eq!(before, after),
            }
        }
        moved[2] = moved[0];
        assert!(moved.iter().all(|share| (850..1150).contains(share)), "{moved:?}");
    }

    #[test]
    fn when_a_weight_rises_keys_move_to_it_and_nowhere_else() {
        let set = EndpointSet::first(3);
        for key in 0..KEYS {
            let (before, after) = (of(set, &[2, 2, 1], key), of(set, &[2, 2, 2], key));
            assert!(before == after || after == 2);
        }
    }

    #[test]
    fn a_hash_is_the_same_on_every_machine_and_for_ever() {
        // A fleet that is upgraded one by one must keep its keys where they are.
        assert_eq!(stable_hash(b""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(stable_hash(b"user-1"), 0xc499_b5f8_a721_df58);
    }

    #[test]
    fn a_popular_key_goes_on_to_the_next_endpoint_at_the_bound() {
        let set = EndpointSet::first(4);
        let mut in_flight = [0; 4];
        let key = stable_hash(b"popular");
        for _ in 0..400 {
            let i = consistent_hash(set, |_| 1, |i| in_flight[i], identity, key).unwrap();
            in_flight[i] += 1;
        }
        assert_eq!(in_flight.iter().sum::<u32>(), 400);
        assert_eq!(in_flight.iter().max(), Some(&125), "{in_flight:?}");
    }

    #[test]
    fn a_few_requests_stay_together() {
        let set = EndpointSet::first(4);
        let mut in_flight = [0; 4];
        let key = stable_hash(b"a browser");
        for _ in 0..BOUND_MIN {
            let i = consistent_hash(set, |_| 1, |i| in_flight[i], identity, key).unwrap();
            in_flight[i] += 1;
        }
        assert_eq!(in_flight.iter().max(), Some(&8), "{in_flight:?}");
    }

    #[test]
    fn the_bound_keeps_to_the_weights() {
        let set = EndpointSet::first(2);
        let mut in_flight = [0; 2];
        for key in 0..1_000 {
            let key = stable_hash(&u64::to_be_bytes(key % 3));
            let i = consistent_hash(set, |i| [3, 1][i], |i| in_flight[i], identity, key).unwrap();
            in_flight[i] += 1;
        }
        assert!(in_flight[0] <= 938 && in_flight[1] <= 313, "{in_flight:?}");
    }
}

#[test]
fn few_of_several_are_too_few() {
    for (closed, all, threshold, expected) in [
        (0, 1, 0.25, false),
        (0, 2, 0.25, true),
        (1, 2, 0.25, false),
        (1, 2, 0.5, false),
        (1, 4, 0.25, false),
        (1, 5, 0.25, true),
        (2, 5, 0.25, false),
        (0, 2, 0.0, false),
        (1, 2, 1.0, true),
        (2, 2, 1.0, false),
    ] {
        assert_eq!(panics(closed, all, threshold), expected, "{closed} of {all} with {threshold}");
    }
}

/// The four, as plainly as can be: lists and fractions, nothing packed.
mod model {
    use super::*;

    /// Each endpoint as often as its weight, and the ticket is an index.
    pub(super) fn draw(of: &BTreeMap<usize, (u32, u32)>, bits: u64) -> Option<usize> {
        let tickets: Vec<usize> = of
            .iter()
            .flat_map(|(i, (weight, _))| std::iter::repeat_n(*i, *weight as usize))
            .collect();
        tickets.get(((u128::from(bits) * tickets.len() as u128) >> 32) as usize).copied()
    }

    pub(super) fn p2c(of: &BTreeMap<usize, (u32, u32)>, random: u64) -> Option<usize> {
        let first = draw(of, random >> 32)?;
        let mut others = of.clone();
        others.remove(&first);
        let Some(second) = draw(&others, random & 0xffff_ffff) else { return Some(first) };
        let busyness = |i: usize| f64::from(of[&i].1) / f64::from(of[&i].0);
        Some(if busyness(second) < busyness(first) { second } else { first })
    }

    /// All by luck, then the first that is not beyond its bound.
    pub(super) fn consistent_hash(
        of: &BTreeMap<usize, (u32, u32)>,
        identity: impl Fn(usize) -> u64,
        key: u64,
    ) -> Option<usize> {
        let weights: f64 = of.values().map(|(weight, _)| f64::from(*weight)).sum();
        let under_way: f64 = of.values().map(|(_, load)| f64::from(*load)).sum();
        let mut by_luck: Vec<usize> = of.keys().copied().collect();
        let luck = |i: &usize| unit(mix(key ^ identity(*i))).powf(1.0 / f64::from(of[i].0));
        by_luck.sort_by(|one, other| luck(other).total_cmp(&luck(one)));
        let bound = |i: &usize| {
            let share = 1.25 * (under_way + 1.0) * f64::from(of[i].0) / weights;
            share.ceil().max(8.0)
        };
        by_luck.into_iter().find(|i| f64::from(of[i].1) < bound(i))
    }
}

#[derive(Debug, Clone)]
enum Event {
    /// By which of the four.
    Pick(u8, u64),
    /// A request that is under way ends.
    End(prop::sample::Index),
    /// An endpoint may be tried from now on, or not.
    Toggle(prop::sample::Index),
    Weigh(prop::sample::Index, u32),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let index = any::<prop::sample::Index>;
    let event = prop_oneof![
        12 => (0..4u8, any::<u64>()).prop_map(|(by, number)| Event::Pick(by, number)),
        6 => index().prop_map(Event::End),
        1 => index().prop_map(Event::Toggle),
        1 => (index(), 1..20u32).prop_map(|(i, weight)| Event::Weigh(i, weight)),
    ];
    prop::collection::vec(event, EVENTS)
}

/// Together a million events.
const EVENTS: usize = 400;
const CASES: u32 = 2_500;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn behaves_as_the_models_do(
        mut known in prop::collection::vec((1..20u32, 0..1u32), 1..12),
        places in prop::sample::select(vec![1usize, 17]),
        events in events(),
    ) {
        // Places that are not in a row, and in several words of the set.
        let place = |at: usize| at * places;
        let at = |place: usize| place / places;
        let mut may_be_tried: Vec<bool> = vec![true; known.len()];
        let turns = RoundRobin::new(256);
        let mut credit = vec![0_i64; known.len()];
        let mut under_way = Vec::new();
        let identity = |i: usize| stable_hash(&i.to_be_bytes());
        for event in events {
            let of: BTreeMap<usize, (u32, u32)> = known.iter().enumerate()
                .filter(|(i, _)| may_be_tried[*i])
                .map(|(i, known)| (place(i), *known))
                .collect();
            let set: EndpointSet = of.keys().copied().collect();
            let weight = |i: usize| of[&i].0;
            let load = |i: usize| of[&i].1;
            match event {
                Event::Pick(by, number) => {
                    let (found, expected) = match by {
                        0 => (random(set, weight, number), model::draw(&of, number >> 32)),
                        1 => (p2c(set, weight, load, number), model::p2c(&of, number)),
                        2 => {
                            let all: i64 = of.values().map(|(weight, _)| i64::from(*weight)).sum();
                            for (i, (weight, _)) in &of {
                                credit[at(*i)] += i64::from(*weight);
                            }
                            let most = of.keys().map(|i| credit[at(*i)]).max();
                            let next = of.keys().copied().find(|i| Some(credit[at(*i)]) == most);
                            if let Some(next) = next {
                                credit[at(next)] -= all;
                            }
                            (turns.next(set, weight), next)
                        }
                        _ => (
                            consistent_hash(set, weight, load, identity, number),
                            model::consistent_hash(&of, identity, number),
                        ),
                    };
                    prop_assert_eq!(found, expected, "by {}", by);
                    if let Some(found) = found {
                        known[at(found)].1 += 1;
                        under_way.push(at(found));
                    }
                }
                Event::End(index) if !under_way.is_empty() => {
                    known[under_way.swap_remove(index.index(under_way.len()))].1 -= 1;
                }
                Event::End(_) => {}
                Event::Toggle(index) => {
                    let i = index.index(known.len());
                    may_be_tried[i] = !may_be_tried[i];
                }
                Event::Weigh(index, weight) => {
                    let i = index.index(known.len());
                    known[i].0 = weight;
                }
            }
        }
    }
}
