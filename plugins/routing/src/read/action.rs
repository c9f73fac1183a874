//! What becomes of a route's requests, as configured.

use orchestrator_policy::config::{Node, Table};

use super::paths::{Path, read_rewrite};
use super::values::{read_edits, read_header_value, read_key, read_time};
use super::{Reader, optional};
use crate::act::{Action, Drawn, Edit, Forward, More, Redirect, Respond, To};
use crate::rewrite::Rewrite;

const SERVICES_MAX: usize = 64;
const WEIGHT_MAX: u64 = 1_000_000;
/// Half of what one decision may hand over by default.
const BODY_BYTES_MAX: usize = 32 << 10;

/// One of these says what becomes of a request.
const ACTIONS: [&str; 4] = ["service", "services", "redirect", "respond"];
/// These say how it is forwarded.
const OF_FORWARDING: [&str; 8] = [
    "fallback",
    "affinity",
    "rewrite",
    "rewrite_prefix",
    "timeout",
    "attempt_timeout",
    "body_bytes",
    "request_headers",
];

impl<'a> Reader<'a> {
    /// The action, and the headers of the response.
    pub(super) fn action(
        &self,
        table: &Table<'a>,
        path: Option<&Path<'a>>,
    ) -> Option<(Action, Vec<Edit>)> {
        let given: Vec<_> =
            ACTIONS.iter().filter_map(|name| Some((*name, table.get(name)?))).collect();
        let headers = optional(table, "response_headers", read_edits);
        let [(name, node)] = &*given else {
            match &*given {
                [] => table.node().report_with(
                    "`service` is missing",
                    "add it, or one of `services`, `redirect` and `respond`",
                ),
                [(one, _), (other, _), ..] => table
                    .node()
                    .report_with(format!("both `{one}` and `{other}`"), "keep one of the two"),
                [_] => {}
            }
            return None;
        };
        let forwards = matches!(*name, "service" | "services");
        let idle = OF_FORWARDING.iter().filter(|_| !forwards);
        for field in idle.chain(["sticky"].iter().filter(|_| *name != "services")) {
            if let Some(node) = table.get(field) {
                node.report_with(
                    format!("`{field}` says nothing beside `{name}`"),
                    match *field {
                        "sticky" => "remove it, or draw among `services`",
                        _ => "remove it: nothing is forwarded",
                    },
                );
            }
        }
        let mut edits = Vec::new();
        let action = match *name {
            "redirect" => read_redirect(node, path).map(|it| Action::Redirect(Box::new(it))),
            "respond" => read_respond(node, &mut edits).map(|it| Action::Respond(Box::new(it))),
            _ => self.forward(table, node, path).map(Action::Forward),
        };
        edits.extend(headers?.unwrap_or_default());
        Some((action?, edits))
    }

    fn forward(
        &self,
        table: &Table<'a>,
        node: &Node<'a>,
        path: Option<&Path<'a>>,
    ) -> Option<Forward> {
        let sticky = optional(table, "sticky", read_key);
        let to = match table.get("service") {
            Some(_) => node.text().and_then(|name| self.service(node, name)).map(To::One),
            None => self.drawn(node).map(|services| (services, sticky)).and_then(|(it, sticky)| {
                Some(To::Drawn(Box::new(Drawn { services: it, sticky: sticky? })))
            }),
        };
        let fallback = optional(table, "fallback", |node| self.service(node, node.text()?));
        let whole = table.get("rewrite");
        let prefix = table.get("rewrite_prefix");
        let rewrite = match (&whole, &prefix) {
            (None, None) => Some(Rewrite::None),
            (Some(node), None) => node.text().and_then(|it| read_rewrite(node, it, false, path)),
            (None, Some(node)) => node.text().and_then(|it| read_rewrite(node, it, true, path)),
            (Some(_), Some(_)) => {
                table.node().report_with("both `rewrite` and `rewrite_prefix`", "keep one");
                None
            }
        };
        let timeout = optional(table, "timeout", read_time);
        let attempt_timeout = optional(table, "attempt_timeout", read_time);
        let body_bytes = optional(table, "body_bytes", |node| node.size());
        let request_headers = optional(table, "request_headers", read_edits);
        let affinity = optional(table, "affinity", read_key);
        let (to, fallback) = (to?, fallback?);
        let meant = match &to {
            To::One(service) => std::slice::from_ref(service).to_vec(),
            To::Drawn(drawn) => drawn.services.iter().map(|(service, _)| *service).collect(),
        };
        if let (Some(fallback), Some(node)) = (fallback, table.get("fallback"))
            && *meant == [fallback]
        {
            node.report("the service falls back to itself");
        }
        let more = More {
            fallback,
            timeout: timeout?,
            attempt_timeout: attempt_timeout?,
            body_bytes: body_bytes?,
            request_headers: request_headers?.unwrap_or_default().into(),
            affinity: affinity?,
        };
        Some(Forward { to, rewrite: rewrite?, more: more.says_something().then(|| more.into()) })
    }

