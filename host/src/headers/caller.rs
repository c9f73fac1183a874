//! Who does a request come from? The peer; or, where the peer is a trusted proxy
//! (`server.trusted_proxies`), whoever its forwarding headers name.
//!
//! A chain is read from its right end, where the peer wrote: as long as an address is a trusted
//! proxy's, the one to its left counts. What stands further left is what a client may have made up.
//! Both spellings are understood and both are passed on, `X-Forwarded-…` and `Forwarded` (RFC 7239).
//! Where both came and do not agree on who called the peer, one of them was forged and passed
//! through: then neither counts, and the caller is the peer.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, is_host_and_port};

#[cfg(test)]
mod tests;

/// A longer chain is a loop or an attack, and counts as malformed.
const HOPS_MAX: usize = 64;

/// Who a request comes from, and the headers that tell a service so. Made once for a connection; for
/// each request only where the peer is a trusted proxy.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) address: IpAddr,
    /// `address`, as text.
    pub(crate) text: HeaderValue,
    /// How the client spoke to the first gateway: `http` or `https`.
    pub(crate) scheme: &'static str,
    /// The peer is a trusted proxy.
    pub(crate) trusted: bool,
    /// The peer's word counts for this request: the other forwarding headers are passed on too.
    pub(super) vouched: bool,
    /// `X-Forwarded-For`, whole.
    pub(super) forwarded_for: HeaderValue,
    /// `X-Forwarded-Host`, as a trusted proxy gave it.
    pub(super) host: Option<HeaderValue>,
    /// `Forwarded`; the host may still belong behind it.
    forwarded: HeaderValue,
    wants_host: bool,
    /// The last host, and `forwarded` with it: a client asks one host again and again.
    with_host: RefCell<Option<(HeaderValue, HeaderValue)>>,
}

/// One element of a chain: who made a request to the proxy that wrote it, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Hop {
    /// None: `unknown`, a made-up name, or nonsense.
    address: Option<IpAddr>,
    scheme: Option<&'static str>,
    host: Option<String>,
}

/// The forwarding headers say nothing that can be relied on.
#[derive(Debug, PartialEq, Eq)]
struct Nonsense;

impl Caller {
    /// Whoever is at the other end of a connection.
    pub(crate) fn peer(address: IpAddr, trusted: bool) -> Rc<Caller> {
        // A dual-stack listener sees IPv4 clients as ::ffff:192.0.2.1.
        let address = address.to_canonical();
        let text = HeaderValue::try_from(address.to_string()).expect("an address is ASCII");
        let forwarded = format!("for={};proto=http", node(address));
        Rc::new(Caller {
            address,
            scheme: "http",
            trusted,
            vouched: false,
            forwarded_for: text.clone(),
            host: None,
            forwarded: HeaderValue::try_from(forwarded).expect("an address is ASCII"),
            wants_host: true,
            with_host: RefCell::default(),
            text,
        })
    }

    /// The caller of one request on this peer's connection.
    pub(crate) fn of(self: &Rc<Caller>, proxies: &[IpNet], headers: &HeaderMap) -> Rc<Caller> {
        if !self.trusted {
            return self.clone();
        }
        self.told(proxies, headers).map_or_else(|Nonsense| self.clone(), Rc::new)
    }

    /// `Forwarded`, for a request to this host.
    pub(super) fn forwarded(&self, host: Option<&HeaderValue>) -> HeaderValue {
        let host = match self.host.as_ref().or(host) {
            Some(host) if self.wants_host => host,
            _ => return self.forwarded.clone(),
        };
        let mut with_host = self.with_host.borrow_mut();
        if let Some((of, value)) = &*with_host
            && of == host
        {
            return value.clone();
        }
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let whole = format!("{};host={}", text(&self.forwarded), quoted(&text(host)));
        // The host was checked; what is no header's value could only be one that was not.
        let value = HeaderValue::try_from(whole).unwrap_or_else(|_| self.forwarded.clone());
        // A copy: the request's would keep the buffer that its head was read into, as long as the connection.
        *with_host =
            HeaderValue::from_bytes(host.as_bytes()).ok().map(|host| (host, value.clone()));
        value
    }

