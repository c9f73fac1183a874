//! Policies that misbehave on half of the paths: each call of theirs ends within its limit, the other
//! half does not notice, and the process lives.
//!
//! For each behaviour and kind of policy there are two gateways. In the first the policy stays, whatever
//! it does (`fault_threshold = "off"`): what does it cost the good half? The second has a good version
//! when the hostile one is pushed: no request fails on either half, and once the hostile one is
//! quarantined all is as it was. Both are compared with a third, whose policy is good, in turn with
//! them and under the same requests.

mod bench;
mod found;
mod guests;
mod table;
mod traffic;

use std::time::Duration;

use self::bench::Bench;
use self::table::{End, Kind};
use crate::Verdicts;

/// What is done for each behaviour.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: usize,
    round: Duration,
    /// Whether a good policy is measured in each round; else what takes no time is what is compared with.
    compares: bool,
    /// The part of the good half's requests that is compared.
    part: f64,
    /// Every so manieth behaviour is pushed to a gateway that has a good version.
    pushed_every: usize,
}

const WHOLE: Plan = Plan {
    rounds: 5,
    round: Duration::from_millis(500),
    compares: true,
    part: 0.99,
    pushed_every: 1,
};

/// Of some fifty requests there is no 99th percentile.
const QUICK: Plan = Plan {
    rounds: 1,
    round: Duration::from_millis(250),
    compares: false,
    part: 0.9,
    pushed_every: 10,
};

/// More evil requests at once are a crowd.
const CROWD_MAX: u32 = 8;

/// All behaviours, or the one of this name.
pub(crate) async fn run(quick: bool, only: Option<&str>, verdicts: &mut Verdicts) {
    let bench = Bench::new(if quick { QUICK } else { WHOLE }).await;
    if let Some(name) = only {
        let known = [Kind::Routing, Kind::Retry].map(table::of).concat();
        let is_known = known.iter().any(|behaviour| behaviour.name == name);
        verdicts.verdict(is_known, "there is a behaviour of this name", name);
    }
    let mut deaths = 0;
    for kind in [Kind::Routing, Kind::Retry] {
        let good = bench.good(kind).await;
        let behaviours = table::of(kind);
        for (number, behaviour) in behaviours.iter().enumerate() {
            if only.is_some_and(|only| only != behaviour.name) {
                continue;
            }
            // Crowds are about time.
            if !bench.plan.compares && behaviour.at_once > CROWD_MAX {
                continue;
            }
            let mut found = bench.alone(kind, behaviour, &good).await;
            // Few faults bring no quarantine about, and no fault does.
            let faults = matches!(behaviour.end, End::Fault(_) | End::HalfFault(_));
            if faults && number % bench.plan.pushed_every == 0 {
                bench.pushed(kind, behaviour, &good, &mut found).await;
            }
            deaths += found.deaths;
            let (name, does) = (behaviour.name, behaviour.mechanism);
            let criterion = format!("{} {name}: {does}", kind.word());
            verdicts.verdict(found.wrong.is_empty(), &criterion, found.words());
        }
        let enough = format!("{}: there are at least 24 ways to misbehave", kind.word());
        verdicts.verdict(behaviours.len() >= 24, &enough, behaviours.len());
    }
    verdicts.verdict(deaths == 0, "no gateway's process ends", deaths);
}
