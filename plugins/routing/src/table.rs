//! Which route takes a request? An index of hosts, and below each a tree of path segments: as quick
//! for ten thousand routes as for three.
//!
//! Routes with the same host and path are a [`Group`]. All routes lie in one list, sorted by
//! precedence, so that a group is a range of it and the number of a group is its precedence.

use orchestrator_policy::collections::HashMap;

use crate::Route;
use crate::asked::Asked;
use crate::group::Group;
use crate::pattern::{Pattern, Segment, next_segment};

const NONE: u32 = u32::MAX;
/// What DNS allows; a longer host is none that a route could name.
const HOST_BYTES_MAX: usize = 255;

/// All routes, and where to find those of a request.
#[derive(Debug, Default)]
pub(crate) struct Table {
    routes: Vec<Route>,
    groups: Vec<Group>,
    hosts: Hosts,
    nodes: Vec<Node>,
}

/// A route that was read, and where it belongs.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) host: Host,
    pub(crate) pattern: Pattern,
    pub(crate) route: Route,
}

/// Which hosts a route takes: in lower case, without a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    Any,
    Exact(String),
    /// `*.example.org`, without the `*.`: any name below this one.
    Below(String),
}

/// The names of headers and parameters that routes look at.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) headers: Vec<Box<str>>,
    pub(crate) queries: Vec<Box<str>>,
}

/// The roots of the paths' trees.
#[derive(Debug, Default)]
struct Hosts {
    exact: HashMap<Box<str>, u32>,
    below: HashMap<Box<str>, u32>,
    /// The most labels that a name in `below` has.
    labels_max: usize,
    any: Option<u32>,
}

/// One segment of a path, by its place among the nodes.
#[derive(Debug)]
struct Node {
    children: HashMap<Box<str>, u32>,
    any: u32,
    /// The group of the path that ends here, and of the prefix.
    whole: u32,
    prefix: u32,
}

/// What the routes come to.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    Route(&'a Route),
    /// The path is there, and these of its routes take other methods.
    OtherMethods(Vec<&'a Route>),
    Nothing,
}

impl Table {
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        let mut table = Table::default();
        // A number for each group, in the order in which they turn up, and what sorts it.
        let mut keys = Vec::new();
        let mut sorted: Vec<(u32, Route)> = Vec::with_capacity(entries.len());
        for Entry { host, pattern, route } in entries {
            let root = table.root(&host);
            let node = table.descend(root, &pattern.segments);
            let node = &mut table.nodes[node as usize];
            let slot = if pattern.prefix { &mut node.prefix } else { &mut node.whole };
            if *slot == NONE {
                *slot = keys.len() as u32;
                keys.push((host.precedence(), pattern.rank()));
            }
            sorted.push((*slot, route));
        }
        // Stable: the order of the list remains among equals.
        sorted.sort_by_cached_key(|(group, route)| {
            (keys[*group as usize], *group, route.precedence())
        });

