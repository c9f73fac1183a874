//! Swaps the versions of both policies in turn, in all the ways there are, and remembers when which was
//! active.

use std::time::{Duration, Instant};

use orchestrator_tests::{Gateway, Push};
use serde_json::Value;

use super::traffic::Seen;
use crate::admin::{Admin, Said};
use crate::versions;

/// Of the swaps of one policy, each fourth is a rollback; of twenty, one is a push, and one activates a
/// version that no worker is ready for any more.
const ROLLBACK_EACH: usize = 4;
const PUSH_EACH: usize = 20;
const RETURN_EACH: usize = 10;

#[derive(Debug)]
pub(crate) struct Swapper {
    admin: Admin,
    policies: [Policy; 2],
    failures: Vec<String>,
    pub(crate) activations: Times,
    pub(crate) rollbacks: Times,
    pub(crate) pushes: Times,
    pub(crate) returns: Times,
}

/// How long the gateway said the switch took, and how long its answer took, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Times {
    switches: Vec<f64>,
    answers: Vec<f64>,
}

impl Times {
    fn add(&mut self, said: &Said) {
        self.switches.push(said.json["switch_ms"].as_f64().unwrap_or(f64::NAN));
        self.answers.push(said.took.as_secs_f64() * 1000.0);
    }

    /// Of the switches; without any there is none.
    pub(crate) fn longest(&self) -> f64 {
        self.switches.iter().copied().max_by(f64::total_cmp).unwrap_or(f64::NAN)
    }

    pub(crate) fn said(&self) -> String {
        let told = |values: &[f64]| {
            let mut values = values.to_vec();
            values.sort_by(f64::total_cmp);
            let longest = values.last().copied().unwrap_or(f64::NAN);
            let middle = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
            format!("p50 {middle:.2} ms, longest {longest:.2} ms")
        };
        let (switches, answers) = (told(&self.switches), told(&self.answers));
        format!("{}: {switches} (answered in {answers})", self.switches.len())
    }
}

/// When which version of a policy was made active; the first has been from the start.
#[derive(Debug)]
pub(crate) struct History(Vec<Swap>);

#[derive(Debug)]
struct Swap {
    number: u32,
    began: Instant,
    ended: Instant,
}

impl History {
    /// The numbers of the versions that may decide what begins and ends then: the active one, and those
    /// that become active meanwhile.
    fn active_between(&self, began: Instant, ended: Instant) -> impl Iterator<Item = u32> {
        let later = self.0.partition_point(|swap| swap.ended <= began);
        let from = &self.0[later.saturating_sub(1)..];
        from.iter().take_while(move |swap| swap.began <= ended).map(|swap| swap.number)
    }

    pub(crate) fn swapped_between(&self, began: Instant, ended: Instant) -> bool {
        let first = self.0.partition_point(|swap| swap.began <= began);
        self.0.get(first).is_some_and(|swap| swap.ended < ended)
    }
}

#[derive(Debug)]
struct Policy {
    kind: &'static str,
    component: Vec<u8>,
    /// Number and name of the active version and of the one before it.
    active: (u32, String),
    previous: (u32, String),
    /// The one that was previous before.
    retired: Option<(u32, String)>,
    /// The largest number so far.
    largest: u32,
    swaps: usize,
    history: History,
}

impl Swapper {
    /// Pushes a second version of both policies.
    pub(crate) async fn begin(gateway: &Gateway) -> Swapper {
        let mut admin = Admin::of(gateway);
        let policies =
            [Policy::begin("routing", &mut admin).await, Policy::begin("retry", &mut admin).await];
        let [activations, rollbacks, pushes, returns] = std::array::from_fn(|_| Times::default());
        Swapper { admin, policies, failures: Vec::new(), activations, rollbacks, pushes, returns }
    }

    /// So many swaps, one each time that this has passed.
    pub(crate) async fn swap(&mut self, count: usize, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        for number in 0..count {
            ticks.tick().await;
            let policy = &mut self.policies[number % 2];
            policy.swaps += 1;
            let began = Instant::now();
            let (times, swapped) = if policy.swaps.is_multiple_of(PUSH_EACH) {
                (&mut self.pushes, policy.push(&mut self.admin).await)
            } else if policy.swaps.is_multiple_of(RETURN_EACH) && policy.retired.is_some() {
                (&mut self.returns, policy.return_to_retired(&mut self.admin).await)
            } else if policy.swaps.is_multiple_of(ROLLBACK_EACH) {
                (&mut self.rollbacks, policy.roll_back(&mut self.admin).await)
            } else {
                (&mut self.activations, policy.activate(&mut self.admin).await)
            };
            match swapped {
                Ok(said) => {
                    times.add(&said);
                    let number = policy.active.0;
                    policy.history.0.push(Swap { number, began, ended: Instant::now() });
                }
                Err(failure) => self.failures.push(failure),
            }
        }
    }

