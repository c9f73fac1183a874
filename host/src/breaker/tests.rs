use super::Circuit::{Closed, HalfOpen, Open};
use super::Outcome::{Fault, Success};
use super::Source::{Check, Traffic};
use super::*;
use proptest::prelude::*;

const RULES: Rules =
    Rules { failure_threshold: 3, success_threshold: 2, open_for: Duration::from_secs(60) };
const MINUTE_MS: u64 = 60_000;

fn attempt(breaker: &Breaker, now_ms: u64, source: Source, outcome: Outcome) -> Option<Transition> {
    breaker.admit(&RULES, now_ms, source).expect("admitted").settle(&RULES, now_ms, outcome)
}

fn opened_at_0() -> Breaker {
    let breaker = Breaker::new();
    for _ in 0..3 {
        attempt(&breaker, 0, Traffic, Fault);
    }
    assert_eq!(breaker.circuit(&RULES, 0), Open);
    breaker
}

#[test]
fn third_failure_opens_a_probe_after_open_for_two_successes_close() {
    let breaker = Breaker::new();
    assert_eq!(attempt(&breaker, 0, Traffic, Fault), None);
    assert_eq!(attempt(&breaker, 1, Traffic, Fault), None);
    assert_eq!(breaker.circuit(&RULES, 1), Closed);
    let opened = attempt(&breaker, 2, Traffic, Fault);
    assert_eq!(opened, Some(Transition { from: Closed, to: Open }));

    let refused = breaker.admit(&RULES, 1_002, Traffic).expect_err("open");
    assert_eq!(refused.retry_in, Duration::from_secs(59));
    assert!(!breaker.would_admit(&RULES, MINUTE_MS + 1));
    assert_eq!(breaker.retry_in(&RULES, MINUTE_MS + 1), Duration::from_millis(1));

    let now_ms = MINUTE_MS + 2;
    assert_eq!(breaker.circuit(&RULES, now_ms), HalfOpen);
    let probe = breaker.admit(&RULES, now_ms, Traffic).expect("half-open");
    assert_eq!(probe.transition(), Some(Transition { from: Open, to: HalfOpen }));
    assert_eq!(probe.settle(&RULES, now_ms, Success), None);
    let closed = attempt(&breaker, now_ms, Traffic, Success);
    assert_eq!(closed, Some(Transition { from: HalfOpen, to: Closed }));
    assert_eq!(breaker.circuit(&RULES, now_ms), Closed);
}

#[test]
fn half_open_admits_one_at_a_time_whoever_asks() {
    let breaker = opened_at_0();
    let probe = breaker.admit(&RULES, MINUTE_MS, Check).expect("half-open");
    for source in [Traffic, Check] {
        let refused = breaker.admit(&RULES, MINUTE_MS, source).expect_err("the slot is taken");
        assert_eq!(refused.retry_in, Duration::ZERO);
    }
    probe.settle(&RULES, MINUTE_MS, Success);
    assert!(breaker.would_admit(&RULES, MINUTE_MS));
}

#[test]
fn one_fault_reopens_for_the_whole_time() {
    let breaker = opened_at_0();
    assert_eq!(attempt(&breaker, MINUTE_MS, Traffic, Success), None);
    let reopened = attempt(&breaker, MINUTE_MS + 500, Check, Fault);
    assert_eq!(reopened, Some(Transition { from: HalfOpen, to: Open }));
    assert_eq!(breaker.retry_in(&RULES, MINUTE_MS + 500), RULES.open_for);
}

#[test]
fn successes_of_both_sources_close() {
    let breaker = opened_at_0();
    assert_eq!(attempt(&breaker, MINUTE_MS, Check, Success), None);
    let closed = attempt(&breaker, MINUTE_MS, Traffic, Success);
    assert_eq!(closed, Some(Transition { from: HalfOpen, to: Closed }));
}

