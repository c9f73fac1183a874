//! One attempt: a connection, the request rewritten for the service, and what came of it.
//!
//! Before: `admit.rs`. Next: `judge.rs` where it failed, `respond.rs` where not.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body;
use tokio::time::Instant;

use crate::body::{AttemptBody, UploadError};
use crate::breaker::{self, Permit, Source};
use crate::config::HostHeader;
use crate::exchange::Exchange;
use crate::headers::{self, Hop};
use crate::http1::{self, Incoming, Outgoing};
use crate::policy::{self, RequestFacts};
use crate::route::Target;
use crate::upgrade;
use crate::upstream::InFlight;

use crate::upstream::pool::Lease;

/// What one attempt came to.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) ended: Ended,
    /// Bytes of the request were written, so that it may have taken effect.
    pub(crate) sent: bool,
}

#[derive(Debug)]
pub(crate) enum Ended {
    /// A response's head came.
    Response(Box<Answer>),
    Failed(Failure),
}

/// A response whose body may still be on the way.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) lease: Lease,
    pub(crate) in_flight: InFlight,
}

/// Why an attempt brought no response. The text is for the log and, in general words, the client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("connection lost: {0}")]
    Lost(http1::Error),
    /// A response that says what it may not.
    #[error("invalid response: {0}")]
    Invalid(&'static str),
    /// The service was given this time.
    #[error("no answer for {0:?}")]
    AttemptTimeout(Duration),
    /// The request's whole time was over, of which this attempt was given a part.
    #[error("no answer within the request's {total:?}, {given:?} of it for this attempt")]
    RequestTimeout { total: Duration, given: Duration },
    /// The service stopped taking the request's body.
    #[error("took nothing of the body for {0:?}")]
    BodyStalled(Duration),
    /// The client stopped sending the request's body.
    #[error("the client sent nothing of the body for {0:?}")]
    ClientStalled(Duration),
    /// The client sent the request's body at less than `limits.body_rate_min`.
    #[error("the client sends the body too slowly")]
    ClientSlow,
    #[error("the client broke off the request's body: {0}")]
    ClientBroke(UploadError),
    /// The request's body has more bytes than it may.
    #[error("the request's body is larger than allowed")]
    BodyTooLarge,
}

impl Attempt {
    /// Whether there is something to judge: no response, or one that reports an error.
    pub(crate) fn failed(&self) -> bool {
        match &self.ended {
            Ended::Response(answer) => answer.response.status().as_u16() >= 400,
            Ended::Failed(_) => true,
        }
    }

    /// The outcome in the contract's words; none where the service is not what failed, or where no
    /// time is left to do better.
    pub(crate) fn outcome(&self) -> Option<policy::Outcome> {
        match &self.ended {
            Ended::Response(answer) => {
                Some(policy::Outcome::Status(answer.response.status().as_u16()))
            }
            Ended::Failed(Failure::Connect(_)) => Some(policy::Outcome::ConnectFailed),
            Ended::Failed(Failure::Lost(_) | Failure::Invalid(_)) => {
                Some(policy::Outcome::ConnectionLost)
            }
            Ended::Failed(Failure::AttemptTimeout(_)) => Some(policy::Outcome::Timeout),
            Ended::Failed(
                Failure::RequestTimeout { .. }
                | Failure::BodyStalled(_)
                | Failure::ClientStalled(_)
                | Failure::ClientSlow
                | Failure::ClientBroke(_)
                | Failure::BodyTooLarge,
            ) => None,
        }
    }

    pub(crate) fn response_headers(&self) -> Option<&HeaderMap> {
        match &self.ended {
            Ended::Response(answer) => Some(answer.response.headers()),
            Ended::Failed(_) => None,
        }
    }

    /// Tells the endpoint's breaker.
    pub(crate) fn settle(
        &self,
        exchange: &Exchange,
        service: usize,
        endpoint: usize,
        permit: Permit<'_>,
        ended: Instant,
    ) {
        let services = &exchange.snapshot.services;
        let its = &services.all[service];
        if self.looks_fast() {
            its.endpoints[endpoint].faults.add(services.now_ms());
        }
        let Some(outcome) = self.for_breaker(its.config.breaker.timeout_floor) else {
            return; // Dropping the permit is neutral.
        };
        let now = services.ms_at(ended.into_std());
        if let Some(change) = permit.settle(&its.rules, now, outcome) {
            let cause = (outcome == breaker::Outcome::Fault).then(|| self.cause());
            services.circuit_changed(service, endpoint, change, Source::Traffic, cause);
        }
    }

    /// What the endpoint did wrong, in words.
    fn cause(&self) -> String {
        match &self.ended {
            Ended::Response(answer) => format!("answered {}", answer.response.status()),
            Ended::Failed(failure) => failure.to_string(),
        }
    }

