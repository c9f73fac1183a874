//! A request to the routing policy, and its answer into a [`Target`] that was checked.
//!
//! Next: `admit.rs`. What a policy may not do is refused here, as a fault of the whole answer.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::config::Balance;
use crate::exchange::Exchange;
use crate::policy::{Answer, Choice, Fault, Kind, RequestFacts, Warm};
use crate::snapshot::Snapshot;
use crate::telemetry::record::Record;
use crate::upstream::balance::stable_hash;
use crate::{headers, path};

/// The longest name of a route that is kept.
const ROUTE_NAME_BYTES_MAX: usize = 64;

/// Where a request goes. Made by this file alone, so that each part of it was checked.
#[derive(Debug)]
pub(crate) struct Target {
    /// The service's place in the configuration.
    pub(crate) service: usize,
    pub(crate) path: PathAndQuery,
    /// All attempts and delays, up to the response head.
    pub(crate) timeout: Duration,
    pub(crate) attempt_timeout: Option<Duration>,
    /// The most that the request's body may have.
    pub(crate) body_bytes_max: u64,
    /// What requests that belong together share: a hash of the policy's affinity, else of the
    /// client's address. 0 where the service's balancing does not look at it.
    pub(crate) affinity: u64,
    pub(crate) request_edits: Vec<Edit>,
    pub(crate) response_edits: Vec<Edit>,
}

/// A header set to one value, or removed.
pub(crate) type Edit = (HeaderName, Option<HeaderValue>);

/// A policy's own response.
#[derive(Debug)]
pub(crate) struct PolicyAnswer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<Edit>,
    pub(crate) body: Option<Bytes>,
}

#[derive(Debug)]
pub(crate) enum Routed {
    To(Target),
    Answer(PolicyAnswer),
    Declined,
}

/// Asks the routing policy, and the last good version where it fails. A fault is logged and counted here;
/// the caller only refuses.
pub(crate) async fn route(
    exchange: &Exchange,
    request: Box<RequestFacts>,
    record: &mut Record,
) -> (Box<RequestFacts>, Result<Routed, Fault>) {
    let deciders = &exchange.snapshot.routing;
    let (request, routed) = ask(exchange, request, &deciders.active, record).await;
    let (Err(_), Some(last_good)) = (&routed, &deciders.last_good) else {
        return (request, routed);
    };
    // On the same inputs: what was noted of the services is still in them.
    record.falls_back(last_good.version());
    let pace = request.pace;
    let decided = Box::pin(ask(exchange, request, last_good, record)).await;
    exchange.connection.pace[Kind::Routing as usize].set(pace.max(decided.0.pace));
    decided
}

async fn ask(
    exchange: &Exchange,
    request: Box<RequestFacts>,
    warm: &Rc<Warm>,
    record: &mut Record,
) -> (Box<RequestFacts>, Result<Routed, Fault>) {
    let asked = Instant::now();
    let mut began = asked;
    let (request, answer) = warm.route(&mut began, request).await;
    exchange.connection.pace[Kind::Routing as usize].set(request.pace);
    let routed = answer.and_then(|mut answer| {
        record.route = answer.route_name.take();
        check(&exchange.snapshot, &request, answer).map_err(|text| Fault::invalid(&text))
    });
    let ended = Instant::now();
    record.decision = Some(record.decision.unwrap_or_default() + (ended - asked));
    let took = ended - began;
    exchange.worker().decided(&exchange.request_id, took, routed.as_ref().err(), warm);
    if record.route.as_ref().is_some_and(|name| name.len() > ROUTE_NAME_BYTES_MAX) {
        record.route = None;
    }
    (request, routed)
}