#[test]
fn a_probe_that_is_dropped_is_neutral_and_frees_its_slot() {
    let breaker = opened_at_0();
    attempt(&breaker, MINUTE_MS, Traffic, Success);
    drop(breaker.admit(&RULES, MINUTE_MS, Traffic).expect("half-open"));
    assert_eq!(breaker.circuit(&RULES, MINUTE_MS), HalfOpen);
    let closed = attempt(&breaker, MINUTE_MS, Traffic, Success);
    assert_eq!(closed, Some(Transition { from: HalfOpen, to: Closed }), "the first one counted");
}

#[test]
fn faults_of_checks_and_of_traffic_are_counted_apart() {
    let breaker = Breaker::new();
    for _ in 0..2 {
        attempt(&breaker, 0, Traffic, Fault);
        attempt(&breaker, 0, Check, Fault);
    }
    assert_eq!(breaker.circuit(&RULES, 0), Closed, "four faults, of neither three");
    attempt(&breaker, 0, Check, Success);
    let opened = attempt(&breaker, 0, Traffic, Fault);
    assert_eq!(opened, Some(Transition { from: Closed, to: Open }), "a check resets checks only");
}

#[test]
fn a_success_resets_the_count() {
    let breaker = Breaker::new();
    for outcome in [Fault, Fault, Success, Fault, Fault] {
        assert_eq!(attempt(&breaker, 0, Traffic, outcome), None);
    }
    assert_eq!(breaker.circuit(&RULES, 0), Closed);
}

#[test]
fn results_from_before_a_transition_are_ignored() {
    let breaker = Breaker::new();
    let [late_fault, late_success, late_drop] =
        [(); 3].map(|()| breaker.admit(&RULES, 0, Traffic).expect("closed"));
    for _ in 0..3 {
        attempt(&breaker, 0, Traffic, Fault);
    }
    let probe = breaker.admit(&RULES, MINUTE_MS, Traffic).expect("half-open");

    assert_eq!(late_fault.settle(&RULES, MINUTE_MS, Fault), None);
    assert_eq!(late_success.settle(&RULES, MINUTE_MS, Success), None);
    drop(late_drop);
    assert!(!breaker.would_admit(&RULES, MINUTE_MS), "the probe still holds its slot");
    probe.settle(&RULES, MINUTE_MS, Success);
    assert_eq!(breaker.circuit(&RULES, MINUTE_MS), HalfOpen, "one success, not two");
}

#[test]
fn new_rules_count_at_once() {
    let breaker = opened_at_0();
    let shorter = Rules { open_for: Duration::from_secs(1), ..RULES };
    assert_eq!(breaker.circuit(&RULES, 1_000), Open);
    assert_eq!(breaker.circuit(&shorter, 1_000), HalfOpen);
}

#[test]
fn a_caller_whose_clock_is_behind_finds_the_circuit_open() {
    let breaker = Breaker::new();
    for _ in 0..3 {
        attempt(&breaker, 10_000, Traffic, Fault);
    }
    assert_eq!(breaker.retry_in(&RULES, 9_990), RULES.open_for);
    assert!(breaker.admit(&RULES, 9_990, Traffic).is_err());
}

#[test]
fn a_threshold_of_zero_is_one_and_of_any_size_is_safe() {
    let zero = Rules { failure_threshold: 0, success_threshold: 0, open_for: Duration::ZERO };
    let breaker = Breaker::new();
    let opened = breaker.admit(&zero, 0, Traffic).expect("closed").settle(&zero, 0, Fault);
    assert_eq!(opened, Some(Transition { from: Closed, to: Open }));
    let closed = breaker.admit(&zero, 0, Traffic).expect("half-open").settle(&zero, 0, Success);
    assert_eq!(closed, Some(Transition { from: HalfOpen, to: Closed }));

    let huge = Rules { failure_threshold: u32::MAX, ..RULES };
    let full =
        State::Closed { term: 0, traffic_faults: COUNT_MAX - 1, check_faults: COUNT_MAX - 1 };
    let fault = Event::Settle { term: 0, source: Check, outcome: Fault };
    let (state, effect) = step(full, &huge, 0, fault);
    assert_eq!(effect, Effect::Moved(Transition { from: Closed, to: Open }));
    assert_eq!(State::unpack(state.pack()), state);
}

