//! The monitor, on the control thread: checks every endpoint at start and every interval, tells the
//! breakers, and keeps what `/health/status` shows. It also answers `/health`, which asks the
//! services now.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::breaker::{Outcome, Source};
use crate::config;
use crate::local::health_page;
use crate::upstream::pool::connect_any;
use crate::upstream::{Check, Checks, Endpoint, Service, Services};

/// A healthy service's JSON is kept up to this size.
const DETAILS_BYTES_MAX: usize = 64 << 10;

/// Checks are spread by so much of the interval to either side, so that the gateways of a fleet do
/// not check in step.
const JITTER: f64 = 0.1;

/// Askers of `/health` that may wait at once; further ones are refused.
pub(crate) const ASKERS_MAX: usize = 1024;

/// Where an asker of `/health` waits for the page.
pub(crate) type Asker = oneshot::Sender<Bytes>;

/// Checks all endpoints for as long as the returned tasks live.
pub(crate) fn monitor(services: &Arc<Services>) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for (index, service) in services.all.iter().enumerate() {
        let Some(interval) = service.config.health.interval else { continue };
        for endpoint in 0..service.endpoints.len() {
            let watch = watch(services.clone(), index, endpoint, interval);
            tasks.push(tokio::task::spawn_local(watch));
        }
    }
    tasks
}

/// Watches one place of a service: the endpoint that is there, while there is one.
async fn watch(services: Arc<Services>, service: usize, endpoint: usize, interval: Duration) {
    let (of, place) = (&services.all[service], endpoint);
    let (watched, config) = (&of.endpoints[endpoint], &of.config.health);
    let mut history = VecDeque::new();
    let mut incarnation = watched.incarnation();
    loop {
        let moved = of.moved.notified();
        if !of.present().contains(place) {
            moved.await;
            continue;
        }
        if incarnation != watched.incarnation() {
            incarnation = watched.incarnation();
            history.clear();
        }
        // While the circuit is open no check is sent; half-open, the check may be its probe.
        if let Ok(permit) = watched.breaker.admit(&of.rules, services.now_ms(), Source::Check) {
            if let Some(change) = permit.transition() {
                services.circuit_changed(service, endpoint, change, Source::Check, None);
            }
            let check = check(watched, config).await;
            if incarnation != watched.incarnation() {
                continue; // What was asked is gone, and says nothing about what came after it.
            }
            let outcome = if check.healthy() { Outcome::Success } else { Outcome::Fault };
            let error = check.error.clone();
            note(watched, &mut history, config.history, check);
            warn_of_first_failure(of, watched);
            if let Some(change) = permit.settle(&of.rules, services.now_ms(), outcome) {
                services.circuit_changed(service, endpoint, change, Source::Check, error);
            }
        }
        let spread = 1.0 + JITTER * (2.0 * fastrand::f64() - 1.0);
        let next = tokio::time::Instant::now() + interval.mul_f64(spread);
        // Another address in this place is checked at once.
        while incarnation == watched.incarnation() {
            let moved = of.moved.notified();
            if tokio::time::timeout_at(next, moved).await.is_err() {
                break;
            }
        }
    }
}

/// Adds a check to what is known.
fn note(endpoint: &Endpoint, history: &mut VecDeque<bool>, history_max: usize, check: Check) {
    if history.len() == history_max {
        history.pop_front();
    }
    history.push_back(check.healthy());
    let up = history.iter().filter(|healthy| **healthy).count();
    let before = endpoint.checks.load().consecutive_failures;
    endpoint.checks.store(Arc::new(Checks {
        consecutive_failures: if check.healthy() { 0 } else { before.saturating_add(1) },
        uptime_percentage: 100.0 * up as f64 / history.len() as f64,
        last: Some(check),
    }));
}

/// One line for each row of failures, while there is time to act on it.
fn warn_of_first_failure(service: &Service, endpoint: &Endpoint) {
    let checks = endpoint.checks.load();
    let (1, Some(error)) =
        (checks.consecutive_failures, checks.last.as_ref().and_then(|last| last.error.as_deref()))
    else {
        return;
    };
    let help = format!(
        "after {} failures in a row its circuit opens; services.{name}.health.path names another page to ask \
         for, services.{name}.health.interval = \"off\" has none asked for",
        service.config.breaker.failure_threshold,
        name = service.name
    );
    let (name, url) = (&*service.name, endpoint.url());
    tracing::warn!(service = name, endpoint = url.as_str(), error, help, "a health check failed");
}

/// Asks one endpoint how it is: healthy on 2xx.
async fn check(endpoint: &Endpoint, config: &config::Health) -> Check {
    let began = Instant::now();
    let answered = match tokio::time::timeout(config.timeout, ask(endpoint, &config.path)).await {
        Ok(answered) => answered,
        Err(_) => {
            endpoint.checks_timed_out.fetch_add(1, Ordering::Relaxed);
            Err(format!("no answer within {:?}", config.timeout))
        }
    };
    let (error, details) = match answered {
        Ok(details) => (None, details),
        Err(error) => (Some(error), Map::new()),
    };
    Check { at: SystemTime::now(), took: began.elapsed(), error, details }
}

async fn ask(endpoint: &Endpoint, path: &str) -> Result<Map<String, Value>, String> {
    let addresses = endpoint.addresses.load_full();
    if addresses.is_empty() {
        return Err(format!("the name {} cannot be resolved", endpoint.config.host));
    }
    let stream = connect_any(&addresses).await.map_err(|error| error.to_string())?;
    // A connection of its own: that the service accepts one is part of being well.
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let moving = AbortOnDrop(tokio::task::spawn_local(async move {
        let _ = connection.await; // Its errors reach the request.
    }));
    let request = Request::get(path)
        .header(HOST, endpoint.authority.clone())
        .header(USER_AGENT, concat!("orchestrator/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.5"))
        .header(CONNECTION, HeaderValue::from_static("close"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| describe(&error))?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("GET {path} answered {status}"));
    }
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| describe(&error))?;
        if let Some(data) = frame.data_ref() {
            if bytes.len() + data.len() > DETAILS_BYTES_MAX {
                return Ok(Map::new());
            }
            bytes.extend_from_slice(data);
        }
    }
    drop(moving);
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(details)) => Ok(details),
        _ => Ok(Map::new()),
    }
}

/// hyper's own words say the kind of an error; its source says what happened.
fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers `/health`: all who ask before a round is over share its answer.
///
/// A round asks every endpoint, open circuits too, and changes neither breakers nor the history:
/// clients must not be able to move them by asking.
pub(crate) async fn answer_askers(services: Arc<Services>, mut asked: mpsc::Receiver<Asker>) {
    while let Some(first) = asked.recv().await {
        let mut askers = vec![first];
        while let Ok(next) = asked.try_recv() {
            askers.push(next);
        }
        let rounds = services.all.iter().map(|service| {
            join_all(
                service.endpoints_now().map(|endpoint| check(endpoint, &service.config.health)),
            )
        });
        let page = health_page(&services, &join_all(rounds).await);
        // Who came during the round shares its answer: nothing in it is older than its start.
        while let Ok(next) = asked.try_recv() {
            askers.push(next);
        }
        for asker in askers {
            let _ = asker.send(page.clone()); // Gone: the client left.
        }
    }
}