        let mut numbers = vec![NONE; keys.len()];
        let mut routes: Vec<Route> = Vec::with_capacity(sorted.len());
        for (group, route) in sorted {
            let number = &mut numbers[group as usize];
            if *number == NONE {
                *number = table.groups.len() as u32;
                table.groups.push(Group::new(keys[group as usize].1, routes.len()));
            }
            routes.push(route);
            table.groups[*number as usize].end = routes.len() as u32;
        }
        for node in &mut table.nodes {
            for slot in [&mut node.whole, &mut node.prefix] {
                if *slot != NONE {
                    *slot = numbers[*slot as usize];
                }
            }
        }
        table.routes = routes;
        for group in &mut table.groups {
            group.split(&table.routes);
        }
        table
    }

    fn root(&mut self, host: &Host) -> u32 {
        let new = self.nodes.len() as u32;
        let root = match host {
            Host::Any => *self.hosts.any.get_or_insert(new),
            Host::Exact(name) => *self.hosts.exact.entry(name.as_str().into()).or_insert(new),
            Host::Below(name) => {
                self.hosts.labels_max = self.hosts.labels_max.max(labels(name));
                *self.hosts.below.entry(name.as_str().into()).or_insert(new)
            }
        };
        self.node_at(root)
    }

    fn descend(&mut self, root: u32, segments: &[Segment]) -> u32 {
        let mut at = root;
        for segment in segments {
            let new = self.nodes.len() as u32;
            let node = &mut self.nodes[at as usize];
            let next = match segment {
                Segment::Literal(text) => match node.children.get(text.as_str()) {
                    Some(next) => *next,
                    None => {
                        node.children.insert(text.as_str().into(), new);
                        new
                    }
                },
                Segment::Any => {
                    if node.any == NONE {
                        node.any = new;
                    }
                    node.any
                }
            };
            at = self.node_at(next);
        }
        at
    }

    /// This node, made where it is the next.
    fn node_at(&mut self, at: u32) -> u32 {
        if at as usize == self.nodes.len() {
            let children = HashMap::default();
            self.nodes.push(Node { children, any: NONE, whole: NONE, prefix: NONE });
        }
        at
    }

    /// The first route, by precedence, that takes the request; and where the path has routes that
    /// would but for the method, none that is for a less specific path.
    pub(crate) fn find(&self, asked: &Asked<'_>, services: &[String]) -> Found<'_> {
        // `*`, the path of `OPTIONS *`, is below no prefix, not even `/`.
        if !asked.path.starts_with('/') {
            return Found::Nothing;
        }
        let mut refusing: Vec<&Route> = Vec::new();
        let mut least = None;
        let found = self.hosts.roots(asked, |root| {
            let mut from = 0;
            loop {
                let number = self.first(root, &asked.path, from);
                let group = self.groups.get(number as usize)?;
                if least.is_some_and(|least| group.rank > least) {
                    return None;
                }
                if let Some(route) = group.find(&self.routes, asked, services, &mut refusing) {
                    return Some(route);
                }
                if !refusing.is_empty() {
                    least.get_or_insert(group.rank);
                }
                from = number + 1;
            }
        });
        match found {
            Some(route) => Found::Route(route),
            None if refusing.is_empty() => Found::Nothing,
            None => Found::OtherMethods(refusing),
        }
    }

    /// The first group from this number on whose path takes the rest of the request's, in the tree
    /// below a node; `NONE` without one. Recursive: its depth is the configuration's, never the
    /// request's.
    fn first(&self, node: u32, rest: &str, from: u32) -> u32 {
        let node = &self.nodes[node as usize];
        let or_none = |group| if group >= from { group } else { NONE };
        let mut first = or_none(node.prefix);
        match next_segment(rest) {
            None => first = first.min(or_none(node.whole)),
            Some((segment, rest)) => {
                if let Some(child) = node.children.get(segment) {
                    first = first.min(self.first(*child, rest, from));
                }
                if node.any != NONE && !segment.is_empty() {
                    first = first.min(self.first(node.any, rest, from));
                }
            }
        }
        first
    }
}

impl Hosts {
    /// Visits the roots for the request's host, the most specific first, until there is an answer.
    fn roots<T>(&self, asked: &Asked<'_>, mut visit: impl FnMut(u32) -> Option<T>) -> Option<T> {
        if !self.exact.is_empty() || !self.below.is_empty() {
            let host = asked.host();
            if host.len() <= HOST_BYTES_MAX {
                let exact = self.exact.get(host).and_then(|root| visit(*root));
                if exact.is_some() {
                    return exact;
                }
                let mut left = if self.below.is_empty() { 0 } else { labels(host) };
                let mut name = host;
                while left > 1 {
                    left -= 1;
                    // Labels are short: a search made for long texts takes longer.
                    let dot = name.bytes().position(|byte| byte == b'.');
                    name = dot.map_or("", |dot| &name[dot + 1..]);
                    if left <= self.labels_max
                        && let Some(root) = self.below.get(name)
                    {
                        let below = visit(*root);
                        if below.is_some() {
                            return below;
                        }
                    }
                }
            }
        }
        self.any.and_then(visit)
    }
}

impl Host {
    /// Exact names come first, then names with `*`, the longer first, then any.
    fn precedence(&self) -> u16 {
        match self {
            Host::Exact(_) => 0,
            Host::Below(name) => u16::MAX - labels(name).min(1000) as u16,
            Host::Any => u16::MAX,
        }
    }
}

impl Names {
    pub(crate) fn header(&self, place: u32) -> &str {
        &self.headers[place as usize]
    }

    pub(crate) fn query(&self, place: u32) -> &str {
        &self.queries[place as usize]
    }

    /// A header's place, which it gets where it has none. Names are few, and sought when configuring.
    pub(crate) fn place_of(names: &mut Vec<Box<str>>, name: &str) -> u32 {
        let place = names.iter().position(|known| **known == *name).unwrap_or_else(|| {
            names.push(name.into());
            names.len() - 1
        });
        place as u32
    }
}

fn labels(name: &str) -> usize {
    name.bytes().filter(|byte| *byte == b'.').count() + 1
}
