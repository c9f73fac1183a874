//! What is remembered of one exchange, and written once, at its end: the access-log line and the
//! request's count. Dropping the record is that end, however it came about.

use std::array;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::uri::PathAndQuery;
use http::{Uri, request};
use tokio::time::Instant;

use crate::body::RequestBody;
use crate::exchange::Exchange;
use crate::forward::{self, Attempt};
use crate::headers::Caller;
use crate::policy::{Kind, Version};
use crate::respond::Refusal;
use crate::telemetry::access::{Line, Outcome, TRIED_MAX, Tried};
use crate::telemetry::metrics::{AttemptResult, Attempted, Counters, Ended, Method, Served, Why};
use crate::upstream::{Endpoint, LocalServices};
use crate::worker::Connection;

/// Why an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The response went out whole.
    Done,
    /// The client left before that.
    ClientGone,
    /// The service broke off its response.
    UpstreamLost,
    /// The service stopped sending its response.
    UpstreamIdle,
    /// The client sent its request too slowly, after the response had begun.
    ClientSlow,
    /// Nothing moved in the tunnel for `proxy.tunnel_idle_timeout`.
    TunnelIdle,
    /// One side of the tunnel broke off.
    TunnelBroken,
}

#[derive(Debug)]
pub(crate) struct Record {
    connection: Rc<Connection>,
    services: LocalServices,
    versions: Rc<Versions>,
    /// Whether routing, and retry, fell back to their last good versions.
    fell_back: [bool; Kind::ALL.len()],
    arrived: SystemTime,
    started: Instant,
    request_id: http::HeaderValue,
    method: http::Method,
    counted_method: Method,
    /// As it was sent: what the path rule made of it, and the policy, is the service's to log.
    uri: Uri,
    version: http::Version,
    caller: Rc<Caller>,
    body: Rc<RequestBody>,
    /// 0 until the response was made; a client that left before got none.
    pub(crate) status: u16,
    pub(crate) bytes_out: u64,
    pub(crate) service: Option<usize>,
    pub(crate) route: Option<String>,
    attempts: Attempts,
    pub(crate) decision: Option<Duration>,
    /// One of the gateway's own pages.
    pub(crate) own: bool,
    /// Why there was nothing to pass on.
    why: Option<Why>,
    end: Option<End>,
}

/// The names of the policies' versions that decide about a request. The names alone, for the versions
/// themselves are let go of when the response's head is out.
#[derive(Debug, Clone)]
pub(crate) struct Versions {
    pub(crate) routing: Arc<str>,
    pub(crate) retry: Arc<str>,
}

/// A request's attempts, the first [`TRIED_MAX`] of them one by one.
#[derive(Debug)]
struct Attempts {
    count: u32,
    tried: [Past; TRIED_MAX],
    /// Endpoint and beginning of the one under way.
    now: Option<(usize, Instant)>,
    last_endpoint: Option<usize>,
    last_ended: Option<Instant>,
    /// All of them together.
    took: Duration,
    /// When the last response's head came, where the last attempt brought one.
    head_at: Option<Instant>,
}

/// An attempt that is over, in little space: there are ten of it in each record.
#[derive(Debug, Clone, Copy)]
struct Past {
    endpoint: u16,
    /// 0: there was no response.
    status: u16,
    why: Why,
    took_us: u32,
    after_us: u32,
}

/// The status in the log of a request whose client left before there was a response, as nginx
/// writes it.
const CLIENT_GONE: u16 = 499;

impl Record {
    pub(crate) fn begin(
        exchange: &Exchange,
        head: &request::Parts,
        started: Instant,
    ) -> Box<Record> {
        let counted_method = Method::from(&head.method);
        exchange.worker().counters.request_begun(counted_method);
        // Boxed, since it moves from the exchange into the response's body.
        Box::new(Record {
            connection: exchange.connection.clone(),
            services: exchange.snapshot.services.clone(),
            versions: exchange.snapshot.versions.clone(),
            fell_back: [false; Kind::ALL.len()],
            arrived: SystemTime::now(),
            started,
            request_id: exchange.request_id.clone(),
            method: head.method.clone(),
            counted_method,
            uri: head.uri.clone(),
            caller: exchange.caller.clone(),
            version: head.version,
            body: exchange.body.clone(),
            status: 0,
            bytes_out: 0,
            service: None,
            route: None,
            attempts: Attempts::default(),
            decision: None,
            own: false,
            why: None,
            end: None,
        })
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn arrived_ms(&self) -> u64 {
        let since = self.arrived.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        since.as_millis() as u64
    }

    pub(crate) fn body(&self) -> &Rc<RequestBody> {
        &self.body
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == http::Method::HEAD
    }

    /// How many attempts have begun.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts.count
    }