    /// Each service with the sum of the weights up to its own.
    fn drawn(&self, node: &Node<'a>) -> Option<Box<[(u32, u32)]>> {
        let nodes = node.list()?;
        let mut sum = 0;
        let services: Vec<Option<(u32, u32)>> = nodes
            .iter()
            .map(|node| {
                let table = node.table(&["service", "weight"])?;
                let service = table.need("service");
                let service =
                    service.and_then(|node| node.text().and_then(|name| self.service(&node, name)));
                let weight = optional(&table, "weight", |node| node.integer(0..=WEIGHT_MAX));
                sum += weight?.unwrap_or(1) as u32;
                Some((service?, sum))
            })
            .collect();
        let services: Vec<(u32, u32)> = services.into_iter().collect::<Option<_>>()?;
        if services.len() > SERVICES_MAX {
            node.report(format!("a route draws among at most {SERVICES_MAX} services"));
        } else if sum == 0 {
            node.report_with("no service has a weight", "give one of them a `weight` above 0");
        } else {
            return Some(services.into());
        }
        None
    }
}

impl More {
    fn says_something(&self) -> bool {
        self.fallback.is_some()
            || self.timeout.is_some()
            || self.attempt_timeout.is_some()
            || self.body_bytes.is_some()
            || !self.request_headers.is_empty()
            || self.affinity.is_some()
    }
}

fn read_redirect(node: &Node<'_>, path: Option<&Path<'_>>) -> Option<Redirect> {
    let table =
        node.table(&["to", "scheme", "host", "port", "path", "prefix", "status", "keep_query"])?;
    let status = optional(&table, "status", |node| {
        let status = node.integer(300..=399)?;
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            node.report_with(format!("{status} is no redirect"), "301, 302, 303, 307 or 308");
            return None;
        }
        Some(status as u16)
    });
    let keep_query = optional(&table, "keep_query", |node| node.truth());
    let parts = ["scheme", "host", "port", "path", "prefix"];
    let given = parts.iter().find(|part| table.get(part).is_some());
    let to = match (table.get("to"), given) {
        (Some(to), None) => read_to(&to, path),
        (Some(_), Some(part)) => {
            node.report_with(format!("both `to` and `{part}`"), "`to` is the whole of it");
            None
        }
        (None, Some(_)) => read_parts(&table, path),
        (None, None) => {
            node.report_with(
                "it leads nowhere",
                "add `to`, or some of `scheme`, `host`, `port`, `path` and `prefix`",
            );
            None
        }
    };
    let (status, keep_query) = (status?.unwrap_or(302), keep_query?.unwrap_or(true));
    Some(Redirect { status, keep_query, ..to? })
}

