//! Hosts and paths of a route, and the paths that take the place of a request's.

use orchestrator_policy::config::{Node, Table};

use crate::asked::host_of;
use crate::pattern::{Pattern, SEGMENTS_MAX, Segment};
use crate::rewrite::{Hole, Rewrite, Template};
use crate::table::Host;

/// Of a path as configured.
const PATH_BYTES_MAX: usize = 2048;
const HOST_BYTES_MAX: usize = 253;

/// A route's path, and what its `{…}` are called.
#[derive(Debug)]
pub(super) struct Path<'a> {
    /// As configured.
    pub(super) text: &'a str,
    pub(super) pattern: Pattern,
    names: Vec<(&'a str, u8)>,
}

pub(super) fn read_host(node: &Node<'_>) -> Option<Host> {
    let text = node.text()?;
    let host = host_of(text);
    let (name, below) = match host.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (&*host, false),
    };
    let odd = |c: char| !c.is_ascii_graphic() || "/?#@".contains(c);
    if host.is_empty() || host == "*" {
        node.report_with("a host has a name", "leave `host` out to take any host");
    } else if name.contains('*') || name.is_empty() {
        node.report_with(
            "`*` stands for the first labels of a host, whole ones",
            "write it like \"*.example.org\", or write the name in full",
        );
    } else if host.len() < text.strip_suffix('.').unwrap_or(text).len() {
        node.report_with("ports are not compared", format!("write {host:?}"));
    } else if name.starts_with('.') || host.len() > HOST_BYTES_MAX || name.contains(odd) {
        node.report_with(
            format!("`{text}` is not a host"),
            "a name or an address alone, in ASCII: \"example.org\"",
        );
    } else if below {
        return Some(Host::Below(name.to_owned()));
    } else {
        return Some(Host::Exact(host));
    }
    None
}

pub(super) fn read_path<'a>(table: &Table<'a>) -> Option<Path<'a>> {
    let (node, prefix) = match (table.get("path"), table.get("path_prefix")) {
        (Some(whole), None) => (whole, false),
        (None, Some(prefix)) => (prefix, true),
        (Some(_), Some(_)) => {
            table.node().report_with("both `path` and `path_prefix`", "keep one of the two");
            return None;
        }
        (None, None) => {
            table.node().report_with(
                "neither `path` nor `path_prefix`",
                "add one of the two; `path_prefix = \"/\"` takes every path",
            );
            return None;
        }
    };
    let text = node.text()?;
    check_path(&node, text, text)?;
    let path = if prefix { without_last_slash(text) } else { text };
    let (mut segments, mut names) = (Vec::new(), Vec::new());
    for segment in path.split('/').skip(1) {
        let Some(name) = name_in_braces(segment) else {
            check_literal(&node, segment)?;
            check_spelling(&node, segment)?;
            segments.push(Segment::Literal(segment.to_owned()));
            continue;
        };
        if names.iter().any(|(known, _)| *known == name) {
            node.report(format!("`{{{name}}}` stands here twice"));
            return None;
        }
        names.push((name, segments.len() as u8));
        segments.push(Segment::Any);
    }
    Some(Path { text, pattern: Pattern { prefix, segments }, names })
}

/// The path of a request as the service, or as the client after a redirect, gets it. `prefix`: it
/// stands in for the route's prefix.
pub(super) fn read_rewrite(
    node: &Node<'_>,
    text: &str,
    prefix: bool,
    path: Option<&Path<'_>>,
) -> Option<Rewrite> {
    // A query is for a whole path only.
    let path_alone = if prefix { text } else { text.split('?').next().unwrap_or_default() };
    check_path(node, text, path_alone)?;
    check_encoding(node, path_alone)?;
    // Where the route's own path is wrong, nothing is known of its segments.
    let path = path?;
    if prefix && !path.pattern.prefix {
        node.report_with("a `path` has no prefix to replace", "give the whole path instead");
        return None;
    }
    let text = if prefix { without_last_slash(text) } else { text };
    let template = read_template(node, text, path)?;
    Some(match prefix {
        true => Rewrite::Prefix(path.pattern.segments.len() as u8, template),
        false => Rewrite::Whole(template),
    })
}

