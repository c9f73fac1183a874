//! What more than one part of a route is made of: services, keys, headers, durations.

use std::time::Duration;

use orchestrator_policy::belongs_to_gateway;
use orchestrator_policy::config::{Node, did_you_mean};

use super::Reader;
use crate::act::{Edit, Key};

/// Of one list.
const EDITS_MAX: usize = 64;
const VALUE_BYTES_MAX: usize = 1024;

impl Reader<'_> {
    /// A service's place, by the name that stands at `node` as text or as a field's name.
    pub(super) fn service(&self, node: &Node<'_>, name: &str) -> Option<u32> {
        let place = self.services.iter().position(|service| service == name);
        if place.is_none() {
            let known = self.services.iter().map(String::as_str);
            let there_is = || {
                let names: Vec<_> = self.services.iter().map(|name| format!("`{name}`")).collect();
                format!("there is {}", names.join(", "))
            };
            node.report_with(
                format!("`{}` is not a service", name.escape_debug()),
                did_you_mean(name, known).unwrap_or_else(there_is),
            );
        }
        place.map(|place| place as u32)
    }
}

pub(super) fn read_key(node: &Node<'_>) -> Option<Key> {
    let table = node.table(&["header", "cookie", "client_ip"])?;
    match (table.get("header"), table.get("cookie"), table.get("client_ip")) {
        (Some(header), None, None) => {
            let name = read_header_name(&header, header.text()?)?;
            Some(Key::Header(name.into()))
        }
        (None, Some(cookie), None) => {
            let name = cookie.text()?;
            if !is_token(name) {
                cookie.report(format!("`{}` is not the name of a cookie", name.escape_debug()));
                return None;
            }
            Some(Key::Cookie(name.into()))
        }
        (None, None, Some(client_ip)) if client_ip.truth()? => Some(Key::ClientIp),
        // What else it has was reported.
        (None, None, None) if table.names().next().is_some() => None,
        _ => {
            node.report_with(
                "requests belong together in one way",
                "write one of `{ header = \"…\" }`, `{ cookie = \"…\" }` and `{ client_ip = true }`",
            );
            None
        }
    }
}

/// `{ set = { name = "value" }, remove = ["name"] }`.
pub(super) fn read_edits(node: &Node<'_>) -> Option<Vec<Edit>> {
    let table = node.table(&["set", "remove"])?;
    let set = table.get("set").and_then(|node| node.map());
    let remove = table.get("remove").and_then(|node| node.list()).unwrap_or_default();
    let mut edits = Vec::new();
    let fields =
        set.iter().flat_map(|set| set.names().filter_map(move |name| Some((name, set.get(name)?))));
    for (name, node) in fields {
        let (name, value) = (read_own_name(&node, name), read_header_value(&node));
        edits.push(name.zip(value).map(|(name, value)| (name, Some(value.into()))));
    }
    for node in remove {
        let name = node.text().and_then(|name| read_own_name(&node, name));
        edits.push(name.map(|name| (name, None)));
    }
    if edits.len() > EDITS_MAX {
        node.report(format!("a route edits at most {EDITS_MAX} headers"));
        return None;
    }
    let edits = edits.into_iter().map(|edit| {
        let (name, value) = edit?;
        Some(Edit { name: name.into(), value })
    });
    edits.collect()
}

/// A header that a policy may edit.
fn read_own_name(node: &Node<'_>, name: &str) -> Option<String> {
    let name = read_header_name(node, name)?;
    if belongs_to_gateway(&name) {
        node.report_with(
            format!("the header `{name}` belongs to the gateway"),
            "leave it out: what frames a message, what names the hops on its way, `host`, `date` and \
             `x-request-id` are the gateway's to set",
        );
        return None;
    }
    Some(name)
}

/// In lower case.
pub(super) fn read_header_name(node: &Node<'_>, name: &str) -> Option<String> {
    if !is_token(name) {
        node.report(format!("`{}` is not the name of a header", name.escape_debug()));
        return None;
    }
    Some(name.to_ascii_lowercase())
}

/// RFC 9110 section 5.5.
pub(super) fn read_header_value<'a>(node: &Node<'a>) -> Option<&'a str> {
    let value = node.text()?;
    let control = |c: char| c.is_control() && c != '\t';
    if value.len() > VALUE_BYTES_MAX {
        node.report(format!("a header's value has at most {VALUE_BYTES_MAX} bytes here"));
    } else if let Some(c) = value.chars().find(|c| control(*c)) {
        node.report(format!("{c:?} cannot stand in a header's value"));
    } else {
        return Some(value);
    }
    None
}

pub(super) fn read_time(node: &Node<'_>) -> Option<Duration> {
    let time = node.duration()?;
    if time.is_zero() {
        node.report_with("no time at all", "leave it out for the gateway's own limit");
        return None;
    }
    Some(time)
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let of_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(of_token)
}
