//! When is an endpoint left alone? The circuit breaker: a pure machine in one atomic word.
//!
//! [`admit`](Breaker::admit) stands before each attempt and each health check and hands out a
//! [`Permit`]; [`settle`](Permit::settle) takes back what came of it.
//!
//! ```text
//!            failure_threshold faults in a row, of checks or of traffic
//!   Closed ───────────────────────────────────────────────────────────▶ Open
//!     ▲                                                                 │  ▲
//!     │ success_threshold successes, of either              open_for is │  │ one fault
//!     │                                                      over, and  │  │
//!     │                                                    somebody asks▼  │
//!     └──────────────────────────────────────────────────────────── HalfOpen
//! ```
//!
//! There is no timer: the first `admit` after `open_for` opens the circuit half, and a half-open
//! slot is freed because a permit is always settled or dropped.
//!
//! While the circuit is closed and nothing fails, `admit` and `settle` each read the word and write
//! nothing, so that workers can share its cache line.

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// When a circuit opens and when it closes again. An argument of each call and no part of the
/// breaker, so that a new configuration counts at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// So many faults in a row, from one source, open the circuit. 0 counts as 1, and more than
    /// [`COUNT_MAX`] as that.
    pub failure_threshold: u32,
    /// So many successes in the half-open state, from either source, close it. 0 and large values
    /// as above.
    pub success_threshold: u32,
    /// How long the circuit stays open before it is tried again.
    pub open_for: Duration,
}

/// The highest threshold that the breaker can count to.
pub const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;

/// What wants to reach the endpoint. The faults of the two are counted apart, so that checks that
/// pass do not hide traffic that fails, nor the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Traffic,
    Check,
}

impl Source {
    /// The word for pages and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traffic => "traffic",
            Self::Check => "checks",
        }
    }
}

/// What came of an attempt. What says nothing about the endpoint (the client left, say) is neither:
/// drop the permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Fault,
}

/// A circuit as others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// All attempts are admitted.
    Closed,
    /// None is.
    Open,
    /// One at a time is.
    HalfOpen,
}

impl Circuit {
    pub const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    /// The word for pages, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// A change of the circuit, told once, to the caller whose event caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    pub from: Circuit,
    pub to: Circuit,
}

/// The circuit admits nothing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// When to ask again: what is left of `open_for`. Zero while half-open, where it depends on the
    /// attempt that is out.
    pub retry_in: Duration,
}

/// The breaker of one endpoint, shared by all workers and the health monitor.
///
/// `now_ms`, everywhere, is any clock that counts milliseconds and does not go backwards; it counts
/// modulo 2^42 (139 years). A caller whose `now_ms` is a little behind another's does no harm.
//
// A cache line of its own: a neighbour that is written for each request would cost each `admit` a
// cache miss.
#[repr(align(64))]
pub struct Breaker(AtomicU64);

impl Breaker {
    /// A closed circuit without faults.
    pub fn new() -> Self {
        Self(AtomicU64::new(State::default().pack()))
    }

    /// Asks for leave to make one attempt.
    pub fn admit(&self, rules: &Rules, now_ms: u64, source: Source) -> Result<Permit<'_>, Refused> {
        match self.apply(rules, now_ms, Event::Admit) {
            Effect::Admitted { term, transition } => {
                Ok(Permit { breaker: self, term, source, transition })
            }
            Effect::Refused(refused) => Err(refused),
            Effect::Moved(_) | Effect::Nothing => unreachable!("an answer to another event"),
        }
    }

    /// Leave for an attempt that is made whatever the circuit is. What comes of it counts for nothing
    /// here: the circuit learns from those that it admitted.
    pub fn bypass(&self, source: Source) -> Permit<'_> {
        Permit { breaker: self, term: NO_TERM, source, transition: None }
    }

    /// Begins anew, for an endpoint that takes the place of another: closed, without faults, and deaf
    /// to the permits that are out.
    pub fn reset(&self) {
        let mut word = self.0.load(Relaxed);
        loop {
            let term = State::unpack(word).next_term();
            let next = State::Closed { term, traffic_faults: 0, check_faults: 0 }.pack();
            match self.0.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(newer) => word = newer,
            }
        }
    }

    /// Whether [`admit`](Self::admit) would give a permit now. Changes nothing.
    pub fn would_admit(&self, rules: &Rules, now_ms: u64) -> bool {
        let (_, effect) = step(self.state(), rules, now_ms, Event::Admit);
        matches!(effect, Effect::Admitted { .. })
    }

    /// The circuit now. An open one whose `open_for` is over counts as half-open, though nobody has
    /// tried it yet.
    pub fn circuit(&self, rules: &Rules, now_ms: u64) -> Circuit {
        match self.state() {
            State::Open { since_ms, .. } if time_left(rules, since_ms, now_ms).is_zero() => {
                Circuit::HalfOpen
            }
            state => state.circuit(),
        }
    }

    /// What is left of `open_for`: zero unless the circuit is open.
    pub fn retry_in(&self, rules: &Rules, now_ms: u64) -> Duration {
        match self.state() {
            State::Open { since_ms, .. } => time_left(rules, since_ms, now_ms),
            State::Closed { .. } | State::HalfOpen { .. } => Duration::ZERO,
        }
    }

    fn state(&self) -> State {
        State::unpack(self.0.load(Relaxed))
    }

    /// Steps the shared word. `Relaxed` is enough, for the word guards no memory but itself.
    fn apply(&self, rules: &Rules, now_ms: u64, event: Event) -> Effect {
        let mut word = self.0.load(Relaxed);
        loop {
            let (next, effect) = step(State::unpack(word), rules, now_ms, event);
            let next = next.pack();
            if next == word {
                return effect;
            }
            match self.0.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => return effect,
                Err(newer) => word = newer,
            }
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Breaker").field(&self.state()).finish()
    }
}

