//! Cases of a policy's self-test: a request, and for a judge a failed attempt, and what the policy is to
//! answer.
//!
//! They stand under `[[policy.<kind>.cases]]`, in a file beside the component (`routing.wasm` has
//! `routing.cases.json`), or come with a version that is pushed. What a case's decision leaves out is not
//! looked at.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use serde::Deserialize;
use serde_json::Value as Json;

use super::facts::{
    Answer, Came, Choice, Circuit, FailedAttempt, Health, Outcome, Pace, RequestFacts, RetryAnswer,
    ServiceState,
};
use super::versions::{CasesOf, LoadError};
use super::{Fault, Kind};
use written::{Milliseconds, OutcomeWord, Retry, Routing, Written, WrittenOutcome};

mod written;

/// The most that a version can have.
const CASES_MAX: usize = 1000;

/// When all requests of a self-test arrive: a day in 2026.
const NOW_MS: u64 = 1_767_225_600_000;

/// Whether a self-test holds must not depend on luck.
const SEED: u64 = 0x5eed;

/// What a case is to come to.
#[derive(Debug)]
enum Wanted {
    Decline,
    Routing(Box<Routing>),
    Stop,
    Again(Retry),
}

/// One case, checked.
#[derive(Debug)]
pub(super) struct Case {
    name: String,
    head: Request<()>,
    client: IpAddr,
    scheme: &'static str,
    services: Vec<Option<ServiceState>>,
    failure: Option<Failure>,
    wanted: Option<Wanted>,
}

#[derive(Debug, Clone)]
struct Failure {
    service: usize,
    number: u32,
    outcome: Outcome,
    sent: bool,
    others_left: u32,
    elapsed_ms: u64,
    remaining_ms: u64,
    retry_after_ms: Option<u64>,
    headers: HeaderMap,
}

/// Reads cases, a JSON list.
pub(super) fn read(
    kind: Kind,
    (of, cases): (CasesOf, &Json),
    services: &[String],
) -> Result<Vec<Case>, LoadError> {
    let wrong = |case, message: String| LoadError::Case { of, case, message };
    let Json::Array(cases) = cases else {
        return Err(LoadError::SelfTest("the cases must be a list".into()));
    };
    if cases.len() > CASES_MAX {
        return Err(LoadError::SelfTest(format!("there are more than {CASES_MAX} cases")));
    }
    let each = cases.iter().enumerate();
    each.map(|(at, case)| {
        let written = Written::deserialize(case).map_err(|error| wrong(at, error.to_string()))?;
        written.check(kind, at, services).map_err(|message| wrong(at, message))
    })
    .collect()
}

/// What a case without a name is called.
pub(super) fn unnamed(at: usize) -> String {
    format!("case {}", at + 1)
}

/// Cases that any policy can be asked, to see whether it answers the same twice.
pub(super) fn probes(kind: Kind, services: &[String]) -> Vec<Case> {
    let requests = [
        serde_json::json!({ "path": "/" }),
        serde_json::json!({ "path": "/api/enrich?q=1", "headers": { "host": "gateway.example" } }),
        serde_json::json!({ "method": "POST", "path": "/api/publish", "client": "203.0.113.7" }),
        serde_json::json!({ "path": "/users/42/orders", "headers": { "cookie": "a=b" } }),
    ];
    let failures = [
        serde_json::json!({ "outcome": 503 }),
        serde_json::json!({ "outcome": "connect-failed", "others_left": 1 }),
        serde_json::json!({ "outcome": "timeout", "number": 2, "elapsed_ms": 1500 }),
        serde_json::json!({ "outcome": 429, "retry_after_ms": 250 }),
    ];
    let pairs = requests.into_iter().zip(failures);
    pairs
        .enumerate()
        .map(|(at, (request, failure))| {
            let mut case = serde_json::json!({ "request": request, "decision": {} });
            if kind == Kind::Retry {
                case["failure"] = failure;
            }
            let written = Written::deserialize(&case).expect("these are well-formed");
            let mut case = written.check(kind, at, services).expect("and make sense");
            case.wanted = None;
            case
        })
        .collect()
}

