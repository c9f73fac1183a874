//! The default retry policy: so many attempts, a fixed delay between them, other endpoints first.
//!
//! ```json
//! {"attempts": 3, "delay": "1s", "statuses": [502, 503, 504],
//!  "on": ["connect_failure", "lost_connection", "timeout", "status"]}
//! ```
//!
//! These are the defaults. `attempts` counts the first one; `on` lists the outcomes that are worth
//! another attempt, and `statuses` which responses are. What may be tried again at all, and how
//! often at most, is the gateway's business: it asks only where another attempt is safe, and clamps
//! the answer.

use std::time::Duration;

use orchestrator_policy::config::{Document, Node};
use orchestrator_policy::{ConfigError, Failure, Outcome, Request, RetryPolicy, Setup, Verdict};

const FIELDS: [&str; 4] = ["attempts", "delay", "statuses", "on"];
const OUTCOMES: [&str; 4] = ["connect_failure", "lost_connection", "timeout", "status"];

/// The default retry policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// The first one included.
    attempts: u32,
    delay: Duration,
    on_connect_failure: bool,
    on_lost_connection: bool,
    on_timeout: bool,
    /// Empty where responses are not worth another attempt.
    statuses: Vec<u16>,
}

orchestrator_policy::export_retry!(Retry);

impl RetryPolicy for Retry {
    fn configure(setup: &Setup) -> Result<Self, Vec<ConfigError>> {
        let document = Document::parse(setup.config())?;
        let table = document.table(&FIELDS);
        let attempts = table.get("attempts").map_or(Some(3), |node| read_attempts(&node));
        let delay = table.get("delay").map_or(Some(Duration::from_secs(1)), |n| n.duration());
        let statuses =
            table.get("statuses").map_or_else(|| vec![502, 503, 504], |node| read_statuses(&node));
        let on = table.get("on").map_or_else(|| OUTCOMES.to_vec(), |node| read_outcomes(&node));
        document.finish(Retry {
            attempts: attempts.unwrap_or_default(),
            delay: delay.unwrap_or_default(),
            on_connect_failure: on.contains(&"connect_failure"),
            on_lost_connection: on.contains(&"lost_connection"),
            on_timeout: on.contains(&"timeout"),
            statuses: if on.contains(&"status") { statuses } else { Vec::new() },
        })
    }

    fn judge(&self, _: &Request, failure: &Failure) -> Verdict {
        if failure.number() < self.attempts && self.is_worth_another(&failure.outcome()) {
            Verdict::again(self.delay).elsewhere()
        } else {
            Verdict::stop()
        }
    }
}

impl Retry {
    fn is_worth_another(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::ConnectFailed => self.on_connect_failure,
            Outcome::ConnectionLost => self.on_lost_connection,
            Outcome::Timeout => self.on_timeout,
            Outcome::Status(status) => self.statuses.contains(status),
            Outcome::Other(_) => false,
        }
    }
}

fn read_attempts(node: &Node<'_>) -> Option<u32> {
    node.integer(1..=u64::from(u32::MAX)).and_then(|number| number.try_into().ok())
}

/// The statuses of failures: a success is not tried again.
fn read_statuses(node: &Node<'_>) -> Vec<u16> {
    let status = |node: &Node<'_>| node.integer(400..=599)?.try_into().ok();
    node.list().iter().flatten().filter_map(status).collect()
}

fn read_outcomes<'a>(node: &Node<'a>) -> Vec<&'a str> {
    node.list().iter().flatten().filter_map(|node| node.one_of(&OUTCOMES, "an outcome")).collect()
}

#[cfg(test)]
mod tests;