/// Leave to make one attempt. Dropped unsettled it is neutral: it counts as nothing and frees the
/// half-open slot that it may hold.
#[derive(Debug)]
#[must_use = "a permit that is dropped says nothing about the endpoint"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    term: u32,
    source: Source,
    transition: Option<Transition>,
}

impl Permit<'_> {
    /// The transition that this admission itself caused: from open to half-open.
    pub fn transition(&self) -> Option<Transition> {
        self.transition
    }

    /// Whether it holds the half-open slot, for which all others wait.
    pub fn is_trial(&self) -> bool {
        let state = self.breaker.state();
        matches!(state, State::HalfOpen { term, probe_out: true, .. } if term == self.term)
    }

    /// Tells the breaker what came of the attempt, and the caller whether that moved the circuit.
    /// What comes from before an earlier move of the circuit is ignored.
    pub fn settle(self, rules: &Rules, now_ms: u64, outcome: Outcome) -> Option<Transition> {
        let Self { breaker, term, source, .. } = self;
        // It has its outcome: `drop` must not free the slot of the next probe.
        mem::forget(self);
        match breaker.apply(rules, now_ms, Event::Settle { term, source, outcome }) {
            Effect::Moved(transition) => Some(transition),
            Effect::Admitted { .. } | Effect::Refused(_) | Effect::Nothing => None,
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // Freeing a slot depends on neither the rules nor the time.
        let no_rules =
            Rules { failure_threshold: 0, success_threshold: 0, open_for: Duration::MAX };
        self.breaker.apply(&no_rules, 0, Event::Drop { term: self.term });
    }
}

/// The machine's whole state. `term` counts the transitions, so that a permit can tell whether the
/// state that admitted it is still the one that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Closed { term: u32, traffic_faults: u32, check_faults: u32 },
    Open { term: u32, since_ms: u64 },
    HalfOpen { term: u32, probe_out: bool, successes: u32 },
}

/// What happens to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Admit,
    Settle { term: u32, source: Source, outcome: Outcome },
    Drop { term: u32 },
}

/// What the caller learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Admitted { term: u32, transition: Option<Transition> },
    Refused(Refused),
    Moved(Transition),
    Nothing,
}

/// The machine: every rule of the breaker stands here.
pub fn step(state: State, rules: &Rules, now_ms: u64, event: Event) -> (State, Effect) {
    match event {
        Event::Admit => admit(state, rules, now_ms),
        Event::Settle { term, .. } | Event::Drop { term } if term != state.term() => {
            (state, Effect::Nothing)
        }
        Event::Settle { source, outcome: Outcome::Success, .. } => succeed(state, rules, source),
        Event::Settle { source, outcome: Outcome::Fault, .. } => fail(state, rules, now_ms, source),
        Event::Drop { .. } => match state {
            State::HalfOpen { term, successes, .. } => {
                (State::HalfOpen { term, probe_out: false, successes }, Effect::Nothing)
            }
            State::Closed { .. } | State::Open { .. } => (state, Effect::Nothing),
        },
    }
}

fn admit(state: State, rules: &Rules, now_ms: u64) -> (State, Effect) {
    match state {
        State::Closed { term, .. } => (state, Effect::Admitted { term, transition: None }),
        State::Open { since_ms, .. } => {
            let retry_in = time_left(rules, since_ms, now_ms);
            if !retry_in.is_zero() {
                return (state, Effect::Refused(Refused { retry_in }));
            }
            let term = state.next_term();
            let next = State::HalfOpen { term, probe_out: true, successes: 0 };
            let transition = Some(Transition { from: state.circuit(), to: next.circuit() });
            (next, Effect::Admitted { term, transition })
        }
        State::HalfOpen { probe_out: true, .. } => {
            (state, Effect::Refused(Refused { retry_in: Duration::ZERO }))
        }
        State::HalfOpen { term, probe_out: false, successes } => (
            State::HalfOpen { term, probe_out: true, successes },
            Effect::Admitted { term, transition: None },
        ),
    }
}

