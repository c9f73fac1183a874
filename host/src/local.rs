//! The gateway's own pages: `/`, `/health`, `/health/status`, `/docs`, `/openapi.json`.
//!
//! They are answered before routing. What they say about services comes from `upstream.rs` and the
//! monitor; `/health` alone asks the services, through the control thread.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, Method, Response};
use serde_json::{Map, Value, json};

use crate::breaker::{Circuit, Source};
use crate::config::Config;
use crate::exchange::Exchange;
use crate::policy::Health;
use crate::respond::{Outcome, Refusal};
use crate::snapshot::Snapshot;
use crate::upstream::{Check, Endpoint, Service, Services};

/// How long `/health` waits for the control thread beyond the checks' own timeout.
const HEALTH_GRACE: Duration = Duration::from_secs(2);

/// The page at this path, if it is one of the gateway's.
pub(crate) async fn answer(exchange: &Exchange, head: &http::request::Parts) -> Option<Outcome> {
    let snapshot = &exchange.snapshot;
    let server = &snapshot.config.server;
    if !server.pages {
        return None;
    }
    let page = Page::at(head.uri.path().strip_prefix(&*server.pages_prefix)?)?;
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Some(Outcome::Refused(Refusal::PageMethod));
    }
    Some(match page {
        Page::Root => json_page(&root(snapshot)),
        Page::Health => {
            let timeouts = snapshot.services.all.iter().map(|it| it.config.health.timeout);
            let patience = timeouts.max().unwrap_or_default() + HEALTH_GRACE;
            let asked = tokio::time::timeout(patience, exchange.worker().ask_health());
            match Box::pin(asked).await {
                Ok(Some(body)) => bytes_page(body, "application/json"),
                _ => Outcome::Refused(Refusal::NoHealth),
            }
        }
        Page::Status => json_page(&status(&snapshot.services, &snapshot.config)),
        Page::ServiceStatus(name) => match snapshot.services.index_of(name) {
            Some(index) => {
                json_page(&service_status(&snapshot.services, &snapshot.services.all[index]))
            }
            None => Outcome::Refused(Refusal::NoPage(format!(
                "Service '{name}' not found. Available services: [{}]",
                names(&snapshot.services)
                    .map(|name| format!("'{name}'"))
                    .collect::<Vec<_>>()
                    .join(", ")
            ))),
        },
        Page::Docs => {
            bytes_page(include_str!("../assets/docs.html").into(), "text/html; charset=utf-8")
        }
        Page::OpenApi => bytes_page(open_api(&server.pages_prefix), "application/json"),
    })
}

enum Page<'a> {
    Root,
    Health,
    Status,
    ServiceStatus(&'a str),
    Docs,
    OpenApi,
}

