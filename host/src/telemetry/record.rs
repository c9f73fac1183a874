//! What is remembered of one exchange, and written once, at its end: the access-log line and the
//! request's count. Dropping the record is that end, however it came about.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use http::{Method, Uri, request};
use tokio::time::Instant;

use crate::body::RequestBody;
use crate::exchange::Exchange;
use crate::headers::Caller;
use crate::respond::Refusal;
use crate::telemetry::access::Line;
use crate::telemetry::metrics::Served;
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
    /// Nothing moved in the tunnel for `proxy.tunnel_idle_timeout`.
    TunnelIdle,
    /// One side of the tunnel broke off.
    TunnelBroken,
}

#[derive(Debug)]
pub(crate) struct Record {
    connection: Rc<Connection>,
    services: LocalServices,
    arrived: SystemTime,
    started: Instant,
    request_id: http::HeaderValue,
    method: Method,
    /// As it was sent: what the path rule made of it, and the policy, is the service's to log.
    uri: Uri,
    caller: Rc<Caller>,
    body: Rc<RequestBody>,
    /// 0 until the response was made; a client that left before got none.
    pub(crate) status: u16,
    pub(crate) bytes_out: u64,
    pub(crate) service: Option<usize>,
    pub(crate) endpoint: Option<usize>,
    pub(crate) route: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) decision: Option<Duration>,
    /// One of the gateway's own pages.
    pub(crate) own: bool,
    /// Why there was nothing to pass on.
    why: Option<&'static str>,
    end: Option<End>,
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
        // Boxed, since it moves from the exchange into the response's body.
        Box::new(Record {
            connection: exchange.connection.clone(),
            services: exchange.snapshot.services.clone(),
            arrived: SystemTime::now(),
            started,
            request_id: exchange.request_id.clone(),
            method: head.method.clone(),
            uri: head.uri.clone(),
            caller: exchange.caller.clone(),
            body: exchange.body.clone(),
            status: 0,
            bytes_out: 0,
            service: None,
            endpoint: None,
            route: None,
            attempts: 0,
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
        self.method == Method::HEAD
    }

    /// The first end counts.
    pub(crate) fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// So much came from the client and went to it through a tunnel.
    pub(crate) fn tunnelled(&mut self, from_client: u64, to_client: u64) {
        self.body.add_bytes(from_client);
        self.bytes_out += to_client;
    }

    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.why = super::labels::why(refusal);
    }

    fn why(&self) -> &'static str {
        if self.end.is_none() && self.connection.worker.cutting.get() {
            return "drain_timeout";
        }
        match (self.end.unwrap_or(End::ClientGone), self.why) {
            (End::Done, Some(refused)) => refused,
            (End::Done, None) => "done",
            (End::ClientGone, _) => "client_gone",
            (End::UpstreamLost, _) => "upstream_lost",
            (End::UpstreamIdle, _) => "upstream_idle",
            (End::TunnelIdle, _) => "tunnel_idle",
            (End::TunnelBroken, _) => "tunnel_broken",
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let now = Instant::now();
        let worker = &self.connection.worker;
        let status = if self.status == 0 { CLIENT_GONE } else { self.status };
        let served = match (self.service, self.own) {
            (Some(service), _) => Served::Service(service),
            (None, true) => Served::Gateway,
            (None, false) => Served::None,
        };
        worker.counters.request(served, status);
        let service = self.service.map(|service| &self.services.all[service]);
        let endpoint = service.zip(self.endpoint).map(|(service, at)| &service.endpoints[at]);
        let url = endpoint.map(Endpoint::url);
        worker.log(&Line {
            arrived: self.arrived,
            request_id: self.request_id.to_str().unwrap_or_default(),
            client: self.caller.text.to_str().unwrap_or_default(),
            method: self.method.as_str(),
            path: self.uri.path(),
            query: self.uri.query(),
            status,
            bytes_in: self.body.bytes(),
            bytes_out: self.bytes_out,
            duration: now - self.started,
            service: service.map(|service| &*service.name),
            endpoint: url.as_ref().map(|url| url.as_str()),
            route: self.route.as_deref(),
            attempts: self.attempts,
            decision: self.decision,
            why: self.why(),
        });
        let unread = !self.body.whole();
        self.connection.meter.exchange_ends(now, unread);
        // Where the client has left, nobody sends; where the worker ends, nobody reads.
        if unread && self.status != 0 && !worker.cutting.get() {
            self.body.clone().discard();
        }
    }
}
