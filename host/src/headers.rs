//! What changes in a message's head on its way through? The rules of RFC 9110 for intermediaries.
//!
//! [`valid_host`] checks a request when it arrives, [`to_upstream`] writes it for an endpoint, and
//! [`to_client`] rewrites the response on its way back. Each strips first and adds after, so that nothing
//! a peer writes can strip what the gateway adds (`Connection: X-Forwarded-For`). Who a request
//! comes from is told by [`Caller`].
//!
//! The framing itself is `http1.rs`'s. Of trailers it sends those that `Trailer` announces.

use std::net::Ipv6Addr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{Uri, Version};

use crate::expect::Expectation;
use crate::route::Edit;

mod caller;
#[cfg(test)]
mod tests;

pub(crate) use self::caller::{Caller, is_within};

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The longest id that is taken over from a trusted proxy.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// What the gateway tells an endpoint about a request. The values are made once: per connection, per
/// endpoint, per request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hop<'a> {
    pub(crate) caller: &'a Caller,
    /// The host that this gateway was asked for: see [`valid_host`]. HTTP/1.0 clients may name none.
    pub(crate) client_host: Option<&'a HeaderValue>,
    /// The HTTP version that the client spoke.
    pub(crate) version: Version,
    pub(crate) request_id: &'a HeaderValue,
    /// The `Host` that the endpoint gets.
    pub(crate) host: &'a HeaderValue,
    /// The policy's, which touch nothing that [is the host's](is_host_owned).
    pub(crate) edits: &'a [Edit],
    /// The protocol that the client wants to speak instead.
    pub(crate) upgrade: Option<&'a HeaderValue>,
    /// The endpoint is to say whether it wants the body.
    pub(crate) expects: bool,
}

/// Why a request does not say which host it is for. Its words are for the client, with a 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostError {
    #[error("the request has no Host header (RFC 9112 section 3.2)")]
    Missing,
    #[error("the request has more than one Host header (RFC 9112 section 3.2)")]
    Duplicate,
    #[error("the Host header is not a name or an address with an optional port")]
    Malformed,
    #[error("the request target's host is not a name or an address with an optional port")]
    MalformedTarget,
}

/// Which host a request is for (RFC 9112 section 3.2): `example.org:8003`, empty where an HTTP/1.0
/// client named none.
///
/// Of a target in absolute form the host counts, and the header's does not, though it must be there
/// and be right. A host is a DNS name (underscores pass) or an IP address; what else RFC 3986 would
/// allow, such as user information and percent-encoding, has only been seen in attacks.
pub(crate) fn valid_host<'a>(
    version: Version,
    headers: &'a HeaderMap,
    uri: &'a Uri,
) -> Result<&'a str, HostError> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(HostError::Duplicate),
        (Some(value), None) => match value.to_str() {
            Ok(host) if is_host_and_port(host) => host,
            _ => return Err(HostError::Malformed),
        },
        // Later versions have `:authority`, which is the target's.
        (None, None) if version == Version::HTTP_11 => return Err(HostError::Missing),
        (None, None) => "",
    };
    match uri.authority() {
        None => Ok(host),
        Some(target) if is_host_and_port(target.as_str()) => Ok(target.as_str()),
        Some(_) => Err(HostError::MalformedTarget),
    }
}

/// The id that a trusted proxy gave the request, if it is fit for logs and headers.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut ids = headers.get_all(X_REQUEST_ID).iter();
    let (Some(id), None) = (ids.next(), ids.next()) else { return None };
    let is_fit = |&byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=:@".contains(&byte);
    let fits = (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.as_bytes().iter().all(is_fit);
    fits.then_some(id)
}

/// Whether the client of a request takes trailers in its response.
pub(crate) fn takes_trailers(version: Version, headers: &HeaderMap) -> bool {
    version >= Version::HTTP_11
        && lists(headers, &TE).any(|it| it.eq_ignore_ascii_case(b"trailers"))
}