    /// Whether the endpoint failed in a way that would make it look fast to the balancer: more than
    /// what the breaker counts, for an endpoint that answers 500 or 429 does so at once, too.
    fn looks_fast(&self) -> bool {
        match &self.ended {
            Ended::Response(answer) => {
                let status = answer.response.status().as_u16();
                status >= 500 || status == 429
            }
            Ended::Failed(Failure::ClientStalled(_) | Failure::ClientBroke(_)) => false,
            Ended::Failed(_) => true,
        }
    }

    /// None: neutral.
    fn for_breaker(&self, timeout_floor: Duration) -> Option<breaker::Outcome> {
        let fault = match &self.ended {
            Ended::Response(answer) => {
                matches!(answer.response.status().as_u16(), 502..=504)
            }
            Ended::Failed(Failure::Connect(_) | Failure::Lost(_) | Failure::Invalid(_)) => true,
            // A policy's tiny timeout must not open anybody's circuit.
            Ended::Failed(
                Failure::AttemptTimeout(time)
                | Failure::RequestTimeout { given: time, .. }
                | Failure::BodyStalled(time),
            ) => {
                if *time < timeout_floor {
                    return None;
                }
                true
            }
            Ended::Failed(
                Failure::ClientStalled(_)
                | Failure::ClientSlow
                | Failure::ClientBroke(_)
                | Failure::BodyTooLarge,
            ) => return None,
        };
        Some(if fault { breaker::Outcome::Fault } else { breaker::Outcome::Success })
    }
}

/// The deadlines of a request. Its total time begins when it has arrived whole; until then only
/// standing still for `idle_timeout` ends it, so that long uploads live.
#[derive(Debug)]
pub(crate) struct Clock<'a> {
    exchange: &'a Exchange,
    total: Duration,
    attempt: Option<Duration>,
    idle: Duration,
}

