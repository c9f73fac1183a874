//! The values that HTTP gives a form to: endpoints, paths, origins, methods and header names.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use http::uri::PathAndQuery;
use http::{HeaderName, Method};
use toml::Spanned;
use toml::de::DeValue;

use super::Endpoint;
use super::reader::{Checked, Fault, nearest, refuse};
use super::value::{number, quote, string};

type Value<'a> = Spanned<DeValue<'a>>;

/// `http://host[:port]`, nothing behind it; or a table with that as its `url`, and a `weight`.
pub(super) fn endpoint(value: &Value<'_>) -> Checked<Endpoint> {
    const KEYS: [&str; 2] = ["url", "weight"];
    let DeValue::Table(table) = value.get_ref() else { return address(value) };
    let mut faults = Vec::new();
    let mut below = |key: &str, span: Range<usize>, wrong: Vec<Fault>| {
        faults.extend(wrong.into_iter().map(|fault| Fault {
            inside: Some((format!(".{}", key.escape_debug()), span.clone())),
            ..fault
        }));
    };
    let (mut endpoint, mut weight) = (None, 1);
    for (key, one) in table.iter() {
        let name = &**key.get_ref();
        let read = match name {
            "url" => address(one).map(|read| endpoint = Some(read)),
            "weight" => number(1..=1000)(one).map(|read| weight = read),
            _ => {
                let help = match nearest(name, &KEYS) {
                    Some(near) => format!("did you mean `{near}`? an endpoint has `url`, `weight`"),
                    None => "an endpoint has `url` and `weight`".to_owned(),
                };
                below(name, key.span(), unknown(help));
                continue;
            }
        };
        if let Err(wrong) = read {
            below(name, one.span(), wrong);
        }
    }
    if !table.contains_key("url") {
        let form = "write { url = \"http://localhost:8000\", weight = 3 }";
        faults.extend(refuse::<()>("has no `url`", form).err().into_iter().flatten());
    }
    match endpoint {
        Some(endpoint) if faults.is_empty() => Ok(Endpoint { weight, ..endpoint }),
        _ => Err(faults),
    }
}

fn unknown(help: String) -> Vec<Fault> {
    vec![Fault { message: "is unknown".to_owned(), help: Some(help), inside: None }]
}

fn address(value: &Value<'_>) -> Checked<Endpoint> {
    const FORM: &str = "write \"http://host:port\", for example \"http://localhost:8000\"";
    let url = string(value, "an address", "http://localhost:8000")?;
    let Some((scheme, rest)) = url.split_once("://") else {
        return refuse(format!("has no scheme: {}", quote(url)), FORM);
    };
    if scheme.eq_ignore_ascii_case("https") {
        return refuse(
            "asks for https, which is not supported yet: services are reached by plain http",
            "write an http:// address, of a TLS-terminating proxy next to the service if need be",
        );
    }
    if !scheme.eq_ignore_ascii_case("http") {
        return refuse(format!("has the scheme {}, which is unknown", quote(scheme)), FORM);
    }
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return refuse(
            "holds a user name or password, which the gateway does not send",
            "leave out all up to the `@`; a policy can set an `Authorization` header",
        );
    }
    if !behind.is_empty() {
        return refuse(
            format!("has {} behind its host and port", quote(behind)),
            format!(
                "write {}: paths are the routing policy's",
                quote(&format!("http://{authority}"))
            ),
        );
    }
    let (host, port) = match split_port(authority) {
        (host, None) => (host, 80),
        (host, Some(port)) => match port.parse::<u16>() {
            Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                (host, number)
            }
            _ => {
                return refuse(
                    format!("has the port {}, which is none", quote(port)),
                    "a port is a number from 1 to 65535",
                );
            }
        },
    };
    let Some((host, in_authority)) = checked_host(host) else {
        return refuse(
            format!("has the host {}, which is neither a name nor an IP address", quote(host)),
            "names have letters, digits, `-`, `_` and `.`; IPv6 addresses stand in brackets: \
             \"http://[::1]:8000\"",
        );
    };
    let authority = if port == 80 { in_authority } else { format!("{in_authority}:{port}") };
    Ok(Endpoint { url: url.to_owned(), host, port, authority, weight: 1 })
}

/// Whether two endpoints are one address, however it is written.
pub(super) fn same_address(one: &Endpoint, other: &Endpoint) -> bool {
    (&one.host, one.port) == (&other.host, other.port)
}

/// The part before the port and the port, if there is one. Colons within brackets are an address's.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let port_from = authority.rfind(']').unwrap_or(0);
    match authority[port_from..].rfind(':') {
        Some(colon) => {
            let (host, port) = authority.split_at(port_from + colon);
            (host, Some(&port[1..]))
        }
        None => (authority, None),
    }
}