fn check(snapshot: &Snapshot, request: &RequestFacts, answer: Answer) -> Result<Routed, String> {
    match answer.choice {
        None => Ok(Routed::Declined),
        Some(Choice::Respond(status)) => Ok(Routed::Answer(PolicyAnswer {
            status: checked_status(status, answer.body.is_some())?,
            headers: checked_edits(answer.response_headers)?,
            body: answer.body.map(Bytes::from),
        })),
        Some(Choice::Forward(name)) => {
            let Some(service) = snapshot.services.index_of(&name) else {
                return Err(format!("there is no service {name:?}"));
            };
            let config = &snapshot.services.all[service].config;
            let timeout = checked_ms(answer.timeout_ms, "timeout")?;
            let attempt_timeout = checked_ms(answer.attempt_timeout_ms, "attempt timeout")?;
            let body_bytes_maxima = [answer.request_body_max, snapshot.config.limits.body_bytes];
            Ok(Routed::To(Target {
                service,
                path: checked_path(request, answer.path)?,
                timeout: timeout.map_or(config.request_timeout, |t| t.min(config.request_timeout)),
                attempt_timeout: attempt_timeout.or(config.attempt_timeout),
                body_bytes_max: body_bytes_maxima.into_iter().flatten().min().unwrap_or(u64::MAX),
                affinity: match config.balance {
                    Balance::ConsistentHash => affinity_key(request, answer.affinity.as_deref()),
                    Balance::P2c | Balance::RoundRobin | Balance::Random => 0,
                },
                request_edits: checked_edits(answer.request_headers)?,
                response_edits: checked_edits(answer.response_headers)?,
            }))
        }
    }
}

fn affinity_key(request: &RequestFacts, affinity: Option<&[u8]>) -> u64 {
    match (affinity, request.client) {
        (Some(key), _) => stable_hash(key),
        (None, IpAddr::V4(client)) => stable_hash(&client.octets()),
        (None, IpAddr::V6(client)) => stable_hash(&client.octets()),
    }
}

fn checked_status(status: u16, has_body: bool) -> Result<StatusCode, String> {
    if !(200..=599).contains(&status) {
        return Err(format!("{status} is not a status from 200 to 599"));
    }
    if has_body && matches!(status, 204 | 205 | 304) {
        return Err(format!("a response {status} has no body (RFC 9110 section 6.4.1)"));
    }
    StatusCode::from_u16(status).map_err(|error| error.to_string())
}

fn checked_ms(ms: Option<u64>, what: &str) -> Result<Option<Duration>, String> {
    match ms {
        Some(0) => Err(format!("a {what} of 0 ms")),
        Some(ms) => Ok(Some(Duration::from_millis(ms))),
        None => Ok(None),
    }
}

/// The path and query to send: the policy's path where it gave one, with the request's own query
/// unless the policy's path brings its own. It is sent as the policy has it, but what the gateway
/// refuses from clients (`path.rs`), such as a dot segment that came about by joining, it refuses
/// here too.
fn checked_path(request: &RequestFacts, path: Option<String>) -> Result<PathAndQuery, String> {
    let own = request.head.uri.path_and_query();
    let Some(path) = path else {
        return Ok(own.cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    };
    if !path.starts_with('/') {
        return Err(format!("this is no path that begins with `/`: {path:?}"));
    }
    // A fragment would be cut off in silence, and a space or a control character would end the
    // request line early.
    if let Some(bad) = path.bytes().find(|byte| !byte.is_ascii_graphic() || *byte == b'#') {
        return Err(format!("the byte 0x{bad:02x} is in the path {path:?}"));
    }
    let name_bytes = path.bytes().position(|byte| byte == b'?').unwrap_or(path.len());
    let name = &path[..name_bytes];
    if let Err(error) = path::normal(name, false) {
        return Err(format!("{error}: {path:?}"));
    }
    let mut whole = path;
    if let Some(query) = own.and_then(PathAndQuery::query)
        && name_bytes == whole.len()
    {
        whole.reserve_exact(1 + query.len());
        whole.push('?');
        whole.push_str(query);
    }
    // Counted, not copied: only a path that is refused is shown.
    let whole = Bytes::from(whole);
    PathAndQuery::from_maybe_shared(whole.clone())
        .map_err(|error| format!("{error}: {:?}", String::from_utf8_lossy(&whole)))
}

fn checked_edits(edits: Vec<(String, Option<Vec<u8>>)>) -> Result<Vec<Edit>, String> {
    edits.into_iter().map(|(name, value)| checked_edit(&name, value)).collect()
}

fn checked_edit(name: &str, value: Option<Vec<u8>>) -> Result<Edit, String> {
    let checked = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("this is not the name of a header: {name:?}"))?;
    if headers::is_host_owned(&checked) {
        return Err(format!("the header `{checked}` belongs to the gateway"));
    }
    let value =
        value
            .map(|value| HeaderValue::from_maybe_shared(Bytes::from(value)))
            .transpose()
            .map_err(|_| format!("the value for `{checked}` has a byte that no header may have"))?;
    Ok((checked, value))
}
