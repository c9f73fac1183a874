//! What is known of one version: where it came from, what became of it, how it has decided.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::policy::{Source, Step, Version, hex, short_name};
use crate::telemetry::metrics::FaultReason;

/// The life of a version, in the order in which it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It has come, and is being looked at.
    Received,
    /// It is code, and fits the contract.
    Compiled,
    /// It takes its configuration, passes its self-test, and answers the same twice.
    Verified,
    Active,
    /// It was active before the one that is: a rollback leads to it.
    Previous,
    /// It was active earlier.
    Retired,
    /// It failed a step, the last time that it was looked at.
    Refused,
    /// It was active and made too many faults.
    Quarantined,
}

/// Which way a version came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    Builtin,
    File,
    Pushed,
}

/// How a version has decided.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) decisions: u64,
    /// By the word of the reason, without those that never came about.
    pub(crate) faults: BTreeMap<String, u64>,
    /// In microseconds.
    pub(crate) decision_us: Quantiles,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
}

/// One version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its name: the first twelve digits of `sha256`.
    pub(crate) version: Arc<str>,
    pub(crate) sha256: String,
    pub(crate) component_sha256: String,
    pub(crate) config_sha256: String,
    pub(crate) state: State,
    /// Where it was refused or quarantined, and why.
    pub(crate) step: Option<Step>,
    pub(crate) reason: Option<String>,
    pub(crate) origin: Origin,
    /// The name of the token with which it was pushed.
    pub(crate) by: Option<String>,
    pub(crate) received_at: String,
    /// When it last became the active one.
    pub(crate) activated_at: Option<String>,
    /// The same as a number that grows with each activation of whatever version; 0 where it must not decide
    /// unless it is asked for.
    pub(crate) activation: u64,
    /// Of the component, in bytes.
    pub(crate) size: u64,
    /// What it had decided before this process began.
    #[serde(default)]
    pub(crate) counts: Counts,
    /// While workers have instances of it, or it may be activated at once.
    #[serde(skip)]
    pub(crate) loaded: Option<Arc<Version>>,
}

impl Record {
    pub(crate) fn received(source: &Source, origin: Origin, by: Option<String>) -> Record {
        let digests = source.digests();
        Record {
            version: short_name(&digests.version).into(),
            sha256: hex(&digests.version),
            component_sha256: hex(&digests.component),
            config_sha256: hex(&digests.config),
            state: State::Received,
            step: None,
            reason: None,
            origin,
            by,
            received_at: now(),
            activated_at: None,
            activation: 0,
            size: source.component().len() as u64,
            counts: Counts::default(),
            loaded: None,
        }
    }

    /// Whether it may stand in for another: it has decided, and not too badly.
    pub(crate) fn served_well(&self) -> bool {
        self.activation > 0
    }

    /// Whether it was its cases, at whatever step that asks them.
    pub(crate) fn was_refused_by_cases(&self) -> bool {
        self.state == State::Refused && matches!(self.step, Some(Step::SelfTest | Step::Purity))
    }

    /// From now on it stands in for no other, until it has been activated again.
    pub(crate) fn fails(&mut self, state: State, step: Step, reason: String) {
        self.activation = 0;
        self.state = state;
        self.step = Some(step);
        self.reason = Some(reason);
    }

    /// With what it has decided in this process.
    pub(crate) fn counts(&self) -> Counts {
        let Some(loaded) = &self.loaded else { return self.counts.clone() };
        let now = loaded.stats().summary();
        let mut counts = self.counts.clone();
        counts.decisions += now.decisions();
        for (reason, count) in FaultReason::WORDS.iter().zip(now.faults) {
            if count > 0 {
                *counts.faults.entry((*reason).to_owned()).or_default() += count;
            }
        }
        let us = |part| now.quantile(part).map(|time| time.as_nanos() as f64 / 1000.0);
        if now.decisions() > 0 {
            counts.decision_us = Quantiles { p50: us(0.5), p99: us(0.99) };
        }
        counts
    }

    /// Lets go of its code; what it decided with it is kept.
    pub(crate) fn unload(&mut self) {
        self.counts = self.counts();
        self.loaded = None;
    }
}

/// RFC 3339 in UTC, with milliseconds.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}