/// Writes the fields of a request's head for an endpoint, but for what frames its body.
///
/// What clients say about forwarding is replaced: without a trusted proxy in front it is hearsay.
pub(crate) fn to_upstream(head: &mut Vec<u8>, client: &HeaderMap, hop: &Hop<'_>) -> Passing {
    put_field(head, HOST.as_str(), hop.host);
    let named = match client.contains_key(CONNECTION) {
        true => named_by_connection(client),
        false => Vec::new(),
    };
    let (mut passing, mut te) = (Passing::default(), false);
    for (name, value) in client {
        let text = name.as_str();
        if is_hop_by_hop(text) {
            match text {
                "transfer-encoding" => passing.chunked = true,
                "trailer" => passing.trailers = announced(client),
                "te" => te = takes_trailers(hop.version, client),
                _ => {}
            }
        } else if text == "content-length" {
            passing.has_length = true;
        } else if !(is_replaced(text)
            || is_hearsay_of(hop.caller, text)
            || named.contains(name)
            || hop.edits.iter().any(|(edited, _)| edited == name))
        {
            put_field(head, text, value);
        }
    }
    // Where both were sent, `Transfer-Encoding` counted, and the length is wrong or an attack
    // (RFC 9112 section 6.3).
    passing.has_length &= !passing.chunked;
    passing.trailers = passing.trailers.take().filter(|_| passing.chunked);

    put_field(head, X_FORWARDED_FOR.as_str(), &hop.caller.forwarded_for);
    put_text(head, X_FORWARDED_PROTO.as_str(), hop.caller.scheme);
    if let Some(host) = hop.caller.host.as_ref().or(hop.client_host) {
        put_field(head, X_FORWARDED_HOST.as_str(), host);
    }
    put_field(head, FORWARDED.as_str(), &hop.caller.forwarded(hop.client_host));
    put_text(head, VIA.as_str(), via(hop.version));
    put_field(head, X_REQUEST_ID.as_str(), hop.request_id);
    if passing.chunked {
        put_text(head, TRANSFER_ENCODING.as_str(), "chunked");
    }
    if let Some(names) = &passing.trailers {
        put_field(head, TRAILER.as_str(), names);
    }
    if te {
        put_text(head, TE.as_str(), "trailers");
    }
    // RFC 9110 section 10.1.4: what is for this connection only is named by `Connection`.
    match (hop.upgrade, te) {
        (Some(protocol), te) => {
            put_text(head, CONNECTION.as_str(), if te { "upgrade, te" } else { "upgrade" });
            put_field(head, UPGRADE.as_str(), protocol);
        }
        (None, true) => put_text(head, CONNECTION.as_str(), "te"),
        (None, false) => {}
    }
    if hop.expects {
        put_field(head, EXPECT.as_str(), &Expectation::VALUE);
    }
    for (at, (name, value)) in hop.edits.iter().enumerate() {
        // The last edit of a header counts.
        if let Some(value) = value
            && hop.edits[at + 1..].iter().all(|(later, _)| later != name)
        {
            put_field(head, name.as_str(), value);
        }
    }
    passing
}

/// What the gateway writes itself for each request, whoever sent it.
fn is_replaced(name: &str) -> bool {
    matches!(
        name,
        "expect"
            | "forwarded"
            | "host"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-proto"
            | "x-request-id"
    )
}

/// A field's line in a head.
pub(crate) fn put_field(head: &mut Vec<u8>, name: &str, value: &HeaderValue) {
    put(head, name, value.as_bytes());
}

pub(crate) fn put_text(head: &mut Vec<u8>, name: &str, value: &str) {
    put(head, name, value.as_bytes());
}

