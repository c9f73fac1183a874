//! One request from its head to its response's head: route, admit, forward, judge, respond.
//!
//! This is the only place that loops over attempts. What each step may come to is an enum; this
//! file decides which step follows. It is called by `http1.rs`, from `worker.rs`.

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderValue, Method, Response, request};
use http_body::Body;
use tokio::time::Instant;

use crate::admit::{Refused, admit};
use crate::body::{RequestBody, ResponseBody, UploadLimits};
use crate::breaker::{Breaker, Permit, Source};
use crate::expect::Expectation;
use crate::forward::{Attempt, Clock, Ended, forward};
use crate::headers::Caller;
use crate::http1::Incoming;
use crate::judge::{Verdict, judge};
use crate::policy::{Kind, RequestFacts};
use crate::respond::{self, Outcome, Refusal};
use crate::route::{Routed, Target, route};
use crate::snapshot::Snapshot;
use crate::telemetry::record::Record;
use crate::upstream::set::EndpointSet;
use crate::worker::{Connection, Worker};
use crate::{headers, local, path};

/// A request's body may hold the half-open slot of its endpoint for so long.
const TRIAL_UPLOAD_MAX: Duration = Duration::from_secs(1);

/// What the steps of one request have in common.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) connection: Rc<Connection>,
    /// The generation and the policy versions that this request keeps.
    pub(crate) snapshot: Rc<Snapshot>,
    pub(crate) body: Rc<RequestBody>,
    pub(crate) caller: Rc<Caller>,
    pub(crate) request_id: HeaderValue,
    /// The client waits to be asked for the body.
    pub(crate) expectation: Option<Expectation>,
}

impl Exchange {
    pub(crate) fn worker(&self) -> &Worker {
        &self.connection.worker
    }
}

/// Answers one request. Whatever happens, there is one response and one access-log line; when the
/// client leaves first, this future is dropped and the [`Record`] writes the line.
///
/// Boxed, since its size is that of the whole exchange, and connections that wait need no room for one. What few
/// requests come to is boxed within it, here and in what it calls: all of a thousand that are under way at once
/// would have room for that, and find less of the rest in the processor's cache.
pub(crate) fn exchange(
    connection: Rc<Connection>,
    head: request::Parts,
    incoming: Incoming,
) -> Pin<Box<impl Future<Output = Response<ResponseBody>>>> {
    let now = Instant::now();
    let snapshot = connection.worker.snapshot();
    let caller = connection.caller.of(&snapshot.config.server.trusted_proxies, &head.headers);
    let given_id = caller.trusted.then(|| headers::request_id(&head.headers)).flatten();
    let expectation = Expectation::of(&head, !incoming.is_end_stream());
    let body = RequestBody::new(incoming, now, UploadLimits::of(&snapshot.config));
    if expectation.is_some() {
        body.is_to_be_asked_for();
    }
    let exchange = Exchange {
        request_id: given_id.cloned().unwrap_or_else(|| connection.worker.new_request_id()),
        body,
        caller,
        snapshot,
        expectation,
        connection,
    };
    let mut record = Record::begin(&exchange, &head, now);
    let client = respond::Client::of(&head);
    let services = &exchange.snapshot.services;
    // Boxed, since it goes into the store of a policy's instance and back for each decision.
    let request = Box::new(RequestFacts {
        client: exchange.caller.address,
        scheme: exchange.caller.scheme,
        now_ms: record.arrived_ms(),
        seed: exchange.worker().random(),
        pace: exchange.connection.pace[Kind::Routing as usize].get(),
        services: match exchange.snapshot.notes_states {
            true => (0..services.all.len()).map(|it| Some(services.state(it))).collect(),
            false => Vec::new(),
        },
        head,
    });
    Box::pin(async move {
        let outcome = decide(&exchange, request, &mut record).await;
        respond::respond(&exchange, client, outcome, record)
    })
}

async fn decide(
    exchange: &Exchange,
    mut request: Box<RequestFacts>,
    record: &mut Record,
) -> Outcome {
    let snapshot = &exchange.snapshot;
    let head = &mut request.head;
    if let Err(reason) = headers::valid_host(head.version, &head.headers, &head.uri) {
        return Refusal::BadRequest(reason.to_string()).into();
    }
    if exchange.body.is_coded_otherwise() {
        let reason = "`chunked`, once, is the only transfer coding that this gateway takes";
        return Refusal::BadRequest(reason.into()).into();
    }
    let strict = snapshot.config.server.strict_paths;
    if let Err(reason) = path::settle(&mut head.uri, &head.method, strict) {
        return Refusal::BadRequest(reason.to_string()).into();
    }
    if let Some(preflight) = snapshot.cors.preflight(&head.method, &head.headers) {
        return Outcome::Preflight(preflight);
    }
    if let Some(page) = local::answer(exchange, head).await {
        record.own = true;
        return page;
    }
    if head.method == Method::CONNECT {
        return Refusal::BadRequest("this gateway is no tunnel for CONNECT".into()).into();
    }

    let (request, routed) = route(exchange, request, record).await;
    match routed {
        Ok(Routed::To(mut target)) => {
            record.service = Some(target.service);
            if !exchange.body.limit(target.body_bytes_max) {
                return Refusal::BodyTooLarge.into();
            }
            attempts(exchange, request, &mut target, record).await
        }
        Ok(Routed::Answer(answer)) => Outcome::Policy(answer),
        Ok(Routed::Declined) => Refusal::NoRoute.into(),
        Err(_logged) => Refusal::PolicyFault.into(),
    }
}