    pub(crate) fn attempt_begins(&mut self, endpoint: usize, now: Instant) {
        self.attempts.count += 1;
        self.attempts.now = Some((endpoint, now));
        self.attempts.last_endpoint = Some(endpoint);
        self.attempts.head_at = None;
    }

    /// Returns when it ended.
    pub(crate) fn attempt_ended(&mut self, attempt: &Attempt) -> Instant {
        let now = Instant::now();
        let (status, why) = match &attempt.ended {
            forward::Ended::Response(answer) => {
                self.attempts.head_at = Some(now);
                (Some(answer.response.status().as_u16()), Why::Done)
            }
            forward::Ended::Failed(failure) => (None, failure.into()),
        };
        self.note_attempt(now, (&attempt.ended).into(), status, why);
        if let forward::Ended::Failed(failure) = &attempt.ended
            && let Some(limit) = super::labels::limit(failure)
            && let Some(service) = self.service
        {
            self.connection.worker.counters.service_limit(service, limit);
        }
        now
    }

    fn note_attempt(&mut self, now: Instant, result: AttemptResult, status: Option<u16>, why: Why) {
        let Some((endpoint, began)) = self.attempts.now.take() else { return };
        let took = now - began;
        let after = began - self.attempts.last_ended.unwrap_or(self.started);
        self.attempts.note(endpoint, now, took, after, (status, why));
        if let Some(service) = self.service {
            self.connection.worker.counters.attempted(&Attempted {
                service,
                endpoint,
                method: self.counted_method,
                result,
                status,
                why,
                took,
            });
        }
    }

    /// A version failed, and from now on this one decides in its place.
    pub(crate) fn falls_back(&mut self, last_good: &Version) {
        let kind = last_good.kind();
        self.fell_back[kind as usize] = true;
        let versions = Rc::make_mut(&mut self.versions);
        match kind {
            Kind::Routing => versions.routing = last_good.name().clone(),
            Kind::Retry => versions.retry = last_good.name().clone(),
        }
        self.counters().fell_back(kind);
    }

    pub(crate) fn fell_back(&self, kind: Kind) -> bool {
        self.fell_back[kind as usize]
    }

    /// The first end counts.
    pub(crate) fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// The response takes its time: lets go of the buffer that the request's head was read into.
    pub(crate) fn settle_down(&mut self) {
        if let Some(target) = self.uri.path_and_query()
            && let Ok(copy) = PathAndQuery::try_from(target.as_str())
        {
            self.uri = Uri::from(copy);
        }
    }

    /// The response breaks off. To an HTTP/1.0 client its end is that of the connection, however it came about.
    pub(crate) fn breaks_off(&self) {
        if self.version == http::Version::HTTP_10 {
            self.connection.meter.break_off();
        }
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.connection.worker.counters
    }

    /// So much came from the client and went to it through a tunnel.
    pub(crate) fn tunnelled(&mut self, from_client: u64, to_client: u64) {
        self.body.add_bytes(from_client);
        self.bytes_out += to_client;
    }

    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.why = super::labels::why(refusal);
    }

    fn why(&self) -> Why {
        if self.end.is_none() && self.connection.worker.cutting.get() {
            return Why::DrainTimeout;
        }
        match (self.end.unwrap_or(End::ClientGone), self.why) {
            (End::Done, Some(refused)) => refused,
            (End::Done, None) => Why::Done,
            (End::ClientGone, _) => Why::ClientGone,
            (End::UpstreamLost, _) => Why::UpstreamLost,
            (End::UpstreamIdle, _) => Why::UpstreamIdle,
            (End::ClientSlow, _) => Why::ClientSlow,
            (End::TunnelIdle, _) => Why::TunnelIdle,
            (End::TunnelBroken, _) => Why::TunnelBroken,
        }
    }
}

impl Default for Attempts {
    fn default() -> Attempts {
        let none = Past { endpoint: 0, status: 0, why: Why::Done, took_us: 0, after_us: 0 };
        Attempts {
            count: 0,
            tried: [none; TRIED_MAX],
            now: None,
            last_endpoint: None,
            last_ended: None,
            took: Duration::ZERO,
            head_at: None,
        }
    }
}

