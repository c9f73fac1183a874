//! From the configuration to a list of routes, or to all that is wrong with it.

use orchestrator_policy::collections::HashMap;
use orchestrator_policy::config::{Document, Node, Table};
use orchestrator_policy::{ConfigError, Setup};

use crate::table::Pattern;
use crate::{Rewrite, Route, host_of};

const FIELDS: [&str; 7] =
    ["name", "path", "path_prefix", "host", "methods", "service", "rewrite_prefix"];
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
/// What the gateway takes as a route's name.
const NAME_BYTES_MAX: usize = 64;
/// The table's tree is walked by recursion.
const SEGMENTS_MAX: usize = 64;

/// The routes, in the order of the list.
pub(crate) fn routes(setup: &Setup) -> Result<Vec<(Pattern, Route)>, Vec<ConfigError>> {
    let document = Document::parse(setup.config())?;
    let nodes = document.table(&["routes"]).need("routes").and_then(|node| node.list());
    let mut routes: Vec<(Pattern, Route)> = Vec::new();
    let mut of_path: HashMap<Pattern, Vec<(usize, String)>> = HashMap::default();
    for node in nodes.unwrap_or_default() {
        let Some((pattern, route)) = read_route(&node, setup.services()) else { continue };
        let same_path = of_path.entry(pattern.clone()).or_default();
        let takes_all = |(index, _): &&(usize, String)| takes_all_of(&routes[*index].1, &route);
        if let Some((_, earlier)) = same_path.iter().find(takes_all) {
            node.report_with(
                format!("no request comes here: `{earlier}` has the same path and takes them all"),
                "remove one of the two, or give them different hosts or methods",
            );
        }
        same_path.push((routes.len(), node.pointer().to_owned()));
        routes.push((pattern, route));
    }
    document.finish(routes)
}

/// True when every request for `later`, which has the same path, is taken by `earlier`.
fn takes_all_of(earlier: &Route, later: &Route) -> bool {
    let takes = |method| earlier.methods.contains(method);
    earlier.host == later.host
        && (earlier.methods.is_empty()
            || (!later.methods.is_empty() && later.methods.iter().all(takes)))
}

fn read_route(node: &Node<'_>, services: &[String]) -> Option<(Pattern, Route)> {
    let table = node.table(&FIELDS)?;
    // Each is read whatever became of the others: all errors are to be found at once.
    let pattern = read_pattern(&table);
    let service = table.need("service").and_then(|node| node.one_of(services, "a service"));
    let name = table.get("name").map(|node| read_name(&node));
    let host = table.get("host").map(|node| read_host(&node));
    let methods = table.get("methods").map(|node| read_methods(&node));
    let rewrite = table.get("rewrite_prefix").map(|node| read_rewrite(&node));

    let pattern = pattern?;
    let (Pattern::Exact(path) | Pattern::Prefix(path)) = &pattern;
    let route = Route {
        name: match name {
            Some(name) => name?,
            None => default_name(path),
        },
        service: service?.to_owned(),
        host: match host {
            Some(host) => Some(host?),
            None => None,
        },
        methods: match methods {
            Some(methods) => methods?,
            None => Vec::new(),
        },
        rewrite: match rewrite {
            Some(to) => Some(Rewrite { cut: path.len(), to: to? }),
            None => None,
        },
    };
    Some((pattern, route))
}

fn read_pattern(table: &Table<'_>) -> Option<Pattern> {
    match (table.get("path"), table.get("path_prefix")) {
        (Some(exact), None) => read_path(&exact).map(|path| Pattern::Exact(path.to_owned())),
        (None, Some(prefix)) => {
            read_path(&prefix).map(|path| Pattern::Prefix(without_last_slash(path).to_owned()))
        }
        (Some(_), Some(_)) => {
            table.node().report_with("both `path` and `path_prefix`", "keep one of the two");
            None
        }
        (None, None) => {
            table.node().report_with(
                "neither `path` nor `path_prefix`",
                "add one of the two; `\"path_prefix\": \"/\"` takes every path",
            );
            None
        }
    }
}

