//! What follows a failed attempt: another, or the end.
//!
//! Before: `forward.rs`. The host's own rules come first, so that no policy can have a request sent
//! again that may have taken effect, or more often than the limits allow; then the retry policy
//! decides; then its answer is clamped.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use tokio::time::Instant;

use crate::admit::{admits_in, others_left};
use crate::exchange::{Exchange, Tried};
use crate::forward::{Attempt, Clock, is_idempotent};
use crate::policy::{FailedAttempt, Fault, Kind, RequestFacts, RetryAnswer, Warm};
use crate::route::Target;
use crate::telemetry::metrics::ServiceLimit;
use crate::telemetry::record::Record;

#[derive(Debug)]
pub(crate) enum Verdict {
    Stop,
    Again { delay: Duration, elsewhere: bool },
}

/// Judges the last attempt of the record. The request goes in and comes back out because a
/// policy's instance owns it while it decides.
pub(crate) async fn judge(
    exchange: &Exchange,
    request: Box<RequestFacts>,
    target: &Target,
    attempt: &Attempt,
    clock: &Clock<'_>,
    tried: &Tried,
    record: &mut Record,
) -> (Box<RequestFacts>, Verdict) {
    let snapshot = &exchange.snapshot;
    let number = record.attempts();
    let Some(outcome) = attempt.outcome() else { return (request, Verdict::Stop) };
    let idempotent = is_idempotent(&request.head.method);
    // RFC 9110 section 9.2.2: sent again by itself only if that is safe or nothing was sent.
    if attempt.sent && !idempotent {
        return (request, Verdict::Stop);
    }
    let counters = &exchange.worker().counters;
    let refused = |limit| {
        counters.service_limit(target.service, limit);
        Verdict::Stop
    };
    if !exchange.body.replayable() {
        return (request, refused(ServiceLimit::ReplayBody));
    }
    if number >= snapshot.config.proxy.retry_attempts_max {
        return (request, refused(ServiceLimit::RetryAttempts));
    }
    let now = Instant::now();
    let remaining = clock.remaining(now);
    let services = &snapshot.services;
    let service = &services.all[target.service];

    let retry_after_ms = attempt.response_headers().and_then(retry_after_ms);
    let failed = Box::new(FailedAttempt {
        service: target.service,
        number,
        elapsed_ms: clock.elapsed(now).as_millis() as u64,
        remaining_ms: remaining.as_millis() as u64,
        outcome,
        sent: attempt.sent,
        idempotent,
        replayable: true,
        others_left: others_left(snapshot, target.service, tried),
        retry_after_ms,
        headers: attempt.response_headers().cloned(),
    });
    let (request, verdict) = ask(exchange, request, failed, record).await;
    // A judge that fails, with no last good version, means stop: the client gets what the attempt came to.
    let Ok(verdict) = verdict else { return (request, Verdict::Stop) };
    let Some(delay_ms) = verdict.again_after_ms else { return (request, Verdict::Stop) };

    let wanted = Duration::from_millis(delay_ms);
    let delay = wanted.min(snapshot.config.proxy.retry_delay_max);
    // A shorter delay than the service asked for, and the policy granted, would ask it too soon.
    if retry_after_ms.is_some_and(|wait| wait <= delay_ms && Duration::from_millis(wait) > delay) {
        return (request, refused(ServiceLimit::RetryAfter));
    }
    if delay < wanted {
        counters.service_limit(target.service, ServiceLimit::RetryDelay);
    }
    if delay >= remaining {
        return (request, refused(ServiceLimit::NoTimeToRetry));
    }
    // Nobody waits for an attempt that its circuit will not admit.
    if !admits_in(snapshot, target.service, delay) {
        return (request, Verdict::Stop);
    }
    // Last, so that only a retry that is about to be made draws on the budget.
    if !service.budget.withdraw(&service.budget_rules, services.now_ms()) {
        return (request, refused(ServiceLimit::RetryBudget));
    }
    counters.retry(target.service, outcome.into());
    (request, Verdict::Again { delay, elsewhere: verdict.elsewhere })
}

/// Asks the retry policy; the last good version where it fails, and from then on for this request.
async fn ask(
    exchange: &Exchange,
    request: Box<RequestFacts>,
    failed: Box<FailedAttempt>,
    record: &mut Record,
) -> (Box<RequestFacts>, Result<RetryAnswer, Fault>) {
    let known = &exchange.connection.pace[Kind::Retry as usize];
    let decide = async |mut request: Box<RequestFacts>, failed, warm: &Rc<Warm>| {
        request.pace = known.get();
        let mut began = std::time::Instant::now();
        let (request, failed, verdict) = warm.judge(&mut began, request, failed).await;
        known.set(request.pace);
        let fault = verdict.as_ref().err();
        exchange.worker().decided(&exchange.request_id, began.elapsed(), fault, warm);
        (request, failed, verdict)
    };
    let deciders = &exchange.snapshot.retry;
    let fallen_back = record.fell_back(Kind::Retry);
    let (request, failed) = match &deciders.last_good {
        Some(last_good) if fallen_back => {
            let (request, _, verdict) = decide(request, failed, last_good).await;
            return (request, verdict);
        }
        _ => match decide(request, failed, &deciders.active).await {
            (request, _, Ok(verdict)) => return (request, Ok(verdict)),
            (request, failed, Err(fault)) => match &deciders.last_good {
                None => return (request, Err(fault)),
                Some(_) => (request, failed),
            },
        },
    };
    let last_good = deciders.last_good.as_ref().expect("there is one, as was just seen");
    record.falls_back(last_good.version());
    let (request, _, verdict) = decide(request, failed, last_good).await;
    (request, verdict)
}

/// RFC 9110 section 10.2.3: seconds, or a date.
fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(seconds.saturating_mul(1000));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let wait = date.duration_since(SystemTime::now()).unwrap_or_default();
    u64::try_from(wait.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let of = |value: &str| {
            retry_after_ms(&HeaderMap::from_iter([(
                http::header::RETRY_AFTER,
                value.parse().expect("a header value"),
            )]))
        };
        assert_eq!(of("120"), Some(120_000));
        assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(0), "a date that is past");
        assert_eq!(of("soon"), None);
        assert_eq!(of("-1"), None);
        assert_eq!(of("18446744073709551615"), Some(u64::MAX), "clamped, not wrapped");
        assert_eq!(retry_after_ms(&HeaderMap::new()), None);
    }
}
