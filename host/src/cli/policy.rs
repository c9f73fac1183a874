//! `orchestrator policy …`: versions of policies, on a running gateway; and a component, looked at.

mod inspect;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use bytes::Bytes;
use clap::{Subcommand, ValueEnum};
use serde_json::{Value as Json, json};

use super::client::{self, bytes, microseconds, printable, table, word};
use super::on_control_thread;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Have a running gateway take a version: component, configuration, self-test
    #[command(after_help = "\
Examples:
  orchestrator policy push routing.wasm --as routing
  orchestrator policy push routing.wasm --as routing --config routes.json --cases cases.json
  orchestrator policy push routing.wasm --as routing --no-activate")]
    Push(Push),
    /// The versions of both policies, or of one, the newest first
    #[command(after_help = "Example:\n  orchestrator policy list routing")]
    List(List),
    /// Have a version that is known decide
    #[command(after_help = "Example:\n  orchestrator policy activate routing 946882c04149")]
    Activate(Activate),
    /// Have the version before decide again, with its configuration
    #[command(after_help = "Example:\n  orchestrator policy rollback routing")]
    Rollback(Rollback),
    /// Look at a component without a gateway: what it is, wants and would need
    #[command(after_help = "Example:\n  orchestrator policy inspect routing.wasm")]
    Inspect(inspect::Arguments),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Kind {
    /// Where a request goes
    Routing,
    /// Whether a failed attempt is made again
    Retry,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Routing => "routing",
            Kind::Retry => "retry",
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Push {
    /// The component
    file: PathBuf,
    /// Which policy it is
    #[arg(long = "as", value_name = "KIND")]
    kind: Kind,
    /// Its configuration, in JSON or TOML; without it that of the active version
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A self-test of its own: a list of cases, in JSON
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// Only look at it: `activate` has it decide later
    #[arg(long)]
    no_activate: bool,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// One of the two
    kind: Option<Kind>,
    #[command(flatten)]
    gateway: client::Gateway,
}

#[derive(Debug, clap::Args)]
pub(super) struct Activate {
    kind: Kind,
    /// Its name, or the beginning of it
    version: String,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, clap::Args)]
pub(super) struct Rollback {
    kind: Kind,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, clap::Args)]
struct Change {
    /// Only while this version is active; else the one that is when this begins
    #[arg(long, value_name = "VERSION")]
    if_match: Option<String>,
    #[command(flatten)]
    gateway: client::Gateway,
}

impl Change {
    fn make(
        &self,
        kind: Kind,
        what: &str,
        content_type: &str,
        body: Bytes,
    ) -> anyhow::Result<ExitCode> {
        let if_match = self.if_match.as_deref();
        let making = self.gateway.change(kind.name(), what, content_type, body, if_match);
        on_control_thread(making)??.print(&self.gateway, |record| placed(kind, record))
    }
}

pub(super) fn run(verb: &Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Push(push) => push.run(),
        Verb::List(list) => list.run(),
        Verb::Activate(Activate { kind, version, change }) => {
            let body = json!({ "version": version }).to_string();
            change.make(*kind, "activate", "application/json", body.into())
        }
        Verb::Rollback(Rollback { kind, change }) => {
            change.make(*kind, "rollback", "application/json", Bytes::new())
        }
        Verb::Inspect(arguments) => inspect::run(arguments),
    }
}

impl Push {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let component = read(&self.file)?;
        let config = self.config.as_deref().map(read_config).transpose()?;
        let cases = self.cases.as_deref().map(read_json).transpose()?;
        let (content_type, body) = form(&component, config.as_ref(), cases.as_ref());
        let what = match self.no_activate {
            true => "versions?activate=false",
            false => "versions",
        };
        self.change.make(self.kind, what, &content_type, body)
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_json(path: &Path) -> anyhow::Result<Json> {
    serde_json::from_slice(&read(path)?).with_context(|| format!("{} is no JSON", path.display()))
}

fn read_config(path: &Path) -> anyhow::Result<Json> {
    if path.extension().is_none_or(|extension| extension != "toml") {
        return read_json(path);
    }
    let text = String::from_utf8(read(path)?)
        .with_context(|| format!("{} is not UTF-8", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is no TOML", path.display()))
}

/// A multipart/form-data of what is there (RFC 7578).
fn form(component: &[u8], config: Option<&Json>, cases: Option<&Json>) -> (String, Bytes) {
    let texts = [("config", config), ("cases", cases)];
    let texts = texts.map(|(name, value)| (name, value.map(|value| value.to_string())));
    let mut parts = vec![("component", component)];
    for (name, text) in &texts {
        parts.extend(text.as_ref().map(|text| (*name, text.as_bytes())));
    }
    // No part has 128 bits in it that are drawn now.
    let boundary = format!("{:032x}", fastrand::u128(..));
    let mut body = Vec::new();
    for (name, contents) in parts {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; \
             filename=\"{name}\"\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(contents);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body.into())
}

fn placed(kind: Kind, record: &Json) -> String {
    let (name, version) = (kind.name(), word(&record["version"]));
    match record["switch_ms"].as_f64() {
        Some(ms) => format!(
            "{name} version {version} is active: generation {}, switched in {ms} ms\n",
            record["generation"]
        ),
        None if record["state"] == "active" => {
            format!("{name} version {version} was active already\n")
        }
        None => format!("{name} version {version} is {}\n", word(&record["state"])),
    }
}

impl List {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let path = match self.kind {
            Some(kind) => format!("/policies/{}", kind.name()),
            None => "/policies".to_owned(),
        };
        on_control_thread(self.gateway.get(&path))??.print(&self.gateway, |body| {
            let both = body["policies"].as_object();
            let policies: Vec<&Json> =
                both.map_or_else(|| vec![body], |both| both.values().collect());
            policies.into_iter().map(versions).collect::<Vec<_>>().join("\n")
        })
    }
}

fn versions(policy: &Json) -> String {
    let head = [
        "VERSION",
        "STATE",
        "ORIGIN",
        "BY",
        "ACTIVATED",
        "SIZE",
        "DECISIONS",
        "FAULTS",
        "P50",
        "P99",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut reasons = String::new();
    for version in policy["versions"].as_array().into_iter().flatten() {
        let of = |key: &str| word(&version[key]);
        let faults: u64 = version["faults"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(_, it)| it.as_u64())
            .sum();
        let at = of("activated_at");
        rows.push(vec![
            of("version"),
            of("state"),
            of("origin"),
            of("by"),
            at.split_once('.').map_or_else(|| at.clone(), |(seconds, _)| format!("{seconds}Z")),
            bytes(&version["size"]),
            of("decisions"),
            faults.to_string(),
            microseconds(&version["decision_us"]["p50"]),
            microseconds(&version["decision_us"]["p99"]),
        ]);
        if let Some(reason) = version["reason"].as_str() {
            let reason = printable(reason);
            reasons += &format!("  {} at {}: {reason}\n", of("version"), of("step"));
        }
    }
    let differs = match policy["differs_from_file"] == true {
        true => format!("; the configuration names {}", word(&policy["file"])),
        false => String::new(),
    };
    format!(
        "{}: generation {}, last good {}{differs}\n{}{reasons}",
        word(&policy["kind"]),
        policy["generation"],
        word(&policy["last_good"]),
        table(&rows)
    )
}
