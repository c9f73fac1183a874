//! Does a version do what it is to do, before any request depends on it? It is configured, asked its
//! cases, and asked again: an answer that depends on what was asked before, or on the instance, is
//! refused.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value as Json;
use tokio::sync::Semaphore;

use super::bindings::Phase;
use super::cases::{self, Case};
use super::engine::Engine;
use super::facts::{Came, Circuit, Health, ServiceState};
use super::instance::Instance;
use super::versions::{CasesOf, LoadError, Step, Version};
use super::warm::Warm;
use super::{Fault, Kind};
use crate::config::Instances;

/// Cases for which an instance of their own is made: configuring one may take a second.
const FRESH_MAX: usize = 4;

/// Configures a version and runs its self-test, within `self_test_timeout`. `cases` are lists of cases, all of
/// which count.
pub async fn verify(
    engine: &Engine,
    version: &Arc<Version>,
    cases: &[(CasesOf, &Json)],
) -> Result<(), LoadError> {
    // Of many cases each may take as long as a decision or a configuration, and others wait for their turn.
    let limit = version.limits.self_test_timeout;
    match tokio::time::timeout(limit, try_out(engine, version, cases)).await {
        Ok(asked) => asked,
        Err(_) => Err(LoadError::Limit {
            step: Step::SelfTest,
            key: "self_test_timeout",
            text: format!(
                "to try it out takes more than {}: have fewer cases or a quicker `configure`, or raise \
                 `self_test_timeout`",
                humantime::format_duration(limit)
            ),
        }),
    }
}

async fn try_out(
    engine: &Engine,
    version: &Arc<Version>,
    cases: &[(CasesOf, &Json)],
) -> Result<(), LoadError> {
    let services = &version.setup.services;
    let mut all = Vec::new();
    let mut places = Vec::new();
    for (of, list) in cases {
        let read = cases::read(version.kind, (*of, list), services)?;
        places.extend((0..read.len()).map(|case| (*of, case)));
        all.extend(read);
    }
    all.extend(cases::probes(version.kind, services));

    let Some(once) = ask(engine, version, &all, &places).await? else { return Ok(()) };
    // What runs close to its limit may be over it now and then, but hardly in the same place.
    match ask(engine, version, &all, &places).await? {
        Some(again) if again.case == once.case => Err(LoadError::Impure(again.text)),
        _ => Ok(()),
    }
}

/// A case that ran out of its own time once, and was answered once.
struct TimedOutOnce {
    case: usize,
    text: String,
}

/// Asks all cases forwards, backwards, and of new instances.
///
/// Errors where one comes out otherwise than it is to, or the answers differ.
async fn ask(
    engine: &Engine,
    version: &Arc<Version>,
    all: &[Case],
    places: &[(CasesOf, usize)],
) -> Result<Option<TimedOutOnce>, LoadError> {
    let mut trial = Trial::begin(engine, version).await?;
    let mut forwards = Vec::with_capacity(all.len());
    for (at, case) in all.iter().enumerate() {
        let came = trial.ask(case).await?;
        if let (Some(difference), Some(&(of, place))) = (case.differs(&came), places.get(at)) {
            let message = match case.name() {
                name if *name == cases::unnamed(place) => difference,
                name => format!("{name}: {difference}"),
            };
            return Err(LoadError::Case { of, case: place, message });
        }
        forwards.push(came);
    }
    let mut timed_out = None;
    // The same instance, in the other order.
    for (at, (case, before)) in all.iter().zip(&forwards).enumerate().rev() {
        let now = trial.ask(case).await?;
        let who = "the same instance, in another order,";
        timed_out = timed_out.or(same((at, case), before, &now, who)?);
    }
    for (at, (case, before)) in all.iter().zip(&forwards).take(FRESH_MAX).enumerate() {
        let now = Trial::begin(engine, version).await?.ask(case).await?;
        timed_out = timed_out.or(same((at, case), before, &now, "a new instance")?);
    }
    Ok(timed_out)
}

fn same(
    (at, case): (usize, &Case),
    before: &Result<Came, Fault>,
    now: &Result<Came, Fault>,
    who: &str,
) -> Result<Option<TimedOutOnce>, LoadError> {
    let differs = match (before, now) {
        (Ok(before), Ok(now)) => before != now,
        // What the wall clock ended may be the machine's fault.
        (Err(Fault::WallClock { .. }), _) | (_, Err(Fault::WallClock { .. })) => false,
        (Err(_), Err(_)) => false,
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => true,
    };
    if !differs {
        return Ok(None);
    }
    let what = match (before, now) {
        (Ok(Came::Routed(before)), Ok(Came::Routed(now))) => {
            format!("has another {}", before.differences(now).join(" and "))
        }
        (Ok(Came::Judged(before)), Ok(Came::Judged(now))) => {
            format!("says {now:?} where it said {before:?}")
        }
        (_, Err(fault)) => format!("failed, where there was an answer: {fault}"),
        (Err(fault), _) => format!("is an answer, where it had failed: {fault}"),
        (Ok(before), Ok(now)) => unreachable!("they are of one kind: {before:?}, {now:?}"),
    };
    let text = format!(
        "{}: the answer of {who} {what}: it may depend on the configuration and the inputs only",
        case.name()
    );
    match (before, now) {
        (Err(Fault::Timeout(_)), _) | (_, Err(Fault::Timeout(_))) => {
            Ok(Some(TimedOutOnce { case: at, text }))
        }
        _ => Err(LoadError::Impure(text)),
    }
}

/// An instance that serves nobody.
struct Trial {
    warm: Warm,
    instance: Option<Instance>,
}

impl Trial {
    async fn begin(engine: &Engine, version: &Arc<Version>) -> Result<Trial, LoadError> {
        // A case says how all services are.
        let nothing = |_| ServiceState { circuit: Circuit::Closed, health: Health::Unknown };
        let runaway = Arc::new(Semaphore::new(1));
        let warm = Warm::empty(engine, version.clone(), runaway, Arc::new(nothing));
        let instance = warm.build().await?;
        Ok(Trial { warm, instance: Some(instance) })
    }

    /// An instance that a fault has cost is replaced.
    async fn ask(&mut self, case: &Case) -> Result<Result<Came, Fault>, LoadError> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.warm.build().await?,
        };
        let request = case.request();
        let (phase, attempt) = match (self.warm.version().kind, case.failed()) {
            (Kind::Routing, _) => (Phase::Route(request), 0),
            (Kind::Retry, Some(failed)) => {
                let number = failed.number.into();
                (Phase::Judge(request, failed), number)
            }
            (Kind::Retry, None) => unreachable!("a judge's case has a failure"),
        };
        let (_, returned) = instance.decide(&self.warm, Instant::now(), phase, attempt).await;
        // Where each decision gets a new instance, what one remembers is no matter.
        let kept = self.warm.version().instances == Instances::Warm;
        if returned.is_reusable() && kept {
            self.instance = Some(instance);
        }
        Ok(returned.0)
    }
}
