//! What becomes of a request that a route takes: it is forwarded, redirected or answered.

use std::hash::Hasher;
use std::time::Duration;

use orchestrator_policy::collections::Fnv1a;
use orchestrator_policy::{Circuit, Decision, Request};

use crate::Route;
use crate::asked::{Asked, split_port};
use crate::rewrite::{Rewrite, push_encoded};

/// A longer path would take all that one decision may hand over.
const PATH_BYTES_MAX: usize = 32 << 10;
/// A longer key is handed over as its hash.
const AFFINITY_BYTES_MAX: usize = 256;

#[derive(Debug)]
pub(crate) enum Action {
    Forward(Forward),
    Redirect(Box<Redirect>),
    Respond(Box<Respond>),
}

#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) to: To,
    pub(crate) rewrite: Rewrite,
    /// What few routes have.
    pub(crate) more: Option<Box<More>>,
}

/// Services, by their places.
#[derive(Debug)]
pub(crate) enum To {
    One(u32),
    Drawn(Box<Drawn>),
}

/// Services that share the requests.
#[derive(Debug)]
pub(crate) struct Drawn {
    /// Each with the sum of the weights up to its own.
    pub(crate) services: Box<[(u32, u32)]>,
    pub(crate) sticky: Option<Key>,
}

#[derive(Debug, Default)]
pub(crate) struct More {
    pub(crate) fallback: Option<u32>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) body_bytes: Option<u64>,
    pub(crate) request_headers: Box<[Edit]>,
    pub(crate) affinity: Option<Key>,
}

/// What requests that belong together have in common.
#[derive(Debug)]
pub(crate) enum Key {
    Header(Box<str>),
    Cookie(Box<str>),
    ClientIp,
}

/// A header to set, or to remove.
#[derive(Debug)]
pub(crate) struct Edit {
    pub(crate) name: Box<str>,
    pub(crate) value: Option<Box<str>>,
}

#[derive(Debug, Default)]
pub(crate) struct Redirect {
    pub(crate) status: u16,
    pub(crate) scheme: Option<Box<str>>,
    pub(crate) host: Option<Box<str>>,
    pub(crate) port: Option<u16>,
    pub(crate) path: Rewrite,
    pub(crate) keep_query: bool,
}

#[derive(Debug)]
pub(crate) struct Respond {
    pub(crate) status: u16,
    pub(crate) body: Option<Box<str>>,
}

/// What the route makes of the request.
pub(crate) fn decide<'p>(
    route: &'p Route,
    asked: Asked<'_>,
    services: &'p [String],
) -> Decision<'p> {
    let decision = match &route.action {
        Action::Forward(forward) => forward.decide(asked, services),
        Action::Redirect(redirect) => redirect.decide(asked),
        Action::Respond(respond) => {
            let decision = Decision::respond(respond.status);
            match &respond.body {
                Some(body) => decision.body(&**body),
                None => decision,
            }
        }
    };
    let mut decision = decision.route_name(&*route.name);
    for edit in &route.response_headers {
        decision = match &edit.value {
            Some(value) => decision.response_header(&*edit.name, &**value),
            None => decision.remove_response_header(&*edit.name),
        };
    }
    decision
}

impl Forward {
    fn decide<'p>(&'p self, asked: Asked<'_>, services: &'p [String]) -> Decision<'p> {
        let request = asked.request;
        let mut service = match &self.to {
            To::One(service) => *service,
            To::Drawn(drawn) => drawn.draw(request),
        };
        let more = self.more.as_deref();
        if let Some(fallback) = more.and_then(|more| more.fallback) {
            let is_open = |service: u32| {
                let stands = request.service(&services[service as usize]);
                stands.is_some_and(|stands| stands.circuit == Circuit::Open)
            };
            // Where both are open, the answer is about the service that was meant.
            if is_open(service) && !is_open(fallback) {
                service = fallback;
            }
        }
        let mut decision = Decision::forward(&services[service as usize]);
        if !matches!(self.rewrite, Rewrite::None) {
            let path = self.rewrite.apply(asked.path);
            if path.len() > PATH_BYTES_MAX {
                return Decision::respond(414);
            }
            decision = decision.path(path);
        }
        match more {
            Some(more) => more.add_to(decision, request),
            None => decision,
        }
    }
}

