//! Versions of policies: how they come in, decide, fail, and make way, while requests go on.

use std::fs;
use std::path::Path;

use orchestrator_tests::{
    Answer, EVERYTHING_TO_WRITER, Gate, Gateway, Push, Reply, Request, Upstream, component, run,
    service, toml_path,
};
use serde_json::{Value, json};
use tempfile::TempDir;

mod api;
mod faults;
mod files;
mod state;
mod swaps;
mod trials;

/// The default routing policy.
fn routing() -> Vec<u8> {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/dist/routing.wasm");
    fs::read(dist).unwrap()
}

fn guest(name: &str) -> Vec<u8> {
    fs::read(component(name)).unwrap()
}

/// A configuration of the default routing policy that marks its responses.
fn marking(mark: &str) -> Value {
    json!({ "routes": [{
        "path_prefix": "/",
        "service": "writer",
        "request_headers": { "set": { "x-mark": mark } },
        "response_headers": { "set": { "x-mark": mark } },
    }] })
}

/// A version whose responses have this mark.
fn marked(mark: &str) -> Push {
    Push::of(routing()).config(marking(mark))
}

/// The default retry policy with so many attempts, without a delay.
fn attempts(count: u32) -> Push {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/dist/retry.wasm");
    Push::of(fs::read(dist).unwrap()).config(json!({ "attempts": count, "delay": "1ms" }))
}

fn mark_of(reply: &Reply) -> Option<String> {
    assert_eq!(reply.status(), 200, "{}", reply.text());
    reply.header("x-mark")
}

async fn start(lines: &str) -> (Upstream, Gateway) {
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], lines).await;
    (writer, gateway)
}

fn names(policy: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = policy["versions"].as_array().unwrap();
    all.iter().map(|it| (text(&it["version"]), text(&it["state"]))).collect()
}

fn state_of(policy: &Value, version: &str) -> String {
    let found = names(policy).into_iter().find(|(name, _)| name == version);
    found.unwrap_or_else(|| panic!("no {version} in {policy}")).1
}