#[test]
fn the_term_wraps_without_touching_its_neighbours() {
    let last = State::HalfOpen { term: TERM_MAX, probe_out: true, successes: 0 };
    let fault = Event::Settle { term: TERM_MAX, source: Traffic, outcome: Fault };
    let (state, _) = step(last, &RULES, 7, fault);
    assert_eq!(state, State::Open { term: 0, since_ms: 7 });
}

#[test]
fn of_many_threads_that_ask_a_half_open_circuit_one_gets_the_permit() {
    let breaker = opened_at_0();
    std::thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(|| breaker.admit(&RULES, MINUTE_MS, Traffic)));
        // Collected, so that no permit is dropped while another thread still asks.
        let answers = threads.map(|thread| thread.join().expect("no panic"));
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    });
}

#[test]
fn threads_never_hold_two_half_open_permits_at_once() {
    // Enough successes to stay half-open throughout.
    let rules = Rules { success_threshold: COUNT_MAX, ..RULES };
    let breaker = opened_at_0();
    let out = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for round in 0..20_000 {
                    let permit = loop {
                        if let Ok(permit) = breaker.admit(&rules, MINUTE_MS, Traffic) {
                            break permit;
                        }
                        std::hint::spin_loop();
                    };
                    assert_eq!(out.fetch_add(1, Relaxed), 0);
                    // Long enough for another thread to be let in, if one were.
                    for _ in 0..50 {
                        std::hint::spin_loop();
                    }
                    out.fetch_sub(1, Relaxed);
                    if round % 2 == 0 {
                        permit.settle(&rules, MINUTE_MS, Success);
                    }
                }
            });
        }
    });
}

/// What the breaker should do, in the plainest words: no terms, no packing; a permit knows the
/// number of transitions that there had been when it was given.
#[derive(Debug, Default)]
struct Model {
    circuit: ModelCircuit,
    transitions: usize,
    faults_of_traffic: u32,
    faults_of_checks: u32,
    successes: u32,
    probes_out: u32,
    opened_at_ms: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum ModelCircuit {
    #[default]
    Closed,
    Open,
    HalfOpen,
}

impl Model {
    fn circuit(&self, rules: &Rules, now_ms: u64) -> Circuit {
        let open_until_ms = self.opened_at_ms + rules.open_for.as_millis() as u64;
        match self.circuit {
            ModelCircuit::Closed => Closed,
            ModelCircuit::Open if now_ms < open_until_ms => Open,
            ModelCircuit::Open | ModelCircuit::HalfOpen => HalfOpen,
        }
    }

    fn admits(&self, rules: &Rules, now_ms: u64) -> bool {
        match self.circuit(rules, now_ms) {
            Closed => true,
            Open => false,
            HalfOpen => self.probes_out == 0,
        }
    }

    fn enter(&mut self, circuit: ModelCircuit) {
        *self = Self { circuit, transitions: self.transitions + 1, ..Self::default() };
    }

    fn admit(&mut self, rules: &Rules, now_ms: u64) -> Option<usize> {
        if !self.admits(rules, now_ms) {
            return None;
        }
        if self.circuit == ModelCircuit::Open {
            self.enter(ModelCircuit::HalfOpen);
        }
        if self.circuit == ModelCircuit::HalfOpen {
            self.probes_out += 1;
        }
        Some(self.transitions)
    }

    fn give_back(&mut self, given_at: usize) -> bool {
        if given_at == self.transitions && self.circuit == ModelCircuit::HalfOpen {
            self.probes_out -= 1;
        }
        given_at == self.transitions
    }