    /// What the headers of a trusted proxy tell.
    fn told(&self, proxies: &[IpNet], headers: &HeaderMap) -> Result<Caller, Nonsense> {
        let for_list = whole(headers, &X_FORWARDED_FOR)?;
        let forwarded = whole(headers, &FORWARDED)?;
        let x_chain = for_list.as_deref().map(parse_for_list).transpose()?;
        let forwarded_chain = forwarded.as_deref().map(parse_forwarded).transpose()?;
        let chain = match (&x_chain, &forwarded_chain) {
            (Some(one), Some(other)) => {
                let last = |chain: &[Hop]| chain.last().and_then(|hop| hop.address);
                if last(one).is_none() || last(one) != last(other) {
                    return Err(Nonsense);
                }
                one
            }
            (Some(chain), None) | (None, Some(chain)) => chain,
            (None, None) => &Vec::new(),
        };
        let address = first_untrusted(self.address, chain, proxies);
        let hop = forwarded_chain.iter().flatten().rfind(|hop| hop.address == Some(address));
        // A proxy that writes `Forwarded` alone may pass on whatever `X-Forwarded-…` its client sent.
        let counts = forwarded_chain.is_none() || x_chain.is_some();
        let said = |name: HeaderName| counts.then(|| last_item(headers, &name)).flatten();
        let scheme = said(X_FORWARDED_PROTO).and_then(scheme_of);
        let scheme = scheme.or_else(|| hop?.scheme).unwrap_or("http");
        let host = said(X_FORWARDED_HOST).filter(|host| is_host_and_port(host));
        let host = host.map(str::to_owned).or_else(|| hop?.host.clone());

        let peer = self.address;
        let mut x = for_list.map_or_else(|| as_for_list(chain), Cow::into_owned);
        push_item(&mut x, format_args!("{peer}"));
        let mut own =
            forwarded.map_or_else(|| as_forwarded(chain, scheme, host.as_deref()), Cow::into_owned);
        // Where there is no chain, the peer is the client, and its own scheme is the request's.
        let own_scheme = if chain.is_empty() { scheme } else { "http" };
        push_item(&mut own, format_args!("for={};proto={own_scheme}", node(peer)));

        let value = |text: String| HeaderValue::try_from(text).map_err(|_| Nonsense);
        Ok(Caller {
            address,
            text: value(address.to_string())?,
            scheme,
            trusted: true,
            vouched: true,
            forwarded_for: value(x)?,
            host: host.map(value).transpose()?,
            forwarded: value(own)?,
            wants_host: chain.is_empty(),
            with_host: RefCell::default(),
        })
    }
}

/// The right-most address that is no trusted proxy's; the left-most that is known where all are.
fn first_untrusted(peer: IpAddr, chain: &[Hop], proxies: &[IpNet]) -> IpAddr {
    let mut address = peer;
    for hop in chain.iter().rev() {
        match hop.address {
            Some(next) if is_within(address, proxies) => address = next,
            _ => break,
        }
    }
    address
}

/// Whether an address is in one of these networks.
pub(crate) fn is_within(address: IpAddr, networks: &[IpNet]) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// All values of a list header as one; none where it is absent.
fn whole<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<Cow<'a, str>>, Nonsense> {
    let mut values = headers.get_all(name).iter().map(|value| value.to_str().map_err(|_| Nonsense));
    let Some(first) = values.next().transpose()? else { return Ok(None) };
    let mut all = Cow::Borrowed(first);
    for value in values {
        push_item(all.to_mut(), format_args!("{}", value?));
    }
    Ok(Some(all))
}

/// The last item of a list header: the peer's own.
fn last_item<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let last = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next().map(str::trim)
}

/// `192.0.2.7, 2001:db8::1`
fn parse_for_list(text: &str) -> Result<Vec<Hop>, Nonsense> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    bounded(items.map(|item| Ok(Hop { address: address_of(item), ..Hop::default() })))
}

/// `for=192.0.2.7;proto=https, for="[2001:db8::1]:4711"` (RFC 7239 section 4).
fn parse_forwarded(text: &str) -> Result<Vec<Hop>, Nonsense> {
    let elements = split_unquoted(text, ',')?;
    bounded(elements.into_iter().filter(|element| !element.is_empty()).map(|element| {
        let mut hop = Hop::default();
        for pair in split_unquoted(element, ';')?.into_iter().filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(Nonsense)?;
            let value = unquoted(value.trim())?;
            match name.trim().to_ascii_lowercase().as_str() {
                "for" => hop.address = address_of(&value),
                "proto" => hop.scheme = scheme_of(&value),
                "host" => hop.host = Some(value.into_owned()).filter(|it| is_host_and_port(it)),
                _ => {}
            }
        }
        Ok(hop)
    }))
}