impl More {
    fn add_to<'p>(&'p self, mut decision: Decision<'p>, request: &Request) -> Decision<'p> {
        decision.timeout = self.timeout;
        decision.attempt_timeout = self.attempt_timeout;
        decision.request_body_max = self.body_bytes;
        for edit in &self.request_headers {
            decision = match &edit.value {
                Some(value) => decision.request_header(&*edit.name, &**value),
                None => decision.remove_request_header(&*edit.name),
            };
        }
        match self.affinity.as_ref().and_then(|key| key.of(request)) {
            Some(key) if key.len() > AFFINITY_BYTES_MAX => {
                decision.affinity(hash(&key).to_be_bytes().to_vec())
            }
            Some(key) => decision.affinity(key),
            None => decision,
        }
    }
}

impl Drawn {
    /// Each service takes a share of all numbers, in the order of the list: who is among the first
    /// tenth stays there when the weights become finer.
    fn draw(&self, request: &Request) -> u32 {
        let key = self.sticky.as_ref().and_then(|key| key.of(request));
        let number = key.map_or_else(|| request.random(), |key| spread(hash(&key)));
        let total = self.services.last().map_or(0, |(_, sum)| *sum);
        let point = ((u128::from(number) * u128::from(total)) >> 64) as u32;
        let drawn = self.services.iter().find(|(_, sum)| point < *sum);
        drawn.map_or(0, |(service, _)| *service)
    }
}

impl Key {
    /// None where the request has none, or an empty one.
    fn of(&self, request: &Request) -> Option<Vec<u8>> {
        let key = match self {
            Key::Header(name) => request.header(name)?.into_bytes(),
            Key::ClientIp => request.client().into_bytes(),
            Key::Cookie(name) => {
                request.header_values("cookie").iter().find_map(|value| cookie(value, name))?
            }
        };
        (!key.is_empty()).then_some(key)
    }
}

/// A cookie's value (RFC 6265 section 4.2.1).
fn cookie(header: &[u8], name: &str) -> Option<Vec<u8>> {
    header.split(|byte| *byte == b';').find_map(|pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value.to_vec())
    })
}

pub(crate) fn hash(key: impl AsRef<[u8]>) -> u64 {
    let mut hasher = Fnv1a::default();
    hasher.write(key.as_ref());
    hasher.finish()
}

/// FNV-1a leaves its high bits much alike for short keys, and those decide: this mixes all into all
/// (the finaliser of MurmurHash3).
fn spread(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

impl Redirect {
    fn decide(&self, asked: Asked<'_>) -> Decision<'static> {
        let mut location = String::new();
        if (self.scheme.is_some() || self.host.is_some() || self.port.is_some())
            && !self.push_origin(&asked, &mut location)
        {
            // There is no saying where to: the client has named no host that could be repeated.
            return Decision::respond(400);
        }
        let query = asked.query().filter(|_| self.keep_query).map(str::to_owned);
        let path = self.path.apply(asked.path);
        // To a browser `//x` and `/\x` are hosts. (A backslash is encoded below.)
        let doubled = match location.is_empty() {
            true => path.len() - path.trim_start_matches('/').len() - 1,
            false => 0,
        };
        push_encoded(&mut location, &path[doubled..], |_| true);
        if let Some(query) = query
            && !path.contains('?')
        {
            location.push('?');
            push_encoded(&mut location, &query, |_| true);
        }
        if location.len() > PATH_BYTES_MAX {
            return Decision::respond(414);
        }
        Decision::respond(self.status).response_header("location", location)
    }

    /// Scheme, host and port: the request's own where the redirect says nothing else. The port is
    /// that of the scheme where scheme or host change.
    fn push_origin(&self, asked: &Asked<'_>, location: &mut String) -> bool {
        let (own_host, own_port) = split_port(asked.authority());
        let host = self.host.as_deref().unwrap_or(own_host);
        if host.is_empty() || host.bytes().any(|b| !b.is_ascii_graphic() || b"/\\?#@".contains(&b))
        {
            return false;
        }
        match &self.scheme {
            Some(scheme) => location.push_str(scheme),
            None => location.push_str(&asked.request.scheme()),
        }
        location.push_str("://");
        location.push_str(host);
        let own_port = own_port.filter(|_| self.scheme.is_none() && self.host.is_none());
        match (self.port, own_port) {
            (Some(port), _) => {
                location.push(':');
                location.push_str(&port.to_string());
            }
            (None, Some(port)) if !port.is_empty() => {
                location.push(':');
                location.push_str(port);
            }
            (None, _) => {}
        }
        true
    }
}
