//! What changes in a message's head on its way through? The rules of RFC 9110 for intermediaries.
//!
//! [`valid_host`] checks a request when it arrives, [`to_upstream`] rewrites it for an endpoint, and
//! [`to_client`] the response on its way back. Each strips first and adds after, so that nothing
//! a peer writes can strip what the gateway adds (`Connection: X-Forwarded-For`).
//!
//! hyper does the framing: it writes `Transfer-Encoding`, and believes `Content-Length`.

use std::net::{IpAddr, Ipv6Addr};

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING, VIA,
};
use http::{Uri, Version};

use crate::route::Edit;

#[cfg(test)]
mod tests;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What the gateway tells an endpoint about a request. The values are made once (per connection,
/// per endpoint, per request); to copy one is to count a reference.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hop<'a> {
    /// The client's address, from [`client_value`].
    pub(crate) client: &'a HeaderValue,
    /// The host that the client asked for: see [`valid_host`]. None from HTTP/1.0 clients.
    pub(crate) client_host: Option<&'a HeaderValue>,
    /// The HTTP version that the client spoke.
    pub(crate) version: Version,
    pub(crate) request_id: &'a HeaderValue,
    /// The `Host` that the endpoint gets.
    pub(crate) host: &'a HeaderValue,
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
        // Later versions have `:authority`, which hyper hands over as the target's.
        (None, None) if version == Version::HTTP_11 => return Err(HostError::Missing),
        (None, None) => "",
    };
    match uri.authority() {
        None => Ok(host),
        Some(target) if is_host_and_port(target.as_str()) => Ok(target.as_str()),
        Some(_) => Err(HostError::MalformedTarget),
    }
}

/// What a request's line and headers have in bytes, about as they were sent.
pub(crate) fn head_bytes(head: &http::request::Parts) -> usize {
    let target = head.uri.path_and_query().map_or(1, |target| target.as_str().len());
    let fields = head.headers.iter();
    // A colon, a blank and a line's end for each field; a method's name is short.
    target + fields.map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>()
}

/// A client's address as [`Hop`] wants it: once per connection.
pub(crate) fn client_value(client: IpAddr) -> HeaderValue {
    // A dual-stack listener sees IPv4 clients as ::ffff:192.0.2.1.
    HeaderValue::try_from(client.to_canonical().to_string()).expect("an address is ASCII")
}

/// Rewrites a request's head for an endpoint. The policy's own edits come after.
///
/// What clients say about forwarding is replaced: without a trusted proxy in front it is hearsay.
pub(crate) fn to_upstream(headers: &mut HeaderMap, hop: &Hop<'_>) {
    // For what is added below, at one go.
    headers.reserve(6);
    strip_hop_by_hop(headers);
    strip_forwarding(headers);
    // The gateway's server has answered it: hyper sends `100 Continue` when the body is asked for.
    headers.remove(EXPECT);
    headers.insert(HOST, hop.host.clone());
    headers.insert(X_FORWARDED_FOR, hop.client.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    if let Some(host) = hop.client_host {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    headers.append(VIA, via(hop.version));
    headers.insert(X_REQUEST_ID, hop.request_id.clone());
}

/// Rewrites a response's head for the client. `version` is what the endpoint spoke.
pub(crate) fn to_client(headers: &mut HeaderMap, request_id: &HeaderValue, version: Version) {
    strip_hop_by_hop(headers);
    headers.append(VIA, via(version));
    headers.insert(X_REQUEST_ID, request_id.clone());
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

/// Removes what is meant for one connection only: the headers that `Connection` names, and those
/// that are so by definition (RFC 9110 section 7.6.1).
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // What most messages take: one look at each name, no search, no allocation.
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    if headers.contains_key(CONNECTION) {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
    }
    // Where both were sent, `Transfer-Encoding` counted, and the length is wrong or an attack
    // (RFC 9112 section 6.3).
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let hop_by_hop: Vec<_> = headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
    for name in hop_by_hop {
        headers.remove(name);
    }
}

/// Whether a header is the host's own: a policy may not set or remove it, in requests or responses.
/// Such are framing, hop-by-hop and forwarding headers, and those that the gateway writes itself.
pub(crate) fn is_host_owned(name: &HeaderName) -> bool {
    is_hop_by_hop(name)
        || is_forwarding(name)
        || matches!(
            name.as_str(),
            "content-length" | "date" | "expect" | "host" | "via" | "x-request-id"
        )
}

/// As a `match`, which looks at the length first: this runs for every header of every message.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
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
    let options = headers.get_all(CONNECTION).iter();
    let options = options.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    // Empty, and so without an allocation, for `close` and `keep-alive`: that is, nearly always.
    let mut names = Vec::new();
    for option in options.map(<[u8]>::trim_ascii) {
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

/// Removes everything that claims to tell how the request came here.
fn strip_forwarding(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| is_forwarding(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// `Forwarded`, `X-Real-Ip` and `X-Forwarded…`, spelt with dashes or with underscores: to a CGI-like
/// service the two are one.
fn is_forwarding(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    let begins_with = |prefix: &[u8]| {
        name.len() >= prefix.len()
            && name.iter().zip(prefix).all(|(&n, &p)| n == p || (n == b'_' && p == b'-'))
    };
    let is = |whole: &[u8]| name.len() == whole.len() && begins_with(whole);
    begins_with(b"x-forwarded") || is(b"x-real-ip") || is(b"forwarded")
}

/// The gateway's entry in `Via`: the version that it received (RFC 9110 section 7.6.3).
fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_09 | Version::HTTP_10 => "1.0 orchestrator",
        Version::HTTP_2 => "2 orchestrator",
        Version::HTTP_3 => "3 orchestrator",
        _ => "1.1 orchestrator",
    })
}

fn is_host_and_port(text: &str) -> bool {
    let (is_host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        (address.parse::<Ipv6Addr>().is_ok(), port)
    } else {
        let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        (is_dns_name(name), port)
    };
    is_host && is_colon_and_port(port)
}

fn is_dns_name(name: &str) -> bool {
    // A dot at the end says that the name is complete.
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.len() <= 253
        && name.split('.').all(|label| !label.is_empty() && label.bytes().all(is_label_byte))
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