    pub(crate) fn done(&self) -> usize {
        self.policies.iter().map(|policy| policy.history.0.len() - 1).sum()
    }

    pub(crate) fn failures(&self) -> String {
        let shown: Vec<&String> = self.failures.iter().take(5).collect();
        if shown.is_empty() { String::new() } else { format!(", failures: {shown:?}") }
    }

    pub(crate) fn history(&self, kind: &str) -> &History {
        &self.policies[usize::from(kind == "retry")].history
    }

    /// In words, where a version decided that was not active then.
    pub(crate) fn misfit(&self, seen: &Seen) -> Option<String> {
        let active = |kind| self.history(kind).active_between(seen.began, seen.ended);
        if !active("routing").any(|number| number == seen.routing) {
            let other: Vec<u32> = active("routing").collect();
            return Some(format!("routing {} instead of {other:?}", seen.routing));
        }
        let even = seen.retry?;
        let fits = active("retry").any(|number| number % 2 == even);
        (!fits).then(|| "a retry version that was not active".to_owned())
    }
}

impl Policy {
    async fn begin(kind: &'static str, admin: &mut Admin) -> Policy {
        let first = admin.active(kind).await.unwrap();
        let component = versions::component(kind);
        let began = Instant::now();
        let history = History(vec![Swap { number: 0, began, ended: began }]);
        let mut policy = Policy {
            kind,
            component,
            active: (0, first),
            previous: (0, String::new()),
            retired: None,
            largest: 0,
            swaps: 0,
            history,
        };
        // Both have been active before the first swap is measured.
        policy.push(admin).await.unwrap();
        policy.activate(admin).await.unwrap();
        policy.retired = None;
        policy
    }

    async fn activate(&mut self, admin: &mut Admin) -> Result<Said, String> {
        let said = admin.activate(self.kind, &self.previous.1).await;
        self.went_back(said)
    }

    async fn roll_back(&mut self, admin: &mut Admin) -> Result<Said, String> {
        let said = admin.rollback(self.kind).await;
        self.went_back(said)
    }

    fn went_back(&mut self, said: std::io::Result<Said>) -> Result<Said, String> {
        let said = checked(said, 200)?;
        if said.text("version") != self.previous.1 {
            return Err(format!("{} instead of {:?}", said.json, self.previous));
        }
        std::mem::swap(&mut self.active, &mut self.previous);
        Ok(said)
    }

    async fn return_to_retired(&mut self, admin: &mut Admin) -> Result<Said, String> {
        let retired = self.retired.clone().ok_or("none is retired")?;
        let said = checked(admin.activate(self.kind, &retired.1).await, 200)?;
        self.becomes_active(retired);
        Ok(said)
    }

    fn becomes_active(&mut self, version: (u32, String)) {
        let previous = std::mem::replace(&mut self.active, version);
        self.retired = Some(std::mem::replace(&mut self.previous, previous));
    }

    /// A new version, of the other kind than the active one.
    async fn push(&mut self, admin: &mut Admin) -> Result<Said, String> {
        let same_kind = self.largest % 2 == self.active.0 % 2;
        let number = self.largest + if same_kind { 1 } else { 2 };
        let push = Push::of(&*self.component).config(config(self.kind, number));
        let said = checked(admin.push(self.kind, &push).await, 201)?;
        self.largest = number;
        self.becomes_active((number, said.text("version").to_owned()));
        Ok(said)
    }
}

fn config(kind: &str, number: u32) -> Value {
    if kind == "routing" { versions::routing(number) } else { versions::retry(number) }
}

/// What was said, if it is this and that a version is active.
fn checked(said: std::io::Result<Said>, status: u16) -> Result<Said, String> {
    let said = said.map_err(|error| error.to_string())?;
    let timed = said.json["switch_ms"].is_number();
    match said.status == status && said.text("state") == "active" && timed {
        true => Ok(said),
        false => Err(format!("{} {}", said.status, said.json)),
    }
}