impl<'a> Page<'a> {
    /// `path` is what follows the prefix.
    fn at(path: &'a str) -> Option<Page<'a>> {
        Some(match path {
            "/" => Page::Root,
            "/health" => Page::Health,
            "/health/status" => Page::Status,
            "/docs" => Page::Docs,
            "/openapi.json" => Page::OpenApi,
            _ => match path.strip_prefix("/health/status/") {
                Some(name) if !name.is_empty() && !name.contains('/') => Page::ServiceStatus(name),
                _ => return None,
            },
        })
    }
}

fn json_page(value: &Value) -> Outcome {
    bytes_page(value.to_string().into(), "application/json")
}

fn bytes_page(body: Bytes, content_type: &'static str) -> Outcome {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if content_type.starts_with("text/html") {
        let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    Outcome::Page(response)
}

/// The description of the pages, at the prefix where they are.
fn open_api(prefix: &str) -> Bytes {
    const TEXT: &str = include_str!("../assets/openapi.json");
    if prefix.is_empty() {
        return TEXT.into();
    }
    let mut description: Value = serde_json::from_str(TEXT).expect("the asset is JSON");
    description["servers"] = json!([{ "url": prefix }]);
    description.to_string().into()
}

fn names(services: &Services) -> impl Iterator<Item = &str> {
    services.all.iter().map(|service| service.name.as_str())
}

fn root(snapshot: &Snapshot) -> Value {
    json!({
        "message": "Extrophi Orchestrator API Gateway",
        "version": env!("CARGO_PKG_VERSION"),
        "services": names(&snapshot.services).collect::<Vec<_>>(),
        "docs": format!("{}/docs", snapshot.config.server.pages_prefix),
    })
}

/// The monitor's last view of everything.
pub(crate) fn status(services: &Services, config: &Config) -> Value {
    let now = services.now_ms();
    let healths = services.all.iter().map(|service| service.health(now));
    let mut all = Map::new();
    for service in &services.all {
        all.insert(service.name.clone(), service_status(services, service));
    }
    json!({
        "overall": overall(healths),
        "timestamp": rfc3339(SystemTime::now()),
        "services": all,
        "monitoring": {
            "check_interval": config.health.interval.map(seconds),
            "running": config.services.iter().any(|it| it.health.interval.is_some()),
        },
    })
}

/// Healthy when all are, unknown when none was checked yet, else degraded.
fn overall(healths: impl Iterator<Item = Health>) -> &'static str {
    let (mut all_healthy, mut all_unknown) = (true, true);
    for health in healths {
        all_healthy &= health == Health::Healthy;
        all_unknown &= health == Health::Unknown;
    }
    match (all_healthy, all_unknown) {
        (true, _) => "healthy",
        (_, true) => "unknown",
        _ => "degraded",
    }
}

fn service_status(services: &Services, service: &Service) -> Value {
    let now = services.now_ms();
    let one = |endpoint: &Endpoint| View::of(endpoint, endpoint.circuit(&service.rules, now));
    let mut views: Vec<View> = service.endpoints_now().map(one).collect();
    // Where an address takes another one's place just now, neither may be seen.
    if views.is_empty() {
        views.push(one(&service.endpoints[0]));
    }
    let mut combined = View::combined(&views, service.health(now), service.circuit(now));
    combined.url.clone_from(&service.endpoints[0].config.url);
    let mut value = Map::new();
    value.insert("name".into(), service.name.clone().into());
    combined.write(&mut value);
    if views.len() > 1 {
        value.insert("panic".into(), service.panics(now).into());
        let each = views.iter().map(|view| {
            let mut value = Map::new();
            view.write(&mut value);
            Value::Object(value)
        });
        value.insert("endpoints".into(), each.collect());
    }
    Value::Object(value)
}

/// The fields that `/health/status` has for a service and for each of several endpoints.
#[derive(Clone)]
struct View {
    url: String,
    health: Health,
    last: Option<Check>,
    error: Option<String>,
    circuit: Circuit,
    consecutive_failures: u32,
    uptime_percentage: f64,
    /// What decided `health`, checks or traffic; none while nothing has.
    decided_by: Option<Source>,
    reason: String,
}

impl View {
    fn of(endpoint: &Endpoint, circuit: Circuit) -> View {
        let checks = endpoint.checks.load();
        let (health, decided_by) = endpoint.standing(circuit);
        let failed = checks.last.as_ref().and_then(|check| check.error.clone());
        let cause = || {
            let cause = endpoint.opened.load().as_ref().map(|opened| opened.cause.clone());
            cause.or_else(|| failed.clone()).unwrap_or_else(|| "not known".into())
        };
        let reason = match (circuit, health) {
            (Circuit::Open, _) => format!("circuit open: {}", cause()),
            (_, Health::Unknown) => "not checked yet".to_owned(),
            (Circuit::HalfOpen, _) => format!("circuit half-open, on trial after: {}", cause()),
            (_, Health::Unhealthy) => {
                format!("the last check failed: {}", failed.as_deref().unwrap_or("not known"))
            }
            _ if failed.is_some() => "the circuit closed after a check had failed".to_owned(),
            _ => "the last check passed".to_owned(),
        };
        let error = match (circuit, health) {
            (Circuit::Open, _) => Some(reason.clone()),
            (_, Health::Healthy) => None,
            _ => failed,
        };
        View {
            url: endpoint.url().to_string(),
            decided_by,
            reason,
            health,
            last: checks.last.clone(),
            error,
            circuit,
            consecutive_failures: checks.consecutive_failures,
            uptime_percentage: checks.uptime_percentage,
        }
    }