impl<'a> Clock<'a> {
    pub(crate) fn new(exchange: &'a Exchange, target: &Target) -> Clock<'a> {
        Clock {
            exchange,
            total: target.timeout,
            attempt: target.attempt_timeout,
            idle: exchange.snapshot.services.all[target.service].config.idle_timeout,
        }
    }

    /// Since the request arrived whole.
    pub(crate) fn elapsed(&self, now: Instant) -> Duration {
        self.exchange
            .body
            .time_runs_since()
            .map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    /// Until the request's time is over.
    pub(crate) fn remaining(&self, now: Instant) -> Duration {
        self.total.saturating_sub(self.elapsed(now))
    }

    /// Ready with the reason once the attempt that began at `began` has no time left.
    fn poll_expired(&self, began: Instant, cx: &mut Context<'_>) -> Poll<Failure> {
        let body = &self.exchange.body;
        if !body.whole() {
            body.watch(cx);
        }
        loop {
            let (deadline, failure) = self.deadline(began);
            ready!(self.exchange.connection.timer.poll_until(deadline, cx));
            if matches!(failure, Failure::ClientSlow) && !body.too_slow(deadline) {
                continue;
            }
            return Poll::Ready(failure);
        }
    }

    /// What ends the attempt next, and when.
    fn deadline(&self, began: Instant) -> (Instant, Failure) {
        let body = &self.exchange.body;
        match (body.time_runs_since(), self.attempt) {
            (None, _) => {
                let stalled = body.moved_at() + self.idle;
                match body.pace_due() {
                    Some(due) if due < stalled => (due, Failure::ClientSlow),
                    _ if body.starved() => (stalled, Failure::ClientStalled(self.idle)),
                    _ => (stalled, Failure::BodyStalled(self.idle)),
                }
            }
            (Some(since), Some(attempt)) if since.max(began) + attempt < since + self.total => {
                (since.max(began) + attempt, Failure::AttemptTimeout(attempt))
            }
            (Some(since), _) => {
                let deadline = since + self.total;
                let given = deadline.saturating_duration_since(since.max(began));
                (deadline, Failure::RequestTimeout { total: self.total, given })
            }
        }
    }

    /// The future's output, unless the attempt's time is over first.
    fn bound<T>(
        &self,
        began: Instant,
        mut future: Pin<&mut impl Future<Output = T>>,
    ) -> impl Future<Output = Result<T, Failure>> {
        std::future::poll_fn(move |cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            self.poll_expired(began, cx).map(Err)
        })
    }
}

/// Sends the request to one endpoint and waits for the response's head.
///
/// An idle connection that turns out to be dead, before a byte was answered, is replaced by a new
/// one without counting, where the request is unsent or idempotent.
pub(crate) async fn forward(
    exchange: &Exchange,
    request: &RequestFacts,
    target: &Target,
    endpoint: usize,
    clock: &Clock<'_>,
    began: Instant,
) -> Attempt {
    let body = &exchange.body;
    body.attempt_begins(began);
    let in_flight = InFlight::begin(&exchange.snapshot.services, target.service, endpoint);
    let pool = &exchange.worker().pool;
    // What cannot be sent again shall not go out on a connection that is dead already.
    let careful = !is_idempotent(&request.head.method);
    let mut idle = pool.take_idle(target.service, endpoint, began, careful);
    loop {
        let mut lease = match idle.take() {
            Some(lease) => lease,
            None => match Box::pin(connect(exchange, target, endpoint, clock, began)).await {
                Ok(lease) => lease,
                Err(failure) => return Attempt { ended: Ended::Failed(failure), sent: false },
            },
        };
        let method = &request.head.method;
        let upgrade = upgrade::asked_for(&request.head);
        let upgrading = upgrade.is_some();
        if upgrading {
            lease.will_upgrade();
        }
        // Again, too, where the attempt before ended without asking: the client still waits.
        let asks =
            exchange.expectation.as_ref().is_some_and(|it| !it.is_met() && !body.has_begun());
        let mut outgoing = outgoing(exchange, request, target, endpoint, (upgrade, asks));
        let continues = || {
            if let Some(expectation) = exchange.expectation.as_ref().filter(|_| asks) {
                expectation.pass_on(&exchange.connection.meter);
                body.was_asked_for();
            }
        };
        let sent = {
            let sending = pin!(lease.send(&mut outgoing, method, continues));
            clock.bound(began, sending).await
        };
        let (failure, unsent) = match sent {
            Ok(Ok(response)) => {
                if !outgoing.is_sent() {
                    lease.send_rest(outgoing);
                }
                match what_is_wrong(&response, upgrading, &lease) {
                    Some(wrong) => (Failure::Invalid(wrong), false),
                    None => {
                        let answer = Box::new(Answer { response, lease, in_flight });
                        return Attempt { ended: Ended::Response(answer), sent: true };
                    }
                }
            }
            Ok(Err(_)) if body.too_large() => (Failure::BodyTooLarge, false),
            Ok(Err(http1::Error::Request(error))) if !body.whole() => {
                (Failure::ClientBroke(error), false)
            }
            Ok(Err(error)) => (Failure::Lost(error), !lease.wrote()),
            Err(expired) => (expired, !lease.wrote()),
        };
        let stale = matches!(failure, Failure::Lost(_)) && lease.reused && !lease.heard();
        let again = unsent || is_idempotent(&request.head.method);
        if stale && again && body.replayable() {
            continue;
        }
        return Attempt { ended: Ended::Failed(failure), sent: !unsent };
    }
}

async fn connect(
    exchange: &Exchange,
    target: &Target,
    endpoint: usize,
    clock: &Clock<'_>,
    began: Instant,
) -> Result<Lease, Failure> {
    let service = &exchange.snapshot.services.all[target.service];
    let connect_timeout = service.config.connect_timeout;
    let addresses = service.endpoints[endpoint].addresses.load_full();
    let pool = &exchange.worker().pool;
    let connecting = pool.connect(target.service, endpoint, &addresses);
    let connecting = pin!(tokio::time::timeout(connect_timeout, connecting));
    match clock.bound(began, connecting).await? {
        Ok(connected) => connected.map_err(Failure::Connect),
        Err(_elapsed) => {
            let text = format!("no connection within {connect_timeout:?}");
            Err(Failure::Connect(io::Error::new(io::ErrorKind::TimedOut, text)))
        }
    }
}

/// What no client may get to see of a response, though its framing is good.
fn what_is_wrong(
    response: &Response<Incoming>,
    upgrading: bool,
    lease: &Lease,
) -> Option<&'static str> {
    let headers = response.headers();
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if !(upgrading && headers.contains_key(UPGRADE)) {
            return Some("it switches protocols unasked, or does not say to which");
        }
        if lease.is_sending() {
            return Some("it switches protocols before the request was whole");
        }
    }
    // Where there is no body, as in an answer to HEAD, nothing is framed by it.
    let is_framed = !response.body().is_end_stream();
    (is_framed && response.body().is_coded_otherwise())
        .then_some("its transfer coding is not `chunked` alone")
}

/// The request as the service gets it.
fn outgoing(
    exchange: &Exchange,
    request: &RequestFacts,
    target: &Target,
    endpoint: usize,
    (upgrade, expects): (Option<&HeaderValue>, bool),
) -> Outgoing<AttemptBody> {
    // Of a target in absolute form the host counts (RFC 9112 section 3.2.2).
    let target_host = request.head.uri.authority();
    let target_host = target_host.and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    let client_host = target_host.as_ref().or(request.head.headers.get(HOST));
    let service = &exchange.snapshot.services.all[target.service];
    let authority = &service.endpoints[endpoint].authority;
    let hop = Hop {
        caller: &exchange.caller,
        client_host,
        host: match service.config.host {
            HostHeader::Endpoint => authority,
            HostHeader::Client => client_host.unwrap_or(authority),
        },
        request_id: &exchange.request_id,
        version: request.head.version,
        edits: &target.request_edits,
        upgrade,
        expects,
    };
    let mut head = http1::request_line(&request.head.method, &target.path);
    let passing = headers::to_upstream(&mut head, &request.head.headers, &hop);
    Outgoing::request(head, passing, AttemptBody::of(&exchange.body))
}

/// RFC 9110 section 9.2.2.
pub(crate) fn is_idempotent(method: &http::Method) -> bool {
    use http::Method;
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE]
        .contains(method)
}
