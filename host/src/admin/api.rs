//! What operators ask of the policies, and have done with them: JSON over HTTP.
//!
//! Who only asks may do so; who changes something needs a token. Errors are problem+json (RFC 9457).

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, ETAG, IF_MATCH, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value as Json, json};
use tokio::sync::broadcast::error::RecvError;

use super::tokens::{self, Denied};
use super::{Page, Shared, page, receive};
use crate::local;
use crate::policy::{Kind, Source, Step};
use crate::rollout::{Event, Failure, Following, Origin, Placed, Proposal, Rollout};

/// Who follows events hears something at least this often, so that both sides know of each other.
const HEARTBEAT: Duration = Duration::from_secs(15);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What is at a path.
enum At {
    Policies,
    Policy(Kind),
    Versions(Kind),
    Activate(Kind),
    Rollback(Kind),
    Events,
    Status,
}

impl At {
    fn of(path: &str) -> Option<At> {
        let mut steps = path.strip_prefix('/')?.split('/');
        let at = match (steps.next()?, steps.next(), steps.next()) {
            ("events", None, None) => At::Events,
            ("status", None, None) => At::Status,
            ("policies", None, None) => At::Policies,
            ("policies", Some(kind), what) => {
                let kind = Kind::ALL.into_iter().find(|it| it.name() == kind)?;
                match what {
                    None => At::Policy(kind),
                    Some("versions") => At::Versions(kind),
                    Some("activate") => At::Activate(kind),
                    Some("rollback") => At::Rollback(kind),
                    Some(_) => return None,
                }
            }
            _ => return None,
        };
        steps.next().is_none().then_some(at)
    }

    fn changes(&self) -> bool {
        matches!(self, At::Versions(_) | At::Activate(_) | At::Rollback(_))
    }
}

pub(super) async fn answer(shared: &Shared, request: Request<Incoming>) -> Page {
    let Some(at) = At::of(request.uri().path()) else {
        let text = "there are /policies, /policies/{routing|retry}, /events, /status, /metrics, \
                    /livez and /readyz";
        return problem(StatusCode::NOT_FOUND, text, json!({}));
    };
    let asks = matches!(*request.method(), Method::GET | Method::HEAD);
    if at.changes() {
        if request.method() != Method::POST {
            return only(&at, "POST");
        }
        return match tokens::name_of(request.headers(), &shared.config.admin.tokens) {
            Ok(by) => change(shared, &at, request, by).await,
            Err(denied) => {
                if denied == Denied::Wrong {
                    shared.note_wrong_token();
                }
                deny(denied)
            }
        };
    }
    if !asks {
        return only(&at, "GET, HEAD");
    }
    let rollout = &shared.rollout;
    match at {
        At::Policies => {
            let [routing, retry] = Kind::ALL.map(|kind| rollout.shown(kind));
            json_page(
                StatusCode::OK,
                &json!({ "policies": { "routing": routing, "retry": retry } }),
            )
        }
        At::Policy(kind) => {
            let mut response = json_page(StatusCode::OK, &rollout.shown(kind));
            tag(shared, kind, &mut response);
            response
        }
        At::Status => json_page(StatusCode::OK, &status(shared)),
        At::Events if request.method() == Method::HEAD => {
            let mut response = page(StatusCode::OK, "text/event-stream", "");
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        At::Events => events(shared, request.headers()),
        At::Versions(_) | At::Activate(_) | At::Rollback(_) => {
            unreachable!("they change something")
        }
    }
}

/// What the gateway is and does, in one page.
fn status(shared: &Shared) -> Json {
    let policies = Kind::ALL.map(|kind| {
        let mut all = shared.rollout.shown(kind);
        if let Some(all) = all.as_object_mut() {
            all.remove("versions");
        }
        all
    });
    let metrics = &shared.metrics;
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": shared.ready(),
        "uptime_s": metrics.started.elapsed().unwrap_or_default().as_secs(),
        "generation": shared.rollout.generation().number,
        "connections": metrics.open_connections(),
        "policies": policies,
        "services": local::status(&metrics.services, &shared.config),
    })
}