fn put(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    head.reserve(name.len() + value.len() + 4);
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

/// Rewrites a response's head for the client. `version` is what the endpoint spoke; trailers are
/// announced to a client that [takes them](takes_trailers).
pub(crate) fn to_client(
    headers: &mut HeaderMap,
    request_id: &HeaderValue,
    version: Version,
    takes_trailers: bool,
) {
    let passing = strip_hop_by_hop(headers);
    settle_length(headers);
    if let Some(names) = passing.trailers.filter(|_| takes_trailers && passing.chunked) {
        headers.insert(TRAILER, names);
    }
    headers.append(VIA, HeaderValue::from_static(via(version)));
    headers.insert(X_REQUEST_ID, request_id.clone());
}

/// Has a response say its length once and in digits, or not at all (RFC 9110 section 8.6). `http1.rs` reads
/// `2, 2`, and of an answer to HEAD nothing.
fn settle_length(headers: &mut HeaderMap) {
    let Some(length) = headers.get(CONTENT_LENGTH) else { return };
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let is_one = headers.get_all(CONTENT_LENGTH).iter().nth(1).is_none();
    if is_one && is_number(length.as_bytes()) {
        return;
    }
    let agreed = {
        let mut lengths = lists(headers, &CONTENT_LENGTH);
        let first = lengths.next().filter(|first| is_number(first));
        first.filter(|first| lengths.all(|other| other == *first)).map(HeaderValue::from_bytes)
    };
    match agreed {
        Some(Ok(length)) => headers.insert(CONTENT_LENGTH, length),
        _ => headers.remove(CONTENT_LENGTH),
    };
}

/// A policy's edits of headers, in its order.
pub(crate) fn apply(edits: &[Edit], headers: &mut HeaderMap) {
    for (name, value) in edits {
        match value {
            Some(value) => {
                headers.insert(name, value.clone());
            }
            None => {
                headers.remove(name);
            }
        }
    }
}

/// What of a message's framing goes on to the next connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Passing {
    pub(crate) chunked: bool,
    /// It says how long the body is.
    pub(crate) has_length: bool,
    /// The names of the trailers that may follow, as `Trailer` has them.
    pub(crate) trailers: Option<HeaderValue>,
}

/// Removes what is meant for one connection only: the headers that `Connection` names, and those
/// that are so by definition (RFC 9110 section 7.6.1).
fn strip_hop_by_hop(headers: &mut HeaderMap) -> Passing {
    // What most messages take: one look at each name, no search, no allocation.
    if !headers.keys().any(|name| is_hop_by_hop(name.as_str())) {
        return Passing::default();
    }
    let passing = Passing {
        chunked: headers.contains_key(TRANSFER_ENCODING),
        has_length: headers.contains_key(CONTENT_LENGTH),
        trailers: headers.contains_key(TRAILER).then(|| announced(headers)).flatten(),
    };
    if headers.contains_key(CONNECTION) {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
    }
    // Where both were sent, `Transfer-Encoding` counted, and the length is wrong or an attack
    // (RFC 9112 section 6.3).
    if passing.chunked {
        headers.remove(CONTENT_LENGTH);
    }
    remove_all(headers, is_hop_by_hop);
    passing
}