fn succeed(state: State, rules: &Rules, source: Source) -> (State, Effect) {
    match (state, source) {
        (State::Closed { term, check_faults, .. }, Source::Traffic) => {
            (State::Closed { term, traffic_faults: 0, check_faults }, Effect::Nothing)
        }
        (State::Closed { term, traffic_faults, .. }, Source::Check) => {
            (State::Closed { term, traffic_faults, check_faults: 0 }, Effect::Nothing)
        }
        (State::HalfOpen { term, successes, .. }, _) => {
            if reached(successes + 1, rules.success_threshold) {
                let term = state.next_term();
                moved(state, State::Closed { term, traffic_faults: 0, check_faults: 0 })
            } else {
                let successes = successes + 1;
                (State::HalfOpen { term, probe_out: false, successes }, Effect::Nothing)
            }
        }
        // No permit has the term of an open circuit.
        (State::Open { .. }, _) => (state, Effect::Nothing),
    }
}

fn fail(state: State, rules: &Rules, now_ms: u64, source: Source) -> (State, Effect) {
    let opened = State::Open { term: state.next_term(), since_ms: now_ms & TIME_MAX };
    match state {
        State::Closed { term, mut traffic_faults, mut check_faults } => {
            let faults = match source {
                Source::Traffic => &mut traffic_faults,
                Source::Check => &mut check_faults,
            };
            *faults += 1;
            if reached(*faults, rules.failure_threshold) {
                moved(state, opened)
            } else {
                (State::Closed { term, traffic_faults, check_faults }, Effect::Nothing)
            }
        }
        State::HalfOpen { .. } => moved(state, opened),
        State::Open { .. } => (state, Effect::Nothing),
    }
}

fn moved(from: State, to: State) -> (State, Effect) {
    (to, Effect::Moved(Transition { from: from.circuit(), to: to.circuit() }))
}

/// A count that is below its threshold is also below `COUNT_MAX`, so that it never outgrows its
/// bits.
fn reached(count: u32, threshold: u32) -> bool {
    count >= threshold.min(COUNT_MAX)
}

fn time_left(rules: &Rules, since_ms: u64, now_ms: u64) -> Duration {
    let elapsed_ms = (now_ms & TIME_MAX).wrapping_sub(since_ms) & TIME_MAX;
    // More than half a round ahead is a caller whose clock is a little behind.
    let elapsed_ms = if elapsed_ms > TIME_MAX / 2 { 0 } else { elapsed_ms };
    rules.open_for.saturating_sub(Duration::from_millis(elapsed_ms))
}

// The word, from its high end: 2 bits of circuit, 20 of term, 42 of what the circuit carries: two
// counts of 21 bits (closed), milliseconds (open), or a bit and a count (half-open). Twenty bits of
// term wrap after a million transitions: a permit would have to outlive 350,000 rounds of open_for.
const COUNT_BITS: u32 = 21;
const BODY_BITS: u32 = 42;
const TERM_BITS: u32 = 20;
const TERM_MAX: u32 = (1 << TERM_BITS) - 1;
/// Of no state, so that results with it are ignored like late ones.
const NO_TERM: u32 = u32::MAX;
const TIME_MAX: u64 = (1 << BODY_BITS) - 1;
const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const HALF_OPEN: u64 = 2;

impl Default for State {
    fn default() -> Self {
        Self::Closed { term: 0, traffic_faults: 0, check_faults: 0 }
    }
}

impl State {
    fn circuit(self) -> Circuit {
        match self {
            Self::Closed { .. } => Circuit::Closed,
            Self::Open { .. } => Circuit::Open,
            Self::HalfOpen { .. } => Circuit::HalfOpen,
        }
    }

    fn term(self) -> u32 {
        match self {
            Self::Closed { term, .. } | Self::Open { term, .. } | Self::HalfOpen { term, .. } => {
                term
            }
        }
    }

    fn next_term(self) -> u32 {
        (self.term() + 1) & TERM_MAX
    }

    fn pack(self) -> u64 {
        let (tag, body) = match self {
            Self::Closed { traffic_faults, check_faults, .. } => {
                (CLOSED, u64::from(traffic_faults) << COUNT_BITS | u64::from(check_faults))
            }
            Self::Open { since_ms, .. } => (OPEN, since_ms),
            Self::HalfOpen { probe_out, successes, .. } => {
                (HALF_OPEN, u64::from(probe_out) << COUNT_BITS | u64::from(successes))
            }
        };
        tag << (TERM_BITS + BODY_BITS) | u64::from(self.term()) << BODY_BITS | body
    }

    fn unpack(word: u64) -> Self {
        // The masks keep each part within its type.
        let term = (word >> BODY_BITS) as u32 & TERM_MAX;
        let high = (word >> COUNT_BITS) as u32 & COUNT_MAX;
        let low = word as u32 & COUNT_MAX;
        match word >> (TERM_BITS + BODY_BITS) {
            CLOSED => Self::Closed { term, traffic_faults: high, check_faults: low },
            OPEN => Self::Open { term, since_ms: word & TIME_MAX },
            _ => Self::HalfOpen { term, probe_out: high != 0, successes: low },
        }
    }
}