fn bounded(hops: impl Iterator<Item = Result<Hop, Nonsense>>) -> Result<Vec<Hop>, Nonsense> {
    let hops: Vec<Hop> = hops.take(HOPS_MAX + 1).collect::<Result<_, _>>()?;
    if hops.len() > HOPS_MAX { Err(Nonsense) } else { Ok(hops) }
}

/// The trimmed parts between separators that are in no quoted string.
fn split_unquoted(text: &str, separator: char) -> Result<Vec<&str>, Nonsense> {
    let (mut parts, mut from) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, char) in text.char_indices() {
        match char {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if char == separator && !quoted => {
                parts.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[from..].trim());
    if quoted { Err(Nonsense) } else { Ok(parts) }
}

/// The content of a quoted string; what is not quoted as it is.
fn unquoted(value: &str) -> Result<Cow<'_, str>, Nonsense> {
    let Some(inside) = value.strip_prefix('"') else {
        return if value.contains('"') { Err(Nonsense) } else { Ok(value.into()) };
    };
    let inside = inside.strip_suffix('"').ok_or(Nonsense)?;
    if !inside.contains('\\') {
        return if inside.contains('"') { Err(Nonsense) } else { Ok(inside.into()) };
    }
    let (mut text, mut chars) = (String::with_capacity(inside.len()), inside.chars());
    while let Some(char) = chars.next() {
        match char {
            '\\' => text.push(chars.next().ok_or(Nonsense)?),
            '"' => return Err(Nonsense),
            char => text.push(char),
        }
    }
    Ok(text.into())
}

/// An address, with or without brackets and port.
fn address_of(text: &str) -> Option<IpAddr> {
    let is_port = |port: &str| {
        !port.is_empty()
            && port.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it))
    };
    let address: IpAddr = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
            return None;
        }
        address.parse::<Ipv6Addr>().ok()?.into()
    } else if let Ok(address) = text.parse() {
        address
    } else {
        let (address, port) = text.split_once(':')?;
        address.parse::<Ipv4Addr>().ok().filter(|_| is_port(port))?.into()
    };
    Some(address.to_canonical())
}

/// The scheme; some proxies say `wss` for a WebSocket.
fn scheme_of(text: &str) -> Option<&'static str> {
    let is = |words: [&str; 2]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    match () {
        () if is(["https", "wss"]) => Some("https"),
        () if is(["http", "ws"]) => Some("http"),
        () => None,
    }
}

/// A chain that came as `Forwarded`, in the other spelling.
fn as_for_list(chain: &[Hop]) -> String {
    let mut list = String::new();
    for hop in chain {
        match hop.address {
            Some(address) => push_item(&mut list, format_args!("{address}")),
            None => push_item(&mut list, format_args!("unknown")),
        }
    }
    list
}

/// A chain that came as `X-Forwarded-…`, in the other spelling: what is known of the client's own
/// request goes with the first of its elements.
fn as_forwarded(chain: &[Hop], scheme: &str, host: Option<&str>) -> String {
    let mut list = String::new();
    for (place, hop) in chain.iter().enumerate() {
        match hop.address {
            Some(address) => push_item(&mut list, format_args!("for={}", node(address))),
            None => push_item(&mut list, format_args!("for=unknown")),
        }
        if place == 0 {
            list.push_str(";proto=");
            list.push_str(scheme);
            if let Some(host) = host {
                list.push_str(";host=");
                list.push_str(&quoted(host));
            }
        }
    }
    list
}

fn push_item(list: &mut String, item: std::fmt::Arguments<'_>) {
    if !list.is_empty() {
        list.push_str(", ");
    }
    list.write_fmt(item).expect("a string takes all");
}

/// An address as `Forwarded` has it.
fn node(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    }
}

/// In quotes where it is no token: a host with a port, or an IPv6 address.
fn quoted(host: &str) -> Cow<'_, str> {
    if host.contains([':', '[']) { format!("\"{host}\"").into() } else { host.into() }
}
