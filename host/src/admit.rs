//! Which endpoint an attempt goes to, with its breaker's leave. Next: `forward.rs`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::breaker::{Circuit, Permit, Source};
use crate::exchange::Tried;
use crate::upstream::balance::{Candidate, p2c};
use crate::worker::Snapshot;

/// No endpoint of the service may be tried now.
#[derive(Debug)]
pub(crate) struct Refused {
    /// When the first of them may be.
    pub(crate) retry_in: Duration,
}

/// As many as a service may have in the configuration.
const CANDIDATES_MAX: usize = 64;

/// Picks among the endpoints whose breakers admit, those not yet tried first where the judge asked
/// for that.
pub(crate) fn admit<'a>(
    snapshot: &'a Snapshot,
    service: usize,
    tried: &Tried,
    random: u64,
    now: Instant,
) -> Result<(usize, Permit<'a>), Refused> {
    let services = &*snapshot.services;
    let endpoints = &services.all[service].endpoints;
    let (rules, now) = (&services.rules, services.ms_at(now.into_std()));
    // One endpoint is the usual case, and nothing is to be chosen.
    if let [only] = &endpoints[..] {
        let admitted = only.breaker.admit(rules, now, Source::Traffic);
        return admitted
            .map(|permit| (0, permit))
            .map_err(|refused| Refused { retry_in: refused.retry_in });
    }
    let mut retry_in = None;
    for avoiding in [true, false] {
        let mut candidates = [Candidate { index: 0, in_flight: 0 }; CANDIDATES_MAX];
        let mut count = 0;
        for (index, endpoint) in endpoints.iter().enumerate() {
            let other_round = tried.avoids(index) == avoiding;
            if other_round || count == CANDIDATES_MAX || !endpoint.breaker.would_admit(rules, now) {
                continue;
            }
            let in_flight = endpoint.in_flight.load(Ordering::Relaxed);
            candidates[count] = Candidate { index, in_flight };
            count += 1;
        }
        // Another worker may take a half-open slot between the look and the leave: then the rest
        // is tried, each once.
        while let Some(picked) = p2c(&candidates[..count], random) {
            match endpoints[picked].breaker.admit(rules, now, Source::Traffic) {
                Ok(permit) => return Ok((picked, permit)),
                Err(refused) => retry_in = earlier(retry_in, refused.retry_in),
            }
            let place = candidates[..count].iter().position(|candidate| candidate.index == picked);
            candidates.swap(place.expect("it was picked from these"), count - 1);
            count -= 1;
        }
    }
    for endpoint in endpoints {
        retry_in = earlier(retry_in, endpoint.breaker.retry_in(rules, now));
    }
    Err(Refused { retry_in: retry_in.unwrap_or_default() })
}

fn earlier(known: Option<Duration>, other: Duration) -> Option<Duration> {
    Some(known.map_or(other, |known| known.min(other)))
}

/// Whether the circuit of any endpoint will let attempts through in `delay`.
pub(crate) fn admits_in(snapshot: &Snapshot, service: usize, delay: Duration) -> bool {
    let services = &*snapshot.services;
    let then = services.now_ms() + delay.as_millis() as u64;
    let endpoints = &services.all[service].endpoints;
    endpoints
        .iter()
        .any(|endpoint| endpoint.breaker.circuit(&services.rules, then) != Circuit::Open)
}

/// Endpoints of the service, beside those tried, that would admit an attempt now.
pub(crate) fn others_left(snapshot: &Snapshot, service: usize, tried: &Tried) -> u32 {
    let services = &*snapshot.services;
    let (rules, now) = (&services.rules, services.now_ms());
    let endpoints = services.all[service].endpoints.iter().enumerate();
    endpoints
        .filter(|(index, endpoint)| {
            !tried.contains(*index) && endpoint.breaker.would_admit(rules, now)
        })
        .count() as u32
}
