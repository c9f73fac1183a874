//! What became of the policies' versions.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::family::{Family, Sample, Samples, labels};
use crate::policy::{Kind, Step};
use crate::telemetry::rollout::{Cause, Counts, LIMITS, Rollouts};

/// Counts, each with a label beside the policy's.
type Counted<'a> = Vec<(Option<(&'static str, &'a str)>, u64)>;

pub(super) fn families(rollouts: &Rollouts) -> Vec<Family> {
    let each = |of: &dyn Fn(&Counts) -> Counted<'_>| {
        let mut all = Vec::new();
        for kind in Kind::ALL {
            let policy = ("policy", kind.name());
            all.extend(of(rollouts.of(kind)).into_iter().map(|(label, count)| {
                let pair: Vec<_> = [Some(policy), label].into_iter().flatten().collect();
                (labels(&pair), count)
            }));
        }
        Samples::Counter(all)
    };
    fn by<'a>(
        label: &'static str,
        words: impl Iterator<Item = &'a str>,
        counts: &[AtomicU64],
    ) -> Counted<'a> {
        words.zip(counts).map(|(word, count)| (Some((label, word)), count.load(Relaxed))).collect()
    }
    let versions = Kind::ALL.map(|kind| {
        let active = rollouts.of(kind).active.load();
        labels(&[("policy", kind.name()), ("version", &active)])
    });
    vec![
        Family {
            name: "orchestrator_policy",
            help: "The version of each policy that decides.",
            samples: Samples::Info(versions.into()),
        },
        Family {
            name: "orchestrator_policy_generation",
            help: "How often another version has become the active one, and one.",
            samples: Samples::Level(rollouts.generation.load(Relaxed) as f64),
        },
        Family {
            name: "orchestrator_policy_swaps",
            help: "Versions that became the active one, by why.",
            samples: each(&|counts| by("cause", Cause::WORDS.iter().copied(), &counts.swaps)),
        },
        Family {
            name: "orchestrator_policy_refused",
            help: "Versions that were refused, by the step that they failed.",
            samples: each(&|counts| {
                by("step", Step::ALL.iter().map(|step| step.word()), &counts.refused)
            }),
        },
        Family {
            name: "orchestrator_policy_quarantined",
            help: "Versions that made too many faults and were taken out of service.",
            samples: each(&|counts| vec![(None, counts.quarantined.load(Relaxed))]),
        },
        Family {
            name: "orchestrator_policy_output_dropped",
            help: "Lines that a policy printed and that were not logged, for there were too many.",
            samples: each(&|counts| vec![(None, counts.output_dropped.load(Relaxed))]),
        },
    ]
}

/// How often a limit was what a version was refused for, or what kept its words from the log.
pub(super) fn limits(rollouts: &Rollouts, kind: Kind) -> Vec<Sample<u64>> {
    let counts = rollouts.of(kind);
    let hit = |key: &str, effect, count: &AtomicU64| {
        let key = format!("policy_limits.{key}");
        let labels = labels(&[("limit", &key), ("effect", effect), ("policy", kind.name())]);
        (labels, count.load(Relaxed))
    };
    let refusing = LIMITS.iter().zip(&counts.limits);
    let mut all: Vec<_> = refusing.map(|(key, count)| hit(key, "version_refused", count)).collect();
    all.push(hit("log_lines_per_s", "line_dropped", &counts.output_dropped));
    all.push(hit("fault_threshold", "version_quarantined", &counts.quarantined));
    all
}
