//! Methods, headers, parameters and states that a route asks for.

use std::rc::Rc;

use orchestrator_policy::config::{Node, Table};
use orchestrator_policy::{Circuit, Health};
use regex_lite::{Regex, RegexBuilder};

use super::values::{is_token, read_header_name};
use super::{Reader, optional};
use crate::asked::Source;
use crate::condition::{Condition, State, Test};
use crate::method::{KNOWN, Methods};
use crate::table::Names;

/// Of one route.
const CONDITIONS_MAX: usize = 32;
const VALUE_BYTES_MAX: usize = 1024;
/// A pattern's work grows with its size: together with the longest value that is matched, this keeps
/// the worst of them within a few milliseconds.
const PATTERN_BYTES_MAX: usize = 256;
const PATTERN_COMPILED_BYTES_MAX: usize = 16 << 10;
const PATTERN_NESTED_MAX: u32 = 32;

const STATES: [(&str, State); 7] = [
    ("closed", State::Circuit(Circuit::Closed)),
    ("half_open", State::Circuit(Circuit::HalfOpen)),
    ("open", State::Circuit(Circuit::Open)),
    ("healthy", State::Health(Health::Healthy)),
    ("degraded", State::Health(Health::Degraded)),
    ("unhealthy", State::Health(Health::Unhealthy)),
    ("unknown", State::Health(Health::Unknown)),
];

pub(super) fn read_methods(node: &Node<'_>) -> Option<Methods> {
    let nodes = node.list()?;
    let methods: Vec<String> = nodes.iter().filter_map(read_method).collect();
    if methods.len() < nodes.len() {
        return None;
    }
    if methods.is_empty() {
        node.report_with("an empty list takes no method", "leave `methods` out to take any");
        return None;
    }
    Some(Methods::of(methods))
}

fn read_method(node: &Node<'_>) -> Option<String> {
    let method = node.text()?;
    let upper = method.to_ascii_uppercase();
    if !is_token(method) {
        node.report(format!("`{method}` is not a method"));
    } else if KNOWN.contains(&upper.as_str()) && method != upper {
        node.report_with("methods are case-sensitive", format!("write {upper:?}"));
    } else {
        return Some(method.to_owned());
    }
    None
}

impl<'a> Reader<'a> {
    /// All of them; none where one is wrong.
    pub(super) fn conditions(&mut self, table: &Table<'a>) -> Option<Vec<Condition>> {
        let headers = optional(table, "headers", |node| self.values(node, true));
        let query = optional(table, "query", |node| self.values(node, false));
        let states = optional(table, "when", |node| self.states(node));
        let mut conditions = headers?.unwrap_or_default();
        conditions.extend(query?.unwrap_or_default());
        conditions.extend(states?.unwrap_or_default());
        if conditions.len() > CONDITIONS_MAX {
            table.node().report(format!("a route has at most {CONDITIONS_MAX} conditions"));
            return None;
        }
        Some(conditions)
    }

    fn values(&mut self, node: &Node<'a>, of_headers: bool) -> Option<Vec<Condition>> {
        all(node, |name, node| {
            let source = match of_headers {
                true => {
                    let name = read_header_name(node, name)?;
                    Source::Header(Names::place_of(&mut self.names.headers, &name))
                }
                false => Source::Query(Names::place_of(&mut self.names.queries, name)),
            };
            Some(Condition::Value(source, self.test(node)?))
        })
    }

    fn test(&mut self, node: &Node<'a>) -> Option<Test> {
        if node.is_text() {
            return read_exact(node);
        }
        let table = node.table(&["exact", "present", "regex"])?;
        match (table.get("exact"), table.get("present"), table.get("regex")) {
            (Some(exact), None, None) => read_exact(&exact),
            (None, Some(present), None) => {
                Some(if present.truth()? { Test::Present } else { Test::Absent })
            }
            (None, None, Some(regex)) => self.regex(&regex).map(Test::Regex),
            // What else it has was reported.
            (None, None, None) if table.names().next().is_some() => None,
            _ => {
                node.report_with(
                    "a value is asked for in one way",
                    "write text, or one of `{ present = true }`, `{ present = false }` and \
                     `{ regex = \"…\" }`",
                );
                None
            }
        }
    }

    fn regex(&mut self, node: &Node<'a>) -> Option<Rc<Regex>> {
        let pattern = node.text()?;
        if let Some(regex) = self.patterns.get(pattern) {
            return Some(regex.clone());
        }
        if pattern.len() > PATTERN_BYTES_MAX {
            node.report(format!("a pattern has at most {PATTERN_BYTES_MAX} bytes"));
            return None;
        }
        let build = |pattern: &str| {
            RegexBuilder::new(pattern)
                .size_limit(PATTERN_COMPILED_BYTES_MAX)
                .nest_limit(PATTERN_NESTED_MAX)
                .build()
        };
        // By itself first: `a)|(b` is none, whatever is put around it.
        match build(pattern).and_then(|_| build(&format!("^(?:{pattern})$"))) {
            Ok(regex) => {
                let regex = Rc::new(regex);
                self.patterns.insert(pattern, regex.clone());
                Some(regex)
            }
            Err(error) => {
                node.report_with(
                    format!("`{}` is not a pattern: {error}", pattern.escape_debug()),
                    "the syntax is that of Rust's `regex-lite`; in TOML, single quotes keep \
                     backslashes as they are",
                );
                None
            }
        }
    }

    fn states(&self, node: &Node<'a>) -> Option<Vec<Condition>> {
        all(node, |name, node| {
            let service = self.service(node, name)?;
            let word = node.one_of(&STATES.map(|(word, _)| word), "a state of a service")?;
            let (_, state) = STATES.iter().find(|(known, _)| *known == word)?;
            Some(Condition::State(service, *state))
        })
    }
}

/// What becomes of each field of a table; none where one is wrong, after all were read.
fn all<'a, T>(
    node: &Node<'a>,
    mut read: impl FnMut(&'a str, &Node<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let table = node.map()?;
    let fields = table.names().filter_map(|name| Some((name, table.get(name)?)));
    let read: Vec<Option<T>> = fields.map(|(name, node)| read(name, &node)).collect();
    read.into_iter().collect()
}

fn read_exact(node: &Node<'_>) -> Option<Test> {
    let value = node.text()?;
    if value.len() > VALUE_BYTES_MAX {
        node.report(format!("a value has at most {VALUE_BYTES_MAX} bytes"));
        return None;
    }
    Some(Test::Exact(value.as_bytes().into()))
}
