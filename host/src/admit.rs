//! Which endpoint an attempt goes to, with its breaker's leave. Next: `forward.rs`.

use std::time::Duration;

use tokio::time::Instant;

use crate::breaker::{Circuit, Permit, Source};
use crate::exchange::Tried;
use crate::route::Target;
use crate::snapshot::Snapshot;
use crate::upstream::Service;
use crate::upstream::balance::panics;
use crate::upstream::set::EndpointSet;

/// No endpoint of the service may be tried now.
#[derive(Debug)]
pub(crate) struct Refused {
    /// When the first of them may be.
    pub(crate) retry_in: Duration,
}

/// Picks among the endpoints whose breakers admit, those not yet tried first where the judge asked
/// for that. Where so few circuits are closed that the rest would be overwhelmed
/// (`panic_threshold`), among all endpoints.
pub(crate) fn admit<'a>(
    snapshot: &'a Snapshot,
    target: &Target,
    tried: &Tried,
    random: u64,
    now: Instant,
) -> Result<(usize, Permit<'a>), Refused> {
    let services = &snapshot.services;
    let service = &services.all[target.service];
    let now = services.ms_at(now.into_std());
    // One endpoint is the usual case, and nothing is to be chosen.
    if let [only] = &service.endpoints[..] {
        let admitted = only.breaker.admit(&service.rules, now, Source::Traffic);
        return admitted
            .map(|permit| (0, permit))
            .map_err(|refused| Refused { retry_in: refused.retry_in });
    }
    let View { eligible, panic } = View::of(service, now);
    let avoided: EndpointSet = eligible.iter().filter(|place| tried.avoids(*place)).collect();
    for mut left in [eligible.without(avoided), avoided] {
        // Another worker may take a half-open slot between the look and the leave: then the rest
        // is tried, each once.
        while let Some(picked) = services.pick(target.service, left, target.affinity, random, now) {
            let breaker = &service.endpoints[picked].breaker;
            match breaker.admit(&service.rules, now, Source::Traffic) {
                Ok(permit) => return Ok((picked, permit)),
                Err(_) if panic => return Ok((picked, breaker.bypass(Source::Traffic))),
                Err(_) => left.remove(picked),
            }
        }
    }
    let times = service.endpoints_now().map(|it| it.breaker.retry_in(&service.rules, now));
    Err(Refused { retry_in: times.min().unwrap_or_default() })
}

/// What of a service's endpoints may be tried.
struct View {
    eligible: EndpointSet,
    /// Open circuits are passed over.
    panic: bool,
}

impl View {
    fn of(service: &Service, now_ms: u64) -> View {
        let present = service.present();
        let (mut admitting, mut closed, mut all) = (EndpointSet::default(), 0, 0);
        for place in present.iter() {
            let breaker = &service.endpoints[place].breaker;
            all += 1;
            closed += usize::from(breaker.circuit(&service.rules, now_ms) == Circuit::Closed);
            if breaker.would_admit(&service.rules, now_ms) {
                admitting.insert(place);
            }
        }
        let panic = panics(closed, all, service.config.panic_threshold);
        View { eligible: if panic { present } else { admitting }, panic }
    }
}

/// Whether any endpoint may be tried in `delay`.
pub(crate) fn admits_in(snapshot: &Snapshot, service: usize, delay: Duration) -> bool {
    let services = &snapshot.services;
    let service = &services.all[service];
    let now = services.now_ms();
    let then = now + delay.as_millis() as u64;
    let is_open =
        |it: &crate::upstream::Endpoint| it.circuit(&service.rules, then) == Circuit::Open;
    !service.endpoints_now().all(is_open) || service.panics(now)
}

/// Endpoints of the service, beside those tried, that an attempt could go to now.
pub(crate) fn others_left(snapshot: &Snapshot, service: usize, tried: &Tried) -> u32 {
    let services = &snapshot.services;
    let View { eligible, .. } = View::of(&services.all[service], services.now_ms());
    eligible.without(tried.endpoints()).len() as u32
}
