//! From the configuration to a list of routes, or to all that is wrong with it.

mod action;
mod conditions;
mod paths;
mod values;

use std::rc::Rc;

use orchestrator_policy::collections::HashMap;
use orchestrator_policy::config::{Document, Node, Table};
use orchestrator_policy::{ConfigError, Setup};
use regex_lite::Regex;

use crate::Route;
use crate::act::hash;
use crate::condition::{Condition, Test};
use crate::pattern::Segment;
use crate::table::{Entry, Host, Names};

pub(crate) const FIELDS: [&str; 22] = [
    "name",
    "host",
    "path",
    "path_prefix",
    "methods",
    "headers",
    "query",
    "when",
    "service",
    "services",
    "redirect",
    "respond",
    "sticky",
    "fallback",
    "affinity",
    "rewrite",
    "rewrite_prefix",
    "timeout",
    "attempt_timeout",
    "body_bytes",
    "request_headers",
    "response_headers",
];
/// What the gateway takes as a route's name.
const NAME_BYTES_MAX: usize = 64;

/// What reading one route needs to know of the whole.
#[derive(Debug)]
struct Reader<'a> {
    services: &'a [String],
    names: Names,
    /// Each pattern once, however many routes have it.
    patterns: HashMap<&'a str, Rc<Regex>>,
}

/// The routes, in the order of the list, and the names of what they look at.
pub(crate) fn routes(setup: &Setup) -> Result<(Vec<Entry>, Names), Vec<ConfigError>> {
    let document = Document::parse(setup.config())?;
    let nodes = document.table(&["routes"]).need("routes").and_then(|node| node.list());
    let nodes = nodes.unwrap_or_default();
    let mut reader = Reader {
        services: setup.services(),
        names: Names::default(),
        patterns: HashMap::default(),
    };
    let mut entries = Vec::with_capacity(nodes.len());
    let mut read: Vec<&Node<'_>> = Vec::with_capacity(nodes.len());
    for node in &nodes {
        if let Some(entry) = reader.route(node) {
            read.push(node);
            entries.push(entry);
        }
    }
    report_unreachable(&entries, &read);
    document
        .finish((entries, reader.names))
        .map_err(|errors| errors.into_iter().map(|error| named(error, &nodes)).collect())
}

impl<'a> Reader<'a> {
    fn route(&mut self, node: &Node<'a>) -> Option<Entry> {
        let table = node.table(&FIELDS)?;
        // Each is read whatever became of the others: all errors are to be found at once.
        let path = paths::read_path(&table);
        let name = optional(&table, "name", read_name);
        let host = optional(&table, "host", paths::read_host);
        let methods = optional(&table, "methods", conditions::read_methods);
        let conditions = self.conditions(&table);
        let action = self.action(&table, path.as_ref());

        let path = path?;
        let (action, response_headers) = action?;
        let route = Route {
            name: match name? {
                Some(name) => name.into(),
                None => default_name(path.text).into(),
            },
            methods: methods?.unwrap_or_default(),
            conditions: conditions?.into(),
            action,
            response_headers: response_headers.into(),
        };
        Some(Entry { host: host?.unwrap_or(Host::Any), pattern: path.pattern, route })
    }
}

/// A field that may be absent: none where it was there and wrong.
fn optional<'a, T>(
    table: &Table<'a>,
    field: &str,
    read: impl FnOnce(&Node<'a>) -> Option<T>,
) -> Option<Option<T>> {
    match table.get(field) {
        Some(node) => read(&node).map(Some),
        None => Some(None),
    }
}

fn read_name<'a>(node: &Node<'a>) -> Option<&'a str> {
    let name = node.text()?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        node.report(format!("a name has 1 to {NAME_BYTES_MAX} bytes, this has {}", name.len()));
    } else if name.contains(char::is_control) {
        node.report("a name has no control characters");
    } else {
        return Some(name);
    }
    None
}

/// The path, cut to what the gateway takes as a name. Paths are ASCII: any byte is a boundary.
fn default_name(path: &str) -> &str {
    &path[..path.len().min(NAME_BYTES_MAX)]
}

