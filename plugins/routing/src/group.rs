//! Which of the routes for one host and path takes a request? They differ in methods and conditions.

use orchestrator_policy::collections::HashMap;

use crate::Route;
use crate::asked::{Asked, Source};
use crate::condition::{Condition, Test};
use crate::pattern::Rank;

/// A shorter list is looked through as quickly as an index.
const SPLIT_MIN: usize = 16;

/// A range of the routes, in the order of precedence.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) rank: Rank,
    pub(crate) start: u32,
    pub(crate) end: u32,
    split: Option<Box<Split>>,
}

/// The routes of a large group, told apart by one value that most of them want exactly: a tenant's
/// header, say.
#[derive(Debug)]
struct Split {
    source: Source,
    by_value: HashMap<Box<[u8]>, Vec<u32>>,
    rest: Vec<u32>,
}

impl Group {
    pub(crate) fn new(rank: Rank, start: usize) -> Group {
        Group { rank, start: start as u32, end: start as u32, split: None }
    }

    /// Builds the index, where it is worth one.
    pub(crate) fn split(&mut self, routes: &[Route]) {
        let of_group = &routes[self.start as usize..self.end as usize];
        if of_group.len() < SPLIT_MIN {
            return;
        }
        let mut counts: HashMap<Source, usize> = HashMap::default();
        for (source, _) in of_group.iter().flat_map(Route::exact_values) {
            *counts.entry(source).or_default() += 1;
        }
        // The name decides a tie, not the map's order.
        let most = counts.into_iter().max_by_key(|(source, count)| (*count, *source));
        let Some((source, _)) = most else { return };
        let mut split = Split { source, by_value: HashMap::default(), rest: Vec::new() };
        for (route, place) in of_group.iter().zip(self.start..) {
            match route.exact_values().find(|(of, _)| *of == source) {
                Some((_, value)) => split.by_value.entry(value.into()).or_default().push(place),
                None => split.rest.push(place),
            }
        }
        self.split = Some(Box::new(split));
    }

    /// The first route that takes the request. Without one, those that would but for the method are
    /// added to `refusing`.
    pub(crate) fn find<'a>(
        &self,
        routes: &'a [Route],
        asked: &Asked<'_>,
        services: &[String],
        refusing: &mut Vec<&'a Route>,
    ) -> Option<&'a Route> {
        let holds = |route: &&Route| {
            route.conditions.iter().all(|condition| condition.holds(asked, services))
        };
        let takes = |route: &&Route| route.methods.any() || route.methods.take(asked.method());
        let Some(split) = &self.split else {
            let routes = &routes[self.start as usize..self.end as usize];
            let found = routes.iter().find(|route| takes(route) && holds(route));
            if found.is_none() {
                refusing.extend(routes.iter().filter(|route| !takes(route) && holds(route)));
            }
            return found;
        };
        let with_value = asked.with_value(split.source, |value| split.by_value.get(value?));
        let candidates = || {
            let with_value = with_value.map(Vec::as_slice).unwrap_or_default();
            merge(with_value, &split.rest).map(|place| &routes[place as usize])
        };
        let found = candidates().find(|route| takes(route) && holds(route));
        if found.is_none() {
            refusing.extend(candidates().filter(|route| !takes(route) && holds(route)));
        }
        found
    }
}

/// Two sorted lists as one.
fn merge<'a>(mut one: &'a [u32], mut other: &'a [u32]) -> impl Iterator<Item = u32> + use<'a> {
    std::iter::from_fn(move || {
        let from = match (one.first(), other.first()) {
            (Some(a), Some(b)) if a > b => &mut other,
            (None, _) => &mut other,
            _ => &mut one,
        };
        let (first, rest) = from.split_first()?;
        *from = rest;
        Some(*first)
    })
}

impl Route {
    /// What comes first among the routes of a group: one for some methods, then the most headers,
    /// parameters and states.
    pub(crate) fn precedence(&self) -> [usize; 4] {
        let count = |of: fn(&Condition) -> bool| self.conditions.iter().filter(|c| of(c)).count();
        [
            usize::from(self.methods.any()),
            usize::MAX - count(|c| matches!(c, Condition::Value(Source::Header(_), _))),
            usize::MAX - count(|c| matches!(c, Condition::Value(Source::Query(_), _))),
            usize::MAX - count(|c| matches!(c, Condition::State(..))),
        ]
    }

    fn exact_values(&self) -> impl Iterator<Item = (Source, &[u8])> {
        self.conditions.iter().filter_map(|condition| match condition {
            Condition::Value(source, Test::Exact(value)) => Some((*source, &**value)),
            _ => None,
        })
    }
}
