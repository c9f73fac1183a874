//! Which routes has a path? A tree of segments: as deep as the longest configured path, however
//! long the request's, and as quick for thousands of routes as for three.

use orchestrator_policy::collections::HashMap;

use crate::Route;

/// All routes, by path.
#[derive(Debug, Default)]
pub(crate) struct Table {
    root: Node,
}

/// A route's path, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Pattern {
    /// This path and no other.
    Exact(String),
    /// This path and all below it. Without a slash at its end: empty for `/`.
    Prefix(String),
}

/// One segment of a path.
#[derive(Debug, Default)]
struct Node {
    exact: Vec<Route>,
    prefix: Vec<Route>,
    children: HashMap<String, Node>,
}

impl Table {
    pub(crate) fn new(routes: Vec<(Pattern, Route)>) -> Self {
        let mut table = Table::default();
        for (pattern, route) in routes {
            let routes = match &pattern {
                Pattern::Exact(path) => &mut table.root.descend(path).exact,
                Pattern::Prefix(path) => &mut table.root.descend(path).prefix,
            };
            routes.push(route);
        }
        table.root.hosts_first();
        table
    }

    /// The routes of the most specific path that takes this one and that the caller accepts.
    pub(crate) fn find(&self, path: &str, accept: impl Fn(&[Route]) -> bool) -> Option<&[Route]> {
        // `*`, the path of `OPTIONS *`, is below no prefix, not even `/`.
        path.starts_with('/').then(|| self.root.find(path, &accept))?
    }
}

impl Node {
    /// The node of a path, made where it is missing. Recursive, like all that follows the tree: its
    /// depth is the configuration's, which `read.rs` limits, never the request's.
    fn descend(&mut self, path: &str) -> &mut Node {
        match next_segment(path) {
            Some((segment, rest)) => {
                self.children.entry(segment.to_owned()).or_default().descend(rest)
            }
            None => self,
        }
    }

    fn hosts_first(&mut self) {
        // Stable: the order of the list remains among equals.
        self.exact.sort_by_key(|route| route.host.is_none());
        self.prefix.sort_by_key(|route| route.host.is_none());
        self.children.values_mut().for_each(Node::hosts_first);
    }

    fn find(&self, rest: &str, accept: &impl Fn(&[Route]) -> bool) -> Option<&[Route]> {
        let below = match next_segment(rest) {
            Some((segment, rest)) => {
                self.children.get(segment).and_then(|child| child.find(rest, accept))
            }
            None => Some(&*self.exact).filter(|routes| accept(routes)),
        };
        below.or_else(|| Some(&*self.prefix).filter(|routes| accept(routes)))
    }
}

/// `/a/b` is `a` and then `/b`; after `/` comes one empty segment, after nothing none.
fn next_segment(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix('/')?;
    Some(path.split_at(path.find('/').unwrap_or(path.len())))
}