/// Tries until an attempt succeeds, the judge says stop or a limit is reached.
async fn attempts(
    exchange: &Exchange,
    mut request: Box<RequestFacts>,
    target: &mut Target,
    record: &mut Record,
) -> Outcome {
    let services = &exchange.snapshot.services;
    let service = &services.all[target.service];
    let mut now = Instant::now();
    service.budget.deposit(&service.budget_rules, services.ms_at(now.into_std()));
    let clock = Clock::new(exchange, target);
    let mut tried = Tried::default();
    // What the last attempt came to. It is kept until the next one has its permit: a circuit that
    // opens between attempts must not replace that answer.
    let mut last: Option<Attempt> = None;
    loop {
        let random = exchange.worker().random();
        let (endpoint, mut permit) = match admit(&exchange.snapshot, target, &tried, random, now) {
            Ok(admitted) => admitted,
            Err(Refused { retry_in }) => {
                exchange.body.release();
                return match last {
                    Some(attempt) => outcome_of(attempt, target),
                    None => Refusal::CircuitOpen { service: target.service, retry_in }.into(),
                };
            }
        };
        if let Some(change) = permit.transition() {
            services.circuit_changed(target.service, endpoint, change, Source::Traffic, None);
        }
        if let Some(Attempt { ended: Ended::Response(answer), .. }) = last.take() {
            respond::drain(answer.response.into_body(), answer.lease);
        }
        record.attempt_begins(endpoint, now);
        tried.add(endpoint);

        let breaker = &service.endpoints[endpoint].breaker;
        let attempt = {
            let attempt = pin!(forward(exchange, &request, target, endpoint, &clock, now));
            with_permit(attempt, &exchange.body, breaker, &mut permit).await
        };
        let ended = record.attempt_ended(&attempt);
        attempt.settle(exchange, target.service, endpoint, permit, ended);
        if !attempt.failed() {
            return outcome_of(attempt, target);
        }

        let verdict;
        // An answer that came before the request was whole: the rest is the next attempt's, if any.
        exchange.body.hold();
        let judged = judge(exchange, request, target, &attempt, &clock, &tried, record);
        (request, verdict) = Box::pin(judged).await;
        match verdict {
            Verdict::Stop => {
                exchange.body.release();
                return outcome_of(attempt, target);
            }
            Verdict::Again { delay, elsewhere } => {
                // The permit was settled above: a request in back-off holds no half-open slot.
                if !delay.is_zero() {
                    Box::pin(tokio::time::sleep(delay)).await;
                }
                now = Instant::now();
                tried.avoid = elsewhere;
                last = Some(attempt);
            }
        }
    }
}

/// What the attempt comes to. Where it holds the half-open slot, everybody waits for it, and nobody shall
/// wait for a client that takes its time with its body: its attempt goes on and counts for nothing.
async fn with_permit<'a>(
    mut attempt: Pin<&mut impl Future<Output = Attempt>>,
    body: &RequestBody,
    breaker: &'a Breaker,
    permit: &mut Permit<'a>,
) -> Attempt {
    while permit.is_trial() {
        match Box::pin(tokio::time::timeout(TRIAL_UPLOAD_MAX, attempt.as_mut())).await {
            Ok(attempt) => return attempt,
            Err(_) if body.is_on_its_way() => *permit = breaker.bypass(Source::Traffic),
            Err(_) => {}
        }
    }
    attempt.await
}

fn outcome_of(attempt: Attempt, target: &mut Target) -> Outcome {
    match attempt.ended {
        Ended::Response(answer) => {
            Outcome::Upstream { answer, edits: std::mem::take(&mut target.response_edits) }
        }
        Ended::Failed(failure) => Refusal::Failed { service: target.service, failure }.into(),
    }
}

/// The endpoints that this request has tried.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    endpoints: EndpointSet,
    /// The judge wants the next attempt elsewhere.
    avoid: bool,
}

impl Tried {
    fn add(&mut self, endpoint: usize) {
        self.endpoints.insert(endpoint);
    }

    pub(crate) fn endpoints(&self) -> EndpointSet {
        self.endpoints
    }

    /// Whether the balancer should pass this endpoint over while there are others.
    pub(crate) fn avoids(&self, endpoint: usize) -> bool {
        self.avoid && self.endpoints.contains(endpoint)
    }
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Outcome {
        Outcome::Refused(refusal)
    }
}