impl Written {
    fn check(self, kind: Kind, at: usize, services: &[String]) -> Result<Case, String> {
        let index_of = |name: &str| {
            let found = services.iter().position(|service| service == name);
            found.ok_or_else(|| format!("there is no service {name:?}"))
        };
        let mut head = Request::builder()
            .method(self.request.method.as_str())
            .uri(self.request.path.as_str())
            .body(())
            .map_err(|error| format!("`request`: {error}"))?;
        if !self.request.path.starts_with('/') {
            return Err("`request.path` must begin with `/`".into());
        }
        *head.headers_mut() = headers(&self.request.headers)?;
        let scheme = match self.request.scheme.as_str() {
            "http" => "http",
            "https" => "https",
            other => return Err(format!("`request.scheme` is http or https, not {other:?}")),
        };
        // What nobody says of a service: that all is well with it.
        let well = ServiceState { circuit: Circuit::Closed, health: Health::Healthy };
        let mut states = vec![Some(well); services.len()];
        for (name, state) in &self.services {
            states[index_of(name)?] = Some(state.read());
        }
        let failure = match (kind, self.failure) {
            (Kind::Routing, None) => None,
            (Kind::Routing, Some(_)) => {
                return Err("a routing policy is not asked about a `failure`".into());
            }
            (Kind::Retry, None) => return Err("`failure` is missing".into()),
            (Kind::Retry, Some(written)) => Some(Failure {
                service: written.service.as_deref().map_or(Ok(0), index_of)?,
                number: written.number,
                outcome: match written.outcome {
                    WrittenOutcome::Status(status) => Outcome::Status(status),
                    WrittenOutcome::Word(OutcomeWord::ConnectFailed) => Outcome::ConnectFailed,
                    WrittenOutcome::Word(OutcomeWord::ConnectionLost) => Outcome::ConnectionLost,
                    WrittenOutcome::Word(OutcomeWord::Timeout) => Outcome::Timeout,
                },
                sent: written.sent,
                others_left: written.others_left,
                elapsed_ms: written.elapsed_ms,
                remaining_ms: written.remaining_ms,
                retry_after_ms: written.retry_after_ms,
                headers: headers(&written.headers)?,
            }),
        };
        let wanted = Wanted::read(kind, &self.decision)?;
        if let Wanted::Routing(wanted) = &wanted
            && let Some(service) = &wanted.forward
        {
            index_of(service)?;
        }
        Ok(Case {
            name: self.name.unwrap_or_else(|| unnamed(at)),
            head,
            client: self.request.client,
            scheme,
            services: states,
            failure,
            wanted: Some(wanted),
        })
    }
}

fn headers(written: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let pairs = written.iter().map(|(name, value)| {
        let key = HeaderName::from_bytes(name.as_bytes());
        match (key, HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => Ok((name, value)),
            _ => Err(format!("{name:?}: {value:?} is no header")),
        }
    });
    pairs.collect()
}

impl Wanted {
    fn read(kind: Kind, decision: &Json) -> Result<Wanted, String> {
        let wrong = |error: serde_json::Error| format!("`decision`: {error}");
        match (kind, decision.as_str()) {
            (Kind::Routing, Some("decline")) => Ok(Wanted::Decline),
            (Kind::Routing, None) => {
                Routing::deserialize(decision).map(Box::new).map(Wanted::Routing).map_err(wrong)
            }
            (Kind::Retry, Some("stop")) => Ok(Wanted::Stop),
            (Kind::Retry, None) => Retry::deserialize(decision).map(Wanted::Again).map_err(wrong),
            (Kind::Routing, Some(_)) => Err("`decision` is \"decline\" or a table".into()),
            (Kind::Retry, Some(_)) => Err("`decision` is \"stop\" or a table".into()),
        }
    }
}

impl Case {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn request(&self) -> Box<RequestFacts> {
        let mut head = Request::new(());
        *head.method_mut() = self.head.method().clone();
        *head.uri_mut() = self.head.uri().clone();
        *head.headers_mut() = self.head.headers().clone();
        Box::new(RequestFacts {
            head: head.into_parts().0,
            client: self.client,
            scheme: self.scheme,
            now_ms: NOW_MS,
            seed: SEED,
            pace: Pace::Quick,
            services: self.services.clone(),
        })
    }

    /// The failed attempt that a judge is asked about.
    pub(super) fn failed(&self) -> Option<Box<FailedAttempt>> {
        let failure = self.failure.clone()?;
        let idempotent = crate::forward::is_idempotent(self.head.method());
        Some(Box::new(FailedAttempt {
            service: failure.service,
            number: failure.number,
            elapsed_ms: failure.elapsed_ms,
            remaining_ms: failure.remaining_ms,
            outcome: failure.outcome,
            sent: failure.sent,
            idempotent,
            replayable: true,
            others_left: failure.others_left,
            retry_after_ms: failure.retry_after_ms,
            headers: matches!(failure.outcome, Outcome::Status(_)).then_some(failure.headers),
        }))
    }