/// A path as a request may have it, still percent-encoded.
fn read_path<'a>(node: &Node<'a>) -> Option<&'a str> {
    let path = node.text()?;
    if !path.starts_with('/') {
        node.report_with("a path begins with `/`", format!("write \"/{path}\""));
    } else if let Some(at) = path.find(['?', '#']) {
        node.report_with(
            "a route has no query and no fragment",
            format!("write {:?}", &path[..at]),
        );
    } else if path.contains("//") {
        node.report("a path has no empty segment: `//`");
    } else if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        node.report("a path has no segment `.` or `..`");
    } else if let Some(c) =
        path.chars().find(|c| !c.is_ascii_graphic() || r#""<>\^`{|}"#.contains(*c))
    {
        node.report_with(
            format!("{c:?} cannot stand in a path"),
            "percent-encode it: paths are compared as sent",
        );
    } else if path.split('/').count() > SEGMENTS_MAX {
        node.report(format!("a path has at most {SEGMENTS_MAX} segments"));
    } else {
        return Some(path);
    }
    None
}

fn read_rewrite(node: &Node<'_>) -> Option<String> {
    read_path(node).map(|path| without_last_slash(path).to_owned())
}

fn read_name(node: &Node<'_>) -> Option<String> {
    let name = node.text()?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        node.report(format!("a name has 1 to {NAME_BYTES_MAX} bytes, this has {}", name.len()));
    } else if name.contains(char::is_control) {
        node.report("a name has no control characters");
    } else {
        return Some(name.to_owned());
    }
    None
}

/// The path, cut to what the gateway takes as a name. Paths are ASCII: any byte is a boundary.
fn default_name(path: &str) -> String {
    let path = if path.is_empty() { "/" } else { path };
    path[..path.len().min(NAME_BYTES_MAX)].to_owned()
}

fn read_host(node: &Node<'_>) -> Option<String> {
    let text = node.text()?;
    let host = host_of(text);
    if host.is_empty() {
        node.report_with("a host has a name", "leave `host` out to take any host");
    } else if host.contains('*') {
        node.report_with("a host is exact, without `*`", "one route for each host");
    } else if host.len() < text.strip_suffix('.').unwrap_or(text).len() {
        node.report_with("ports are not compared", format!("write {host:?}"));
    } else if host.contains(|c: char| !c.is_ascii_graphic() || "/?#@".contains(c)) {
        node.report_with(
            format!("`{text}` is not a host"),
            "a name or an address alone, in ASCII: \"example.org\"",
        );
    } else {
        return Some(host);
    }
    None
}

fn read_methods(node: &Node<'_>) -> Option<Vec<String>> {
    let nodes = node.list()?;
    let mut methods: Vec<String> = nodes.iter().filter_map(read_method).collect();
    if methods.len() < nodes.len() {
        return None;
    }
    if methods.is_empty() {
        node.report_with("an empty list takes no method", "leave `methods` out to take any");
        return None;
    }
    // A HEAD is a GET without its body (RFC 9110 section 9.3.2).
    let has = |method: &str| methods.iter().any(|m| m == method);
    if has("GET") && !has("HEAD") {
        methods.push("HEAD".to_owned());
    }
    Some(methods)
}

fn read_method(node: &Node<'_>) -> Option<String> {
    let method = node.text()?;
    let upper = method.to_ascii_uppercase();
    if method.is_empty() || !method.bytes().all(is_token_byte) {
        node.report(format!("`{method}` is not a method"));
    } else if METHODS.contains(&upper.as_str()) && method != upper {
        node.report_with("methods are case-sensitive", format!("write {upper:?}"));
    } else {
        return Some(method.to_owned());
    }
    None
}

/// RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn without_last_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}