/// `text` is what a person wrote; `path` is the part of it that is a path.
fn check_path(node: &Node<'_>, text: &str, path: &str) -> Option<()> {
    if !text.starts_with('/') {
        node.report_with("a path begins with `/`", format!("write \"/{text}\""));
    } else if text.len() > PATH_BYTES_MAX {
        node.report(format!("a path has at most {PATH_BYTES_MAX} bytes"));
    } else if let Some(at) = path.find(['?', '#']) {
        node.report_with(
            "a path has no query and no fragment here",
            format!("write {:?}", &path[..at]),
        );
    } else if path.contains("//") {
        node.report("a path has no empty segment: `//`");
    } else if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        node.report("a path has no segment `.` or `..`");
    } else if path.split('/').count() > SEGMENTS_MAX {
        node.report(format!("a path has at most {SEGMENTS_MAX} segments"));
    } else {
        return Some(());
    }
    None
}

fn check_literal(node: &Node<'_>, segment: &str) -> Option<()> {
    let Some(c) = segment.chars().find(|c| is_odd(*c)) else { return Some(()) };
    match c {
        '{' | '}' => node.report_with(
            "braces hold a name, and are a segment of their own",
            "write them like \"/users/{id}\"; a name is of letters, digits and `_`",
        ),
        c => node.report_with(
            format!("{c:?} cannot stand in a path"),
            "percent-encode it, with digits and letters in upper case",
        ),
    }
    None
}

/// Reports what the gateway takes for no path, be it a client's or a policy's.
fn check_encoding(node: &Node<'_>, path: &str) -> Option<()> {
    for (at, _) in path.match_indices('%') {
        match encoded(&path[at..]) {
            None => node.report_with(
                "a `%` has no two hexadecimal digits behind it",
                "write `%25` for the character itself",
            ),
            Some((code, 0..0x20 | 0x7f | b'\\')) => {
                node.report(format!("`{code}` cannot stand in a path: the gateway refuses it"));
            }
            Some(_) => continue,
        }
        return None;
    }
    Some(())
}

/// Reports what no request's path has, for the gateway gives each path one spelling before a route is
/// looked for.
fn check_spelling(node: &Node<'_>, segment: &str) -> Option<()> {
    check_encoding(node, segment)?;
    for (code, byte) in segment.match_indices('%').filter_map(|(at, _)| encoded(&segment[at..])) {
        let spelt = match char::from(byte) {
            plain @ ('a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~') => plain.into(),
            _ => code.to_ascii_uppercase(),
        };
        if spelt != code {
            node.report_with(
                format!("no request comes here with `{code}`: the gateway spells it `{spelt}`"),
                format!("write `{spelt}`"),
            );
            return None;
        }
    }
    Some(())
}

/// What a text begins with, if it is a byte that is percent-encoded: as it stands there, and decoded.
fn encoded(text: &str) -> Option<(&str, u8)> {
    let code = text.get(..3)?;
    let digits = code.strip_prefix('%').filter(|it| it.bytes().all(|b| b.is_ascii_hexdigit()))?;
    Some((code, u8::from_str_radix(digits, 16).ok()?))
}

/// A text in which `{name}` stands for a segment of the route's path.
fn read_template(node: &Node<'_>, text: &str, path: &Path<'_>) -> Option<Template> {
    let (mut plain, mut holes) = (String::with_capacity(text.len()), Vec::new());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        plain.push_str(before);
        let Some((name, behind)) = behind.split_once('}') else {
            node.report("a `{` has no `}`");
            return None;
        };
        let Some((_, place)) = path.names.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> =
                path.names.iter().map(|(known, _)| format!("`{{{known}}}`")).collect();
            node.report_with(
                format!("`{{{name}}}` is not in the route's path"),
                match &*known {
                    [] => "the path has nothing in braces, as `/users/{id}` has".to_owned(),
                    known => format!("the path has {}", known.join(", ")),
                },
            );
            return None;
        };
        let in_query = plain.contains('?');
        holes.push(Hole { at: plain.len() as u32, place: *place, in_query });
        rest = behind;
    }
    plain.push_str(rest);
    if let Some(c) = plain.chars().find(|c| is_odd(*c) || *c == '#') {
        node.report_with(format!("{c:?} cannot stand here"), "percent-encode it");
        return None;
    }
    Some(Template { text: plain.into(), holes: holes.into() })
}

/// What no URI has (RFC 3986), among it what is not ASCII.
fn is_odd(c: char) -> bool {
    !c.is_ascii_graphic() || r#""<>\^`{|}"#.contains(c)
}

/// The name in a segment `{name}`.
fn name_in_braces(segment: &str) -> Option<&str> {
    let name = segment.strip_prefix('{')?.strip_suffix('}')?;
    let of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(of_word)).then_some(name)
}

fn without_last_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}