    /// Why what the policy came to is not what this case wants; a case that wants nothing takes all.
    pub(super) fn differs(&self, came: &Result<Came, Fault>) -> Option<String> {
        let wanted = self.wanted.as_ref()?;
        match (wanted, came) {
            (_, Err(fault)) => Some(format!("it failed: {fault}")),
            (Wanted::Decline, Ok(Came::Routed(answer))) => {
                let declines = answer.choice.is_none();
                (!declines).then(|| format!("it did not decline: {}", chosen(&answer.choice)))
            }
            (Wanted::Routing(wanted), Ok(Came::Routed(answer))) => wanted.differs(answer),
            (Wanted::Stop, Ok(Came::Judged(answer))) => {
                answer.again_after_ms.map(|ms| format!("it did not stop: again after {ms} ms"))
            }
            (Wanted::Again(wanted), Ok(Came::Judged(answer))) => wanted.differs(answer),
            (_, Ok(came)) => unreachable!("a case is of the policy's kind: {came:?}"),
        }
    }
}

impl Routing {
    fn differs(&self, answer: &Answer) -> Option<String> {
        let choice = match (&self.forward, self.respond) {
            (Some(service), _) => Some(Choice::Forward(service.clone())),
            (None, Some(status)) => Some(Choice::Respond(status)),
            (None, None) => None,
        };
        if choice.is_some() && choice != answer.choice {
            return Some(format!(
                "its choice was {}, not {}",
                chosen(&answer.choice),
                chosen(&choice)
            ));
        }
        fn other<T: PartialEq + std::fmt::Debug>(
            what: &str,
            wanted: &Option<T>,
            found: Option<T>,
        ) -> Option<String> {
            let differs = wanted.is_some() && *wanted != found;
            differs.then(|| format!("its {what} was {}, not {}", shown(&found), shown(wanted)))
        }
        let text = |bytes: &Option<Vec<u8>>| {
            bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        other("path", &self.path, answer.path.clone())
            .or_else(|| other("timeout_ms", &self.timeout_ms, answer.timeout_ms))
            .or_else(|| {
                other("attempt_timeout_ms", &self.attempt_timeout_ms, answer.attempt_timeout_ms)
            })
            .or_else(|| other("request_body_max", &self.request_body_max, answer.request_body_max))
            .or_else(|| other("route", &self.route, answer.route_name.clone()))
            .or_else(|| other("affinity", &self.affinity, text(&answer.affinity)))
            .or_else(|| other("body", &self.body, text(&answer.body)))
            .or_else(|| edits("request_headers", &self.request_headers, &answer.request_headers))
            .or_else(|| edits("response_headers", &self.response_headers, &answer.response_headers))
    }
}

/// As cases have it.
fn chosen(choice: &Option<Choice>) -> String {
    match choice {
        None => "to decline".to_owned(),
        Some(Choice::Forward(service)) => format!("forward = {service:?}"),
        Some(Choice::Respond(status)) => format!("respond = {status}"),
    }
}

/// What a part of an answer is, for people.
fn shown<T: std::fmt::Debug>(part: &Option<T>) -> String {
    part.as_ref().map_or_else(|| "not set".to_owned(), |part| format!("{part:?}"))
}

/// The last edit of a header counts.
fn edits(
    what: &str,
    wanted: &BTreeMap<String, Option<String>>,
    found: &[(String, Option<Vec<u8>>)],
) -> Option<String> {
    wanted.iter().find_map(|(name, value)| {
        let edit = found.iter().rev().find(|(edited, _)| edited.eq_ignore_ascii_case(name));
        let edit = edit.map(|(_, value)| value.as_deref().map(String::from_utf8_lossy));
        let same = edit.as_ref().is_some_and(|edit| edit.as_deref() == value.as_deref());
        let edit = edit.as_ref().map(|edit| edit.as_deref().unwrap_or("removed"));
        let value = value.as_deref().unwrap_or("removed");
        (!same).then(|| format!("its {what} have {name} {}, not {value:?}", shown(&edit)))
    })
}

impl Retry {
    fn differs(&self, answer: &RetryAnswer) -> Option<String> {
        let Some(ms) = answer.again_after_ms else { return Some("it stopped".into()) };
        let fits = match &self.again_after_ms {
            None => true,
            Some(Milliseconds::Exactly(wanted)) => ms == *wanted,
            Some(Milliseconds::Between { min, max }) => (*min..=*max).contains(&ms),
        };
        if !fits {
            return Some(format!("it wants {ms} ms, not {:?}", self.again_after_ms));
        }
        match self.elsewhere {
            Some(elsewhere) if elsewhere != answer.elsewhere => {
                Some(format!("its elsewhere was {}", answer.elsewhere))
            }
            _ => None,
        }
    }
}