/// `/path`, `https://host:port` or `https://host:port/path`.
fn read_to(node: &Node<'_>, path: Option<&Path<'_>>) -> Option<Redirect> {
    let text = node.text()?;
    let Some((scheme, rest)) = text.split_once("://") else {
        let path = read_rewrite(node, text, false, path)?;
        return Some(Redirect { path, ..Redirect::default() });
    };
    let (authority, to_path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = crate::asked::split_port(authority);
    let port = match port {
        None => Some(None),
        Some(port) => port.parse::<u16>().ok().filter(|port| *port > 0).map(Some),
    };
    let (true, true, Some(port)) = (is_scheme(scheme), is_host(host), port) else {
        node.report_with(
            format!("`{}` is not a place to go to", text.escape_debug()),
            "write a path, \"/new/{id}\", or an address, \"https://example.org/new/{id}\"",
        );
        return None;
    };
    let path = match to_path {
        "" => Rewrite::None,
        _ => read_rewrite(node, to_path, false, path)?,
    };
    let (scheme, host) = (Some(scheme.into()), Some(host.into()));
    Some(Redirect { scheme, host, port, path, ..Redirect::default() })
}

fn read_parts(table: &Table<'_>, path: Option<&Path<'_>>) -> Option<Redirect> {
    let scheme = optional(table, "scheme", |node| node.one_of(&["http", "https"], "a scheme"));
    let host = optional(table, "host", |node| {
        let host = node.text()?;
        if !is_host(host) {
            node.report_with(
                format!("`{}` is not a host", host.escape_debug()),
                "a name or an address alone: \"example.org\"; the port is a field of its own",
            );
            return None;
        }
        Some(host)
    });
    let port = optional(table, "port", |node| node.integer(1..=65535)?.try_into().ok());
    let whole = table.get("path");
    let prefix = table.get("prefix");
    let path = match (&whole, &prefix) {
        (None, None) => Some(Rewrite::None),
        (Some(node), None) => node.text().and_then(|it| read_rewrite(node, it, false, path)),
        (None, Some(node)) => node.text().and_then(|it| read_rewrite(node, it, true, path)),
        (Some(_), Some(_)) => {
            table.node().report_with("both `path` and `prefix`", "keep one of the two");
            None
        }
    };
    Some(Redirect {
        scheme: scheme?.map(Into::into),
        host: host?.map(Into::into),
        port: port?,
        path: path?,
        ..Redirect::default()
    })
}

fn is_scheme(scheme: &str) -> bool {
    matches!(scheme, "http" | "https")
}

/// A name, or an address; IPv6 in brackets.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let of_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            !host.is_empty() && host.bytes().all(of_name)
        }
    }
}

fn read_respond(node: &Node<'_>, edits: &mut Vec<Edit>) -> Option<Respond> {
    let table = node.table(&["status", "body", "content_type", "retry_after"])?;
    let status = table.need("status").and_then(|node| node.integer(200..=599));
    let body = optional(&table, "body", |node| {
        let body = node.text()?;
        if body.len() > BODY_BYTES_MAX {
            node.report(format!("a body has at most {BODY_BYTES_MAX} bytes"));
            return None;
        }
        Some(body)
    });
    let content_type = optional(&table, "content_type", read_header_value);
    let retry_after = optional(&table, "retry_after", read_time);
    let (status, body, content_type) = (status?, body?, content_type?);
    if let (Some(_), Some(node), 204 | 205 | 304) = (body, table.get("body"), status) {
        node.report(format!("a response {status} has no body (RFC 9110 section 6.4.1)"));
    }
    if let (None, Some(node)) = (body, table.get("content_type")) {
        node.report_with("the type of no body", "add `body`");
    }
    let edit = |name: &str, value: &str| Edit { name: name.into(), value: Some(value.into()) };
    edits.extend(content_type.map(|value| edit("content-type", value)));
    let seconds = retry_after?.map(|time| time.as_millis().div_ceil(1000).to_string());
    edits.extend(seconds.map(|seconds| edit("retry-after", &seconds)));
    Some(Respond { status: status as u16, body: body.map(Into::into) })
}