/// A host as it is connected to, and as it stands in a `Host` header.
fn checked_host(host: &str) -> Option<(String, String)> {
    if let Some(inside) = host.strip_prefix('[') {
        let address: Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
        return Some((address.to_string(), format!("[{address}]")));
    }
    let host = host.to_ascii_lowercase();
    let labels: Vec<&str> = host.strip_suffix('.').unwrap_or(&host).split('.').collect();
    let is_name = host.len() <= 253
        && labels.iter().all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        });
    // What ends in a number is meant as an address, and "10.0.0.300" is no host.
    let ends_in_number = labels.last()?.bytes().all(|byte| byte.is_ascii_digit());
    let is_host = if ends_in_number { host.parse::<Ipv4Addr>().is_ok() } else { is_name };
    is_host.then(|| (host.clone(), host))
}

/// A path with or without a query, as a health check asks for.
pub(super) fn request_path(value: &Value<'_>) -> Checked<String> {
    const BYTES_MAX: usize = 1024;
    let path = string(value, "a path", "/health")?;
    if !path.starts_with('/') {
        return refuse(format!("is not a path: {}", quote(path)), "a path begins with `/`");
    }
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !is_plain || path.len() > BYTES_MAX || path.parse::<PathAndQuery>().is_err() {
        return refuse(
            format!("is not a path that can be asked for: {}", quote(path)),
            format!(
                "a path has up to {BYTES_MAX} visible ASCII characters and no `#`; others are \
                 percent-encoded"
            ),
        );
    }
    Ok(path.to_owned())
}

/// Empty, or `/segments` without a `/` at the end.
pub(super) fn path_prefix(value: &Value<'_>) -> Checked<String> {
    const BYTES_MAX: usize = 128;
    let prefix = string(value, "a path prefix", "/_gateway")?;
    let segment_is_fine = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    let is_fine = match prefix.strip_prefix('/') {
        Some(segments) => prefix.len() <= BYTES_MAX && segments.split('/').all(segment_is_fine),
        None => prefix.is_empty(),
    };
    if is_fine {
        return Ok(prefix.to_owned());
    }
    refuse(
        format!("is not a path prefix: {}", quote(prefix)),
        format!(
            "write \"\" for none, or up to {BYTES_MAX} characters like \"/_gateway\": a `/` in front, \
             none at the end, letters, digits and `- . _ ~` between"
        ),
    )
}

/// `*`, `null`, or `scheme://host[:port]` exactly as a browser writes it (RFC 6454 §6.2).
pub(super) fn origin(value: &Value<'_>) -> Checked<String> {
    let origin = string(value, "an origin", "https://example.com")?;
    if matches!(origin, "*" | "null") {
        return Ok(origin.to_owned());
    }
    let (scheme, rest) = origin.split_once("://").unwrap_or(("", origin));
    let (host, port) = split_port(rest);
    let scheme_is_fine = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let port_is_fine = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let Some((_, host)) = checked_host(host).filter(|_| scheme_is_fine && port_is_fine) else {
        return refuse(
            format!("is not an origin: {}", quote(origin)),
            "write scheme, host and, where it is not the usual one, port, with nothing behind: \
             \"https://example.com\"; or \"*\" or \"null\"",
        );
    };
    let usual = matches!((scheme, port), ("http", Some("80")) | ("https", Some("443")));
    let port = port.filter(|_| !usual).map(|port| format!(":{port}")).unwrap_or_default();
    let canonical = format!("{}://{host}{port}", scheme.to_ascii_lowercase());
    if canonical != origin {
        return refuse(
            format!("is never sent by a browser in this form: {}", quote(origin)),
            format!("write {}", quote(&canonical)),
        );
    }
    Ok(canonical)
}

/// A method such as `GET`, or `*`.
pub(super) fn method(value: &Value<'_>) -> Checked<String> {
    let text = string(value, "a method", "GET")?;
    if Method::from_bytes(text.as_bytes()).is_err() {
        return refuse(
            format!("is not a method: {}", quote(text)),
            "write one like \"GET\", or \"*\" for every method",
        );
    }
    // Methods are case-sensitive, and no client sends "get" (RFC 9110 §9.1).
    let upper = text.to_ascii_uppercase();
    let is_standard = Method::from_bytes(upper.as_bytes()).is_ok_and(|it| {
        [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ]
        .contains(&it)
    });
    if is_standard && upper != text {
        return refuse(
            format!("is not a method: {}", quote(text)),
            format!("methods have capital letters: {}", quote(&upper)),
        );
    }
    Ok(text.to_owned())
}

/// The name of a header, or `*`.
pub(super) fn header_name(value: &Value<'_>) -> Checked<String> {
    let text = string(value, "a header's name", "Content-Type")?;
    if HeaderName::from_bytes(text.as_bytes()).is_err() {
        return refuse(
            format!("is not a header's name: {}", quote(text)),
            "write one like \"Content-Type\", or \"*\" for every header",
        );
    }
    Ok(text.to_owned())
}