    fn settle(
        &mut self,
        rules: &Rules,
        now_ms: u64,
        given_at: usize,
        source: Source,
        outcome: Outcome,
    ) {
        if !self.give_back(given_at) {
            return;
        }
        let half_open = self.circuit == ModelCircuit::HalfOpen;
        match (outcome, source) {
            (Success, _) if half_open => {
                self.successes += 1;
                if self.successes == rules.success_threshold {
                    self.enter(ModelCircuit::Closed);
                }
            }
            (Success, Traffic) => self.faults_of_traffic = 0,
            (Success, Check) => self.faults_of_checks = 0,
            (Fault, _) => {
                match source {
                    Traffic => self.faults_of_traffic += 1,
                    Check => self.faults_of_checks += 1,
                }
                let worst = self.faults_of_traffic.max(self.faults_of_checks);
                if half_open || worst == rules.failure_threshold {
                    self.enter(ModelCircuit::Open);
                    self.opened_at_ms = now_ms;
                }
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Admit(Source),
    Settle(prop::sample::Index, Outcome),
    Drop(prop::sample::Index),
    Advance(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let source = || prop_oneof![Just(Traffic), Just(Check)];
    let outcome = || prop_oneof![1 => Just(Success), 2 => Just(Fault)];
    let op = prop_oneof![
        6 => source().prop_map(Op::Admit),
        4 => (any::<prop::sample::Index>(), outcome()).prop_map(|(i, o)| Op::Settle(i, o)),
        1 => any::<prop::sample::Index>().prop_map(Op::Drop),
        2 => (0..150u64).prop_map(Op::Advance),
    ];
    prop::collection::vec(op, EVENTS)
}

/// Together a million events.
const EVENTS: usize = 200;
const CASES: u32 = 5_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn behaves_as_the_model_does(
        failure_threshold in 1..5u32,
        success_threshold in 1..4u32,
        open_ms in 0..300u64,
        start_ms in prop_oneof![Just(0), Just(TIME_MAX - 1_000), 0..u64::MAX / 2],
        ops in ops(),
    ) {
        let open_for = Duration::from_millis(open_ms);
        let rules = Rules { failure_threshold, success_threshold, open_for };
        let breaker = Breaker::new();
        let mut model = Model::default();
        let mut permits = Vec::new();
        let mut now_ms = start_ms;
        for op in ops {
            let before = model.transitions;
            let mut told = None;
            match op {
                Op::Admit(source) => {
                    let permit = breaker.admit(&rules, now_ms, source).ok();
                    let given_at = model.admit(&rules, now_ms);
                    prop_assert_eq!(permit.is_some(), given_at.is_some());
                    told = permit.as_ref().and_then(Permit::transition);
                    permits.extend(permit.zip(given_at).map(|(p, at)| (p, at, source)));
                }
                Op::Settle(index, outcome) if !permits.is_empty() => {
                    let (permit, at, source) = permits.swap_remove(index.index(permits.len()));
                    told = permit.settle(&rules, now_ms, outcome);
                    model.settle(&rules, now_ms, at, source, outcome);
                }
                Op::Drop(index) if !permits.is_empty() => {
                    let (permit, at, _) = permits.swap_remove(index.index(permits.len()));
                    drop(permit);
                    model.give_back(at);
                }
                Op::Advance(ms) => now_ms += ms,
                Op::Settle(..) | Op::Drop(_) => {}
            }
            prop_assert_eq!(told.is_some(), model.transitions != before, "each move is told once");
            let circuit = model.circuit(&rules, now_ms);
            prop_assert_eq!(breaker.circuit(&rules, now_ms), circuit);
            prop_assert_eq!(breaker.would_admit(&rules, now_ms), model.admits(&rules, now_ms));
            prop_assert_eq!(breaker.retry_in(&rules, now_ms).is_zero(), circuit != Open);
            if let Some(told) = told {
                prop_assert!(told.to == circuit || rules.open_for.is_zero());
            }
        }
    }

    #[test]
    fn what_is_packed_comes_out_again(
        tag in 0..3u8,
        term in 0..=TERM_MAX,
        since_ms in 0..=TIME_MAX,
        counts in (0..=COUNT_MAX, 0..=COUNT_MAX),
    ) {
        let (high, low) = counts;
        let state = match tag {
            0 => State::Closed { term, traffic_faults: high, check_faults: low },
            1 => State::Open { term, since_ms },
            _ => State::HalfOpen { term, probe_out: high & 1 == 1, successes: low },
        };
        prop_assert_eq!(State::unpack(state.pack()), state);
    }
}