async fn change(shared: &Shared, at: &At, request: Request<Incoming>, by: String) -> Page {
    let if_match = match entity_tag(request.headers()) {
        Ok(if_match) => if_match,
        Err(text) => return problem(StatusCode::BAD_REQUEST, text, json!({})),
    };
    let rollout = &shared.rollout;
    let by = Some(by);
    let (kind, placed) = match *at {
        At::Versions(kind) => {
            let activate = match request.uri().query() {
                None | Some("" | "activate=true") => true,
                Some("activate=false") => false,
                Some(_) => {
                    let text = "the query may be activate=true or activate=false";
                    return problem(StatusCode::BAD_REQUEST, text, json!({}));
                }
            };
            // Each has its component in memory until it was looked at, whoever still waits for that.
            let Ok(place) = shared.proposers.clone().try_acquire_owned() else {
                rollout.counts.of(kind).refused(Step::Receive, None);
                let text = "too many versions are being looked at already: try again";
                let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, text, json!({}));
                let headers = response.headers_mut();
                headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
                return response;
            };
            let pushed = match receive::pushed(request, rollout.component_max(kind)).await {
                Ok(pushed) => pushed,
                Err((StatusCode::PAYLOAD_TOO_LARGE, text)) => {
                    rollout.counts.of(kind).refused(Step::Receive, Some("component_max"));
                    let more = json!({ "step": Step::Receive, "reason": text });
                    let mut response = problem(StatusCode::PAYLOAD_TOO_LARGE, &text, more);
                    // What is still to come is not read.
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    return response;
                }
                Err((status, text)) => return problem(status, &text, json!({})),
            };
            let has_config = pushed.config.is_some();
            let config = pushed
                .config
                .map_or_else(|| rollout.active_config(kind), |config| config.to_string().into());
            // A large one takes a while to hash, and others live on this thread.
            let source = tokio::task::spawn_blocking(move || Source::new(pushed.component, config));
            let proposal = Proposal {
                kind,
                source: source.await.expect("nobody cancels it"),
                cases: pushed.cases,
                origin: Origin::Pushed,
                by,
                activate,
                if_match,
            };
            let propose = |rollout: Rc<Rollout>| async move {
                let placed = rollout.propose(proposal).await;
                drop(place);
                placed
            };
            let mut placed = through(rollout, propose).await;
            if let Err(Failure::Refused { step: Step::Configure, reason, .. }) = &mut placed
                && !has_config
            {
                *reason = format!(
                    "no configuration came with it, so it was given that of the active version: {reason}"
                );
            }
            (kind, placed)
        }
        At::Activate(kind) => {
            let body = match receive::json(request.into_body()).await {
                Ok(body) => body,
                Err((status, text)) => return problem(status, &text, json!({})),
            };
            let Some(version) = body["version"].as_str() else {
                let text = "say which: {\"version\": \"0123456789ab\"}";
                return problem(StatusCode::BAD_REQUEST, text, json!({}));
            };
            let version = version.to_owned();
            let activate = |rollout: Rc<Rollout>| async move {
                rollout.activate(kind, &version, by, if_match).await
            };
            (kind, through(rollout, activate).await)
        }
        At::Rollback(kind) => {
            let roll_back =
                |rollout: Rc<Rollout>| async move { rollout.roll_back(kind, by, if_match).await };
            (kind, through(rollout, roll_back).await)
        }
        _ => unreachable!("only these change something"),
    };
    let mut response = match placed {
        Ok(placed) => done(shared, kind, &placed),
        Err(failure) => failed(&failure),
    };
    tag(shared, kind, &mut response);
    response
}

/// Does it to its end, also where the client that asked for it leaves: half a change is none.
async fn through<F>(
    rollout: &Rc<Rollout>,
    change: impl FnOnce(Rc<Rollout>) -> F,
) -> Result<Placed, Failure>
where
    F: Future<Output = Result<Placed, Failure>> + 'static,
{
    tokio::task::spawn_local(change(rollout.clone())).await.expect("nobody cancels it")
}

fn done(shared: &Shared, kind: Kind, placed: &Placed) -> Page {
    let mut record =
        shared.rollout.shown_version(kind, &placed.version).unwrap_or_else(|| json!({}));
    record["generation"] = shared.rollout.generation().number.into();
    let ms = placed.switched_in.map(|took| took.as_micros() as f64 / 1000.0);
    record["switch_ms"] = ms.into();
    let status = if placed.new { StatusCode::CREATED } else { StatusCode::OK };
    json_page(status, &record)
}

