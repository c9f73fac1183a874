//! The ways to misbehave that policies of both kinds have. `tests/endure/hostile` says of each what has
//! to come of it; those that no compiler would produce stand in `wat/`.

use std::cell::{Cell, RefCell};
use std::fs;
use std::hint::black_box;
use std::time::Duration;

use orchestrator_policy::config::Document;
use orchestrator_policy::{ConfigError, Request, Setup};

/// The names of them.
pub const SHARED: &[&str] = &[
    "good",
    "spin",
    "slow",
    "panic",
    "exit",
    "hoard",
    "leak",
    "log-flood",
    "line-without-end",
    "alternating",
    "remembering",
    "files",
    "environment",
    "sleep",
    "out-of-phase",
    "wrong-answer",
    "forged-log",
];

/// The configuration's `behaviour`, which is one of [`SHARED`] or of these.
pub fn behaviour(setup: &Setup, own: &[&str]) -> Result<String, Vec<ConfigError>> {
    let document = Document::parse(setup.config())?;
    let node = document.table(&["behaviour"]).need("behaviour");
    let known = |name: &&str| SHARED.contains(name) || own.contains(name);
    let name = node.as_ref().and_then(|node| node.text());
    if let Some((node, _)) = node.as_ref().zip(name).filter(|(_, name)| !known(name)) {
        node.report("there is no such behaviour");
    }
    document.finish(name.unwrap_or_default().to_owned())
}

/// Misbehaves, and returns where that leaves something to say. Panics where it got what it must not get.
pub fn misbehave(behaviour: &str, request: &Request) {
    match behaviour {
        "spin" => while black_box(true) {},
        "slow" => turn_for_a_while(),
        "panic" => panic!("a guest that panics on purpose, at {}", request.path()),
        "exit" => std::process::exit(3),
        "hoard" => hoard(),
        "leak" => leak(),
        "log-flood" => flood(),
        "line-without-end" => line_without_end(),
        "alternating" => alternate(),
        "remembering" => remember(request),
        "files" => files(),
        "environment" => environment(),
        "sleep" => sleep(),
        "out-of-phase" => out_of_phase(),
        _ => {}
    }
}

/// What is to look, in the log, like a line of the gateway's own.
pub const FORGED: &str = "none\n2030-01-01T00:00:00Z ERROR \x1b[31mgateway\x1b[0m ends\r\n\
                          {\"level\":\"ERROR\",\"message\":\"all is lost\"}";

/// Work for about a tick or two. What overruns gets one tick in three: with more, the endurance program's
/// 200 requests a second are too many for a slow machine, and what is over then ends by a limit.
fn turn_for_a_while() {
    let mut state = 1_u64;
    for _ in 0..500_000 {
        state = black_box(state ^ (state << 13) ^ (state >> 7));
    }
}

fn hoard() {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    while kept.len() < 1 << 20 {
        kept.push(vec![1; 1 << 18]);
        black_box(&kept);
    }
}

/// Keeps 64 KiB of each call for ever: a leak that a single call does not show.
fn leak() {
    black_box(vec![1_u8; 64 << 10].leak());
}

#[allow(clippy::print_stdout, reason = "what goes to the log is tested")]
fn flood() {
    for line in 0_u64.. {
        println!("line {line} of a flood");
    }
}

#[allow(clippy::print_stderr, reason = "what goes to the log is tested")]
fn line_without_end() {
    while black_box(true) {
        eprint!("{}", "and on ".repeat(1000));
    }
}

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static SECRET: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Good at first, then a trap, which costs the instance; and so on.
fn alternate() {
    let calls = CALLS.replace(CALLS.get() + 1);
    assert!(calls.is_multiple_of(2), "a guest that panics on purpose, every second time");
}

/// Keeps what it learns of a request, for the next one.
fn remember(request: &Request) {
    let kept = SECRET.replace(request.query());
    assert!(kept.is_none(), "it remembers {kept:?}");
}

fn files() {
    for path in [".", "/", "/tmp", "/etc", "/proc/self"] {
        assert!(fs::read_dir(path).is_err(), "it listed {path}");
    }
    for path in ["/etc/passwd", "/proc/self/environ", "Cargo.toml", "/dev/urandom"] {
        assert!(fs::File::open(path).is_err(), "it opened {path}");
    }
    for path in ["orchestrator-guest", "/tmp/orchestrator-guest"] {
        assert!(fs::write(path, "x").is_err(), "it wrote {path}");
    }
}

fn environment() {
    let variable = std::env::vars_os().next();
    assert!(variable.is_none(), "it knows {variable:?}");
    // The first is the program's own name, where there is one.
    let argument = std::env::args_os().next();
    assert!(argument.is_none(), "it was called {argument:?}");
}

#[allow(clippy::disallowed_methods, reason = "to see that a policy cannot")]
fn sleep() {
    std::thread::sleep(Duration::from_secs(1));
}

/// Calls what only `configure` may call.
fn out_of_phase() {
    #[cfg(target_arch = "wasm32")]
    drop(orchestrator_policy::wire::common::orchestrator::policy::setup::config());
}