/// Reports each route all of whose requests go to an earlier one: with the same host, path and
/// conditions, and methods among the other's.
fn report_unreachable(entries: &[Entry], nodes: &[&Node<'_>]) {
    let mut hashes: Vec<(u64, usize)> =
        entries.iter().enumerate().map(|(index, entry)| (hash(identity(entry)), index)).collect();
    hashes.sort_unstable();
    let mut unreachable = Vec::new();
    for alike in hashes.chunk_by(|(one, _), (other, _)| one == other).filter(|it| it.len() > 1) {
        // Those that no earlier one takes.
        let mut kept: Vec<usize> = Vec::new();
        for (_, index) in alike {
            let route = &entries[*index].route;
            let taken = kept.iter().find(|earlier| {
                let methods = &entries[**earlier].route.methods;
                // A route with methods comes before one for any, wherever it stands.
                route.methods.any() == methods.any()
                    && route.methods.within(methods)
                    && identity(&entries[*index]) == identity(&entries[**earlier])
            });
            match taken {
                Some(earlier) => unreachable.push((*index, *earlier)),
                None if kept.len() < ALIKE_MAX => kept.push(*index),
                None => {}
            }
        }
    }
    unreachable.sort_unstable();
    for (index, earlier) in unreachable {
        nodes[index].report_with(
            format!("no request comes here: {} takes them all", label(nodes[earlier])),
            "remove one of the two, or give them different methods or conditions",
        );
    }
}

/// Routes that differ in nothing but their methods: more than these are not compared.
const ALIKE_MAX: usize = 32;

/// The same bytes for two routes that differ in their methods at the most.
fn identity(Entry { host, pattern, route }: &Entry) -> String {
    let mut parts: Vec<String> = route
        .conditions
        .iter()
        .map(|condition| match condition {
            Condition::Value(source, test) => match test {
                Test::Present => format!("{source:?}+"),
                Test::Absent => format!("{source:?}-"),
                Test::Exact(value) => format!("{source:?}={}", value.escape_ascii()),
                Test::Regex(regex) => format!("{source:?}~{:?}", regex.as_str()),
            },
            Condition::State(service, state) => format!("{service}{state:?}"),
        })
        .collect();
    parts.sort_unstable();
    let mut identity = match host {
        Host::Any => String::new(),
        Host::Exact(name) => name.clone(),
        Host::Below(name) => format!("*.{name}"),
    };
    identity.push(if pattern.prefix { '<' } else { '=' });
    for segment in &pattern.segments {
        identity.push('/');
        match segment {
            Segment::Literal(text) => identity.push_str(text),
            Segment::Any => identity.push_str("{}"),
        }
    }
    for part in parts {
        identity.push('\n');
        identity.push_str(&part);
    }
    identity
}

/// The same error, with the route and the field that it is about.
fn named(error: ConfigError, nodes: &[Node<'_>]) -> ConfigError {
    let tokens: Vec<&str> = error.pointer.trim_end_matches('#').split('/').skip(1).collect();
    let ["routes", index, inside @ ..] = &*tokens else { return error };
    let Some(node) = index.parse().ok().and_then(|index: usize| nodes.get(index)) else {
        return error;
    };
    let mut place = label(node);
    for (depth, token) in inside.iter().enumerate() {
        match (depth, token.parse::<usize>()) {
            (0, _) => place.push_str(&format!(", `{token}")),
            (_, Ok(index)) => place.push_str(&format!("[{index}]")),
            (_, Err(_)) => {
                place.push('.');
                place.push_str(&token.replace("~1", "/").replace("~0", "~"));
            }
        }
    }
    if !inside.is_empty() {
        place.push('`');
    }
    ConfigError { message: format!("{place}: {}", error.message), ..error }
}

/// What a person calls a route: its name, else its place in the list, from 1, and its path.
fn label(node: &Node<'_>) -> String {
    let text = |field: &str| node.peek(field);
    if let Some(name) = text("name").filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX)
    {
        return format!("route `{}`", name.escape_debug());
    }
    let index = node.pointer().rsplit('/').next().and_then(|index| index.parse::<usize>().ok());
    let number = index.map_or(0, |index| index + 1);
    match text("path").or_else(|| text("path_prefix")) {
        Some(path) => format!("route {number} (`{}`)", path.escape_debug()),
        None => format!("route {number}"),
    }
}