fn failed(failure: &Failure) -> Page {
    let detail = failure.to_string();
    match failure {
        Failure::NotThere(_) => problem(StatusCode::NOT_FOUND, &detail, json!({})),
        Failure::Conflict(_) => problem(StatusCode::CONFLICT, &detail, json!({})),
        Failure::Stale { active } => {
            problem(StatusCode::PRECONDITION_FAILED, &detail, json!({ "active": active }))
        }
        Failure::Unable(_) => {
            let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, &detail, json!({}));
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
            response
        }
        Failure::Refused { version, step, reason, errors } => {
            let errors: Vec<Json> = errors
                .iter()
                .map(|error| {
                    json!({
                        "pointer": error.place(),
                        "message": error.message,
                        "suggestion": error.suggestion,
                    })
                })
                .collect();
            let more = json!({
                "version": version,
                "step": step,
                "reason": reason,
                "errors": errors,
            });
            let detail = format!("refused at the step {}: {detail}", step.word());
            problem(StatusCode::UNPROCESSABLE_ENTITY, &detail, more)
        }
    }
}

fn deny(denied: Denied) -> Page {
    let (status, text, challenge) = match denied {
        Denied::NoTokens => (
            StatusCode::FORBIDDEN,
            "nobody may change policies here: name a token in [admin.tokens.<name>]",
            None,
        ),
        Denied::NoneGiven => (
            StatusCode::UNAUTHORIZED,
            "send a token: `Authorization: Bearer …`",
            Some("Bearer realm=\"orchestrator\""),
        ),
        Denied::Wrong => (
            StatusCode::UNAUTHORIZED,
            "this token is none of those in [admin.tokens]",
            Some("Bearer realm=\"orchestrator\", error=\"invalid_token\""),
        ),
    };
    let mut response = problem(status, text, json!({}));
    if let Some(challenge) = challenge {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

/// The version that `If-Match` names (RFC 9110 section 13.1.1): one, or `*`.
fn entity_tag(headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    let mut values = headers.get_all(IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        _ if values.next().is_some() => {}
        // There always is a version.
        None if text == "*" => return Ok(None),
        Some(tag) if !tag.contains('"') => return Ok(Some(tag.to_owned())),
        _ => {}
    }
    Err("`If-Match` names one version, in quotes, as `ETag` does")
}

/// The active version, so that the next change can say what it builds on.
fn tag(shared: &Shared, kind: Kind, response: &mut Page) {
    let tag = format!("\"{}\"", shared.rollout.active(kind));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(ETAG, tag);
    }
}

fn only(at: &At, methods: &'static str) -> Page {
    let text = match at.changes() {
        true => "this is for POST",
        false => "this is for GET and HEAD",
    };
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, text, json!({}));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn json_page(status: StatusCode, value: &Json) -> Page {
    let mut text = serde_json::to_string_pretty(value).expect("a value is JSON");
    text.push('\n');
    let mut response = page(status, "application/json", text);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn problem(status: StatusCode, detail: &str, mut more: Json) -> Page {
    more["type"] = "about:blank".into();
    more["title"] = status.canonical_reason().into();
    more["status"] = status.as_u16().into();
    more["detail"] = detail.into();
    let mut response = json_page(status, &more);
    let content_type = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Every step of every version from now on, or from behind the one that `Last-Event-ID` names.
fn events(shared: &Shared, headers: &HeaderMap) -> Page {
    let Ok(place) = shared.followers.clone().try_acquire_owned() else {
        let text = "too many follow the events already";
        return problem(StatusCode::SERVICE_UNAVAILABLE, text, json!({}));
    };
    let after = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()?.parse().ok());
    let Following { has_lost, missed, to_come: follower } = shared.rollout.events.follow(after);
    let gap = stream::iter(has_lost.then(|| lost(None)));
    let missed = gap.chain(stream::iter(missed.into_iter().map(|event| text_of(&event))));
    let to_come = stream::unfold((follower, place), |(mut follower, place)| async move {
        let next = tokio::time::timeout(HEARTBEAT, follower.recv()).await;
        let text = match next {
            Ok(Ok(event)) => text_of(&event),
            Ok(Err(RecvError::Lagged(count))) => lost(Some(count)),
            Ok(Err(RecvError::Closed)) => return None,
            Err(_) => Bytes::from_static(b": still here\n\n"),
        };
        Some((text, (follower, place)))
    });
    // At once, so that the head of the response is not kept back.
    let hello = stream::iter([Bytes::from_static(b": events follow\n\n")]);
    let frames =
        hello.chain(missed).chain(to_come).map(|text| Ok::<_, Infallible>(Frame::data(text)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Some were not kept for this follower, so many where that is known.
fn lost(count: Option<u64>) -> Bytes {
    format!("event: lost\ndata: {}\n\n", json!({ "count": count })).into()
}

/// As EventSource reads it.
fn text_of(event: &Arc<Event>) -> Bytes {
    format!("id: {}\nevent: {}\ndata: {}\n\n", event.id, event.what.word(), event.data).into()
}
