//! Is the peer fast enough? The rules for a client that sends its request, or reads its response, so
//! slowly that it only takes up room.
//!
//! Both are pure: time is an argument, and only the time that the gateway waits for the client counts.

use std::time::Duration;

use tokio::time::Instant;

/// The pace is looked at each time that the gateway has waited so long for a client.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);

/// Before a reader that stands still is looked at for the first time. Nearly all go on sooner, and
/// cost nothing.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// The least that a client must move within [`WINDOW`], in bytes.
fn bytes_min(rate_min: Option<u64>) -> u64 {
    rate_min.unwrap_or_default().saturating_mul(WINDOW.as_secs())
}

/// How fast a client sends while the gateway waits for it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sending {
    /// Since when nothing was there to read.
    since: Option<Instant>,
    waited: Duration,
    bytes: u64,
}

impl Sending {
    /// Nothing is there. True where that was not so before.
    pub(crate) fn waits(&mut self, now: Instant) -> bool {
        let anew = self.since.is_none();
        self.since.get_or_insert(now);
        anew
    }

    /// Whether the client is what is waited for.
    pub(crate) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// So much came.
    pub(crate) fn moved(&mut self, now: Instant, bytes: u64) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
            self.bytes += bytes;
        }
    }

    /// When the client's pace is to be looked at; none while it is not waited for.
    pub(crate) fn due(&self) -> Option<Instant> {
        Some(self.since? + WINDOW.saturating_sub(self.waited))
    }

    /// Looks at the pace, when that is due: whether it is too slow. The next window begins.
    pub(crate) fn is_too_slow(&mut self, now: Instant, rate_min: Option<u64>) -> bool {
        let slow = self.bytes < bytes_min(rate_min);
        *self = Sending { since: self.since.map(|_| now), ..Sending::default() };
        slow
    }
}

/// A client that does not read on: the kernel takes no more bytes for it. What was taken says little,
/// for the kernel's buffers are large; what the client has acknowledged is what counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// When the client last acknowledged something, as far as is known.
    progress_at: Instant,
    /// When the pace was last looked at, and what had been acknowledged then.
    looked: Option<(Instant, u64)>,
    /// What had been acknowledged at the last look, whatever it was for.
    acknowledged: u64,
}

/// What a look at a reader came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    FastEnough,
    /// Slower than `limits.body_rate_min`.
    Slow,
    /// Not a byte for `proxy.idle_timeout`.
    Stalled,
}

impl Reading {
    pub(crate) fn stops(now: Instant) -> Reading {
        Reading { progress_at: now, looked: None, acknowledged: 0 }
    }

    /// When the next look is due.
    pub(crate) fn due(&self, idle: Duration) -> Instant {
        match self.looked {
            None => self.progress_at + FIRST_LOOK.min(idle / 4),
            Some((at, _)) => (at + WINDOW).min(self.progress_at + idle),
        }
    }

    /// `acknowledged`: bytes since the connection began.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        acknowledged: u64,
        idle: Duration,
        rate_min: Option<u64>,
    ) -> Reader {
        let Some((at, before)) = self.looked else {
            // What was acknowledged until now is not known: it may have been much.
            *self = Reading { progress_at: now, looked: Some((now, acknowledged)), acknowledged };
            return Reader::FastEnough;
        };
        if acknowledged > self.acknowledged {
            self.acknowledged = acknowledged;
            self.progress_at = now;
        }
        if now >= self.progress_at + idle {
            return Reader::Stalled;
        }
        if now >= at + WINDOW {
            if acknowledged.saturating_sub(before) < bytes_min(rate_min) {
                return Reader::Slow;
            }
            self.looked = Some((now, acknowledged));
        }
        Reader::FastEnough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Option<u64> = Some(240);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn only_time_spent_waiting_for_the_client_counts() {
        let begin = Instant::now();
        let mut sending = Sending::default();
        assert_eq!(sending.due(), None, "nobody waits");
        assert!(sending.waits(begin));
        assert!(!sending.waits(begin + SECOND), "it waits already");
        assert_eq!(sending.due(), Some(begin + WINDOW));
        sending.moved(begin + 4 * SECOND, 100);
        // An hour in which the service was slow.
        assert!(sending.waits(begin + 3600 * SECOND));
        assert_eq!(sending.due(), Some(begin + 3606 * SECOND));
    }

    #[test]
    fn a_sender_is_slow_below_the_rate_and_each_window_counts_anew() {
        let begin = Instant::now();
        for (bytes, slow) in [(0, true), (2399, true), (2400, false)] {
            let mut sending = Sending::default();
            sending.waits(begin);
            sending.moved(begin + 9 * SECOND, bytes);
            sending.waits(begin + 9 * SECOND);
            assert_eq!(sending.is_too_slow(begin + 10 * SECOND, RATE), slow, "{bytes}");
            assert_eq!(sending.due(), Some(begin + 20 * SECOND));
            assert!(sending.is_too_slow(begin + 20 * SECOND, RATE), "nothing in the second window");
        }
        assert!(!Sending::default().is_too_slow(begin, None), "off");
    }

    /// Looks whenever one is due, with what was acknowledged `at` then, until the verdict.
    fn verdict(idle: Duration, at: impl Fn(Duration) -> u64) -> (Reader, Duration) {
        let begin = Instant::now();
        let mut reading = Reading::stops(begin);
        for _ in 0..100 {
            let now = reading.due(idle);
            match reading.look(now, at(now - begin), idle, RATE) {
                Reader::FastEnough => {}
                verdict => return (verdict, now - begin),
            }
        }
        (Reader::FastEnough, Duration::MAX)
    }

    #[test]
    fn a_reader_that_acknowledges_nothing_stalls() {
        let (reader, after) = verdict(4 * SECOND, |_| 1_000_000);
        assert_eq!((reader, after), (Reader::Stalled, 5 * SECOND));
    }

    #[test]
    fn a_reader_below_the_rate_is_slow_and_one_at_the_rate_is_not() {
        let rate = |per_s: u64| move |time: Duration| time.as_secs() * per_s;
        assert_eq!(verdict(30 * SECOND, rate(239)), (Reader::Slow, 11 * SECOND));
        assert_eq!(verdict(30 * SECOND, rate(240)).0, Reader::FastEnough);
    }
}