fn remove_all(headers: &mut HeaderMap, which: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| which(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Whether a header is the host's own: a policy may not set or remove it, in requests or responses.
/// Such are framing, hop-by-hop and forwarding headers, and those that the gateway writes itself.
pub(crate) fn is_host_owned(name: &HeaderName) -> bool {
    is_own(with_dashes(name.as_str(), &mut [0; DASHED_BYTES]))
}

/// The same, of a name that has no underscores.
fn is_own(name: &str) -> bool {
    is_hop_by_hop(name)
        || is_forwarding(name)
        || matches!(name, "content-length" | "date" | "expect" | "host" | "via" | "x-request-id")
}

/// As a `match`, which looks at the length first: this runs for every header of every message.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The headers that `Connection` names and that are there: no more than the message has.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    // Empty, and so without an allocation, for `close` and `keep-alive`: that is, nearly always.
    let mut names = Vec::new();
    for option in lists(headers, &CONNECTION) {
        if option.eq_ignore_ascii_case(b"close") || option.eq_ignore_ascii_case(b"keep-alive") {
            continue;
        }
        let Ok(name) = HeaderName::from_bytes(option) else { continue };
        // Framing and the target are not a peer's to take away.
        if name != CONTENT_LENGTH && name != HOST && headers.contains_key(&name) {
            names.push(name);
        }
    }
    names
}

/// The items of a list header, over all its lines.
pub(crate) fn lists<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    let values = headers.get_all(name).iter();
    values.flat_map(|value| value.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
}

/// `Trailer` without the names of fields that may not be trailers: both sides send those
/// alone that are announced.
fn announced(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut names = String::new();
    for name in lists(headers, &TRAILER) {
        let Ok(name) = HeaderName::from_bytes(name) else { continue };
        if may_trail(name.as_str()) {
            names.push_str(if names.is_empty() { "" } else { ", " });
            names.push_str(name.as_str());
        }
    }
    HeaderValue::try_from(names).ok().filter(|names| !names.is_empty())
}

/// Whether a field may come behind a body: none that says how to frame, route, authenticate or
/// process a message, or whose meaning is lost by then (RFC 9110 section 6.5.1).
fn may_trail(name: &str) -> bool {
    let dashed = &mut [0; DASHED_BYTES];
    let name = with_dashes(name, dashed);
    let is_forbidden = matches!(
        name,
        "age"
            | "authorization"
            | "cache-control"
            | "content-encoding"
            | "content-range"
            | "content-type"
            | "cookie"
            | "expires"
            | "location"
            | "max-forwards"
            | "origin"
            | "pragma"
            | "range"
            | "retry-after"
            | "set-cookie"
            | "vary"
            | "www-authenticate"
    );
    let is_control = name.starts_with("if-") || name.starts_with("access-control-");
    !is_forbidden && !is_control && !is_own(name) && !is_hearsay(name)
}

/// Whether a request's header claims to tell how it came here, or would pass for a header of the gateway's
/// own. A trusted proxy may say the former.
fn is_hearsay_of(caller: &Caller, name: &str) -> bool {
    match name.contains('_') {
        true => {
            let dashed = &mut [0; DASHED_BYTES];
            let name = with_dashes(name, dashed);
            is_own(name) || is_hearsay(name)
        }
        false => !caller.vouched && is_hearsay(name),
    }
}

/// Whether services believe this header in what only a proxy can know: forwarding headers, and names
/// that have been used for the client's address or for the path as it was before a proxy changed it.
/// `Proxy` becomes a CGI script's `HTTP_PROXY`.
fn is_hearsay(name: &str) -> bool {
    is_forwarding(name)
        || matches!(
            name,
            "cf-connecting-ip"
                | "client-ip"
                | "fastly-client-ip"
                | "proxy"
                | "true-client-ip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "x-original-url"
                | "x-rewrite-url"
        )
}

fn is_forwarding(name: &str) -> bool {
    name.starts_with("x-forwarded") || matches!(name, "forwarded" | "x-real-ip")
}

/// Longer than any name that the gateway knows.
const DASHED_BYTES: usize = 32;

/// A name as a CGI-like service reads it, to which dashes and underscores are one. Of a longer one
/// the beginning is enough.
fn with_dashes<'a>(name: &'a str, dashed: &'a mut [u8; DASHED_BYTES]) -> &'a str {
    if !name.contains('_') {
        return name;
    }
    let length = name.len().min(DASHED_BYTES);
    for (to, from) in dashed.iter_mut().zip(name.bytes()) {
        *to = if from == b'_' { b'-' } else { from };
    }
    // The name of a header is ASCII.
    std::str::from_utf8(&dashed[..length]).unwrap_or(name)
}

/// The gateway's entry in `Via`: the version that it received (RFC 9110 section 7.6.3).
fn via(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 | Version::HTTP_10 => "1.0 orchestrator",
        Version::HTTP_2 => "2 orchestrator",
        Version::HTTP_3 => "3 orchestrator",
        _ => "1.1 orchestrator",
    }
}

fn is_host_and_port(text: &str) -> bool {
    let (is_host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        (address.parse::<Ipv6Addr>().is_ok(), port)
    } else {
        let colon = text.bytes().position(|byte| byte == b':');
        let (name, port) = text.split_at(colon.unwrap_or(text.len()));
        (is_dns_name(name), port)
    };
    is_host && is_colon_and_port(port)
}

fn is_dns_name(name: &str) -> bool {
    // A dot at the end says that the name is complete.
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut label_bytes = 0;
    for byte in name.bytes() {
        match byte {
            b'.' if label_bytes > 0 => label_bytes = 0,
            b'-' | b'_' => label_bytes += 1,
            _ if byte.is_ascii_alphanumeric() => label_bytes += 1,
            _ => return false,
        }
    }
    name.len() <= 253 && label_bytes > 0
}

/// Nothing, or a colon and what may be nothing or a port (RFC 3986 section 3.2.3).
fn is_colon_and_port(text: &str) -> bool {
    match text.strip_prefix(':') {
        None | Some("") => text.is_empty() || text == ":",
        // `parse` alone would let a plus sign pass.
        Some(port) => {
            port.bytes().all(|byte| byte.is_ascii_digit())
                && port.parse::<u16>().is_ok_and(|port| port != 0)
        }
    }
}