    /// Of several: the first's address, the latest check, the first error, the worst failures, the
    /// mean uptime, and what decided about the first that is not healthy.
    fn combined(views: &[View], health: Health, circuit: Circuit) -> View {
        let latest = views.iter().filter_map(|view| view.last.as_ref()).max_by_key(|last| last.at);
        let failures = views.iter().map(|view| view.consecutive_failures).max();
        let uptime: f64 = views.iter().map(|view| view.uptime_percentage).sum();
        let decisive = views.iter().find(|view| view.health != Health::Healthy);
        let decisive = decisive.unwrap_or(&views[0]);
        View {
            url: views[0].url.clone(),
            health,
            last: latest.cloned(),
            error: views.iter().find_map(|view| view.error.clone()),
            circuit,
            consecutive_failures: failures.unwrap_or_default(),
            uptime_percentage: uptime / views.len() as f64,
            decided_by: decisive.decided_by,
            reason: match views {
                [only] => only.reason.clone(),
                _ => format!("{}: {}", decisive.url, decisive.reason),
            },
        }
    }

    fn write(&self, value: &mut Map<String, Value>) {
        let last = self.last.as_ref();
        let mut put = |key: &str, field: Value| value.insert(key.into(), field);
        put("url", self.url.clone().into());
        put("status", health_word(self.health).into());
        put("last_check", last.map(|check| rfc3339(check.at)).into());
        put("response_time_ms", last.map(|check| hundredths(millis(check.took))).into());
        put("error", self.error.clone().into());
        put("circuit_state", self.circuit.as_str().into());
        put("consecutive_failures", self.consecutive_failures.into());
        put("uptime_percentage", hundredths(self.uptime_percentage).into());
        put("details", Value::Object(last.map(|check| check.details.clone()).unwrap_or_default()));
        put("decided_by", self.decided_by.map(Source::as_str).into());
        put("reason", self.reason.clone().into());
    }
}

/// The answer of `GET /health`, from one check of every endpoint, in the configuration's order.
pub(crate) fn health_page(services: &Services, checks: &[Vec<Check>]) -> Bytes {
    let mut all_healthy = true;
    let mut all = Map::new();
    for (service, checks) in services.all.iter().zip(checks) {
        let up = checks.iter().filter(|check| check.healthy()).count();
        let health = match up {
            0 => Health::Unhealthy,
            up if up == checks.len() => Health::Healthy,
            _ => Health::Degraded,
        };
        all_healthy &= health == Health::Healthy;
        let url = &service.endpoints[0].config.url;
        let error = checks.iter().find_map(|check| check.error.as_ref());
        let value = match error {
            None => json!({
                "status": health_word(health), "details": checks[0].details, "url": url,
            }),
            Some(error) => json!({ "status": health_word(health), "error": error, "url": url }),
        };
        all.insert(service.name.clone(), value);
    }
    let page = json!({
        "orchestrator": "healthy",
        "services": all,
        "overall": if all_healthy { "healthy" } else { "degraded" },
    });
    page.to_string().into()
}

fn health_word(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::Unhealthy => "unhealthy",
        Health::Unknown => "unknown",
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// Whole seconds as an integer, others as a fraction.
fn seconds(duration: Duration) -> Value {
    match duration.subsec_nanos() {
        0 => duration.as_secs().into(),
        _ => duration.as_secs_f64().into(),
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