impl Attempts {
    fn note(
        &mut self,
        endpoint: usize,
        now: Instant,
        took: Duration,
        after: Duration,
        (status, why): (Option<u16>, Why),
    ) {
        self.last_ended = Some(now);
        self.took += took;
        let microseconds = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        if let Some(place) = self.tried.get_mut(self.count as usize - 1) {
            *place = Past {
                endpoint: endpoint as u16, // A service has at most 256.
                status: status.unwrap_or(0),
                why,
                took_us: microseconds(took),
                after_us: microseconds(after),
            };
        }
    }
}

impl Past {
    fn shown<'a>(&self, endpoint: &'a str) -> Tried<'a> {
        Tried {
            endpoint,
            outcome: match self.status {
                0 => Outcome::Failed(self.why.word()),
                status => Outcome::Status(status),
            },
            took: Duration::from_micros(self.took_us.into()),
            after: Duration::from_micros(self.after_us.into()),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let now = Instant::now();
        let why = self.why();
        // An attempt that is still under way was given up with the exchange.
        self.note_attempt(now, AttemptResult::Client, None, why);
        let worker = &self.connection.worker;
        let served = match (self.service, self.own) {
            (Some(service), _) => Served::Service(service),
            (None, true) => Served::Gateway,
            (None, false) => Served::None,
        };
        let status = (self.status != 0).then_some(self.status);
        worker.counters.request_ended(&Ended {
            served,
            method: self.counted_method,
            status,
            route: self.route.as_deref(),
            why,
            took: now - self.started,
            bytes_in: self.body.bytes(),
            bytes_out: self.bytes_out,
        });
        // Most requests have one attempt, and room for ten costs something.
        match self.attempts.count {
            0..=1 => self.log::<1>(now, why),
            _ => self.log::<TRIED_MAX>(now, why),
        }
        let unread = !self.body.whole();
        self.connection.meter.exchange_ends(now, unread);
        // Where the client has left, nobody sends; where the worker ends, nobody reads.
        let worker = &self.connection.worker;
        if unread && self.status != 0 && !worker.cutting.get() {
            self.body.clone().discard(self.connection.meter.clone());
        }
    }
}

impl Record {
    /// Writes the line, with up to `SHOWN` attempts.
    fn log<const SHOWN: usize>(&self, now: Instant, why: Why) {
        let service = self.service.map(|service| &self.services.all[service]);
        let attempts = &self.attempts;
        let endpoint = |at: u16| service.and_then(|it| it.endpoints.get(usize::from(at)));
        let count = SHOWN.min(attempts.count as usize);
        // What they are called may change with their addresses: held for as long as it is read.
        let urls: [_; SHOWN] = array::from_fn(|at| {
            let past = attempts.tried.get(at).filter(|_| at < count)?;
            endpoint(past.endpoint).map(Endpoint::url)
        });
        let last_url = attempts.last_endpoint.and_then(|at| endpoint(at as u16)).map(Endpoint::url);
        let mut tried = [Tried::default(); SHOWN];
        let shown = &mut tried[..count];
        for ((shown, past), url) in shown.iter_mut().zip(&attempts.tried).zip(&urls) {
            *shown = past.shown(url.as_ref().map_or("", |url| url.as_str()));
        }
        self.connection.worker.log(&Line {
            arrived: self.arrived,
            request_id: self.request_id.to_str().unwrap_or_default(),
            client: self.caller.text.to_str().unwrap_or_default(),
            method: self.method.as_str(),
            path: self.uri.path(),
            query: self.uri.query(),
            protocol: if self.version == http::Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" },
            status: if self.status == 0 { CLIENT_GONE } else { self.status },
            bytes_in: self.body.bytes(),
            bytes_out: self.bytes_out,
            duration: now - self.started,
            head: attempts.head_at.map(|head| head - self.started),
            upstream: (attempts.count > 0).then_some(attempts.took),
            service: service.map(|service| &*service.name),
            endpoint: last_url.as_ref().map(|url| url.as_str()),
            route: self.route.as_deref(),
            attempts: attempts.count,
            tried: shown,
            decision: self.decision,
            routing_version: &self.versions.routing,
            retry_version: &self.versions.retry,
            why: why.word(),
        });
    }
}
