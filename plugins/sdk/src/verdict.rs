//! What a retry policy answers.

use std::borrow::Cow;
use std::time::Duration;

/// Whether and when a failed attempt is made again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// No further attempt: the client gets what the last one came to.
    Stop,
    /// One further attempt.
    Again {
        /// How long to wait before it. The gateway clamps it, and stops where it would not fit
        /// into the time that is left.
        delay: Duration,
        /// Whether to try an endpoint that this request has not tried, where there is one.
        elsewhere: bool,
    },
    /// The policy cannot decide, for this reason, and the last good version is asked.
    CannotDecide(Cow<'static, str>),
}

impl Verdict {
    /// No further attempt.
    pub fn stop() -> Self {
        Verdict::Stop
    }

    /// One further attempt, after this delay.
    pub fn again(delay: Duration) -> Self {
        Verdict::Again { delay, elsewhere: false }
    }

    /// The policy cannot decide. The reason is for the log.
    pub fn cannot_decide(reason: impl Into<Cow<'static, str>>) -> Self {
        Verdict::CannotDecide(reason.into())
    }

    /// Lets the further attempt, if there is one, go to an endpoint that this request has not
    /// tried.
    pub fn elsewhere(mut self) -> Self {
        if let Verdict::Again { elsewhere, .. } = &mut self {
            *elsewhere = true;
        }
        self
    }
}
