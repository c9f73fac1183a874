//! The default retry policy: which failed attempts are made again, how often, and after how long.
//!
//! ```toml
//! attempts = 3                     # the first one included
//! delay = "1s"                     # before each further attempt; or `backoff`, which grows
//! on = ["connect_failure", "lost_connection", "timeout", "status"]
//! statuses = [502, 503, 504]       # also classes: "5xx"
//! retry_after = "honour"
//! retry_after_max = "30s"
//! ```
//!
//! These are the defaults. `methods` can narrow them, `rules` make exceptions by method and outcome,
//! `services.<name>` has other values for one service. `read.rs` reads all of that, and works out in
//! `configure` what counts for each service, so that a verdict is one look through a list.
//!
//! What may be tried again at all, and how often at most, is the gateway's business: it asks only
//! where another attempt is safe, and clamps the answer.

mod read;

use std::ops::RangeInclusive;
use std::time::Duration;

use orchestrator_policy::collections::HashMap;
use orchestrator_policy::{ConfigError, Failure, Outcome, Request, RetryPolicy, Setup, Verdict};

/// The default retry policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// For services that have no plan of their own.
    plan: Plan,
    services: HashMap<String, Plan>,
}

/// All that counts for one service.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    /// The first one that fits decides.
    rules: Vec<Rule>,
    /// For what no rule fits.
    otherwise: Rule,
}

/// Which failures are met in which way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// None: every method.
    methods: Option<Vec<String>>,
    outcomes: Outcomes,
    terms: Terms,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcomes {
    connect_failure: bool,
    lost_connection: bool,
    timeout: bool,
    /// Empty where no response is meant.
    statuses: Vec<RangeInclusive<u16>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Terms {
    /// The first one included.
    attempts: u32,
    delay: Delay,
    /// The longest `Retry-After` that is waited for; none: it is not looked at.
    retry_after_max: Option<Duration>,
}

/// How long to wait before an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delay {
    Fixed(Duration),
    /// `initial` before the second attempt, `factor` times as long before each further one.
    Backoff {
        initial: Duration,
        factor: u32,
        max: Duration,
        /// Any time up to that, drawn anew for each attempt.
        jitter: bool,
    },
}

orchestrator_policy::export_retry!(Retry);

impl RetryPolicy for Retry {
    fn configure(setup: &Setup) -> Result<Self, Vec<ConfigError>> {
        read::retry(setup)
    }

    fn judge(&self, request: &Request, failure: &Failure) -> Verdict {
        let plan = self.plan_for(failure);
        let Some(terms) = plan.terms_for(request, &failure.outcome()) else {
            return Verdict::stop();
        };
        let number = failure.number();
        if number >= terms.attempts {
            return Verdict::stop();
        }
        let delay = terms.delay.after(number, request);
        match terms.retry_after_max.and_then(|max| Some((max, failure.retry_after()?))) {
            // Sooner than asked for would be rude, and later than this nobody waits: the client gets
            // the response, which says so too.
            Some((max, asked)) if asked > max => Verdict::stop(),
            Some((_, asked)) => Verdict::again(delay.max(asked)).elsewhere(),
            None => Verdict::again(delay).elsewhere(),
        }
    }
}

impl Retry {
    fn plan_for(&self, failure: &Failure) -> &Plan {
        // Each question is a call into the gateway.
        if self.services.is_empty() {
            return &self.plan;
        }
        self.services.get(&failure.service()).unwrap_or(&self.plan)
    }
}

impl Plan {
    fn terms_for(&self, request: &Request, outcome: &Outcome) -> Option<&Terms> {
        let mut rules = self.rules.iter().chain([&self.otherwise]);
        rules.find(|rule| rule.fits(request, outcome)).map(|rule| &rule.terms)
    }
}

impl Rule {
    fn fits(&self, request: &Request, outcome: &Outcome) -> bool {
        self.outcomes.contain(outcome)
            && self.methods.as_ref().is_none_or(|methods| {
                let method = request.method();
                methods.contains(&method)
            })
    }
}

impl Outcomes {
    fn contain(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::ConnectFailed => self.connect_failure,
            Outcome::ConnectionLost => self.lost_connection,
            Outcome::Timeout => self.timeout,
            Outcome::Status(status) => self.statuses.iter().any(|range| range.contains(status)),
            Outcome::Other(_) => false,
        }
    }
}

impl Delay {
    /// After attempt `number`, 1 for the first.
    fn after(self, number: u32, request: &Request) -> Duration {
        match self {
            Delay::Fixed(delay) => delay,
            Delay::Backoff { initial, factor, max, jitter } => {
                let grown = factor.saturating_pow(number.saturating_sub(1));
                let longest = initial.saturating_mul(grown).min(max);
                if !jitter {
                    return longest;
                }
                // Both ends included; the wire counts in milliseconds.
                let choices = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
                Duration::from_millis(request.random() % choices.saturating_add(1))
            }
        }
    }
}

#[cfg(test)]
mod tests;
