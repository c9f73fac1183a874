//! Reaches for what a policy must not have: `/env`, `/files`, `/clock`, `/hash-seed`, `/print`,
//! `/exit` and `/sleep`. Responds with what it got, a line each.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, process, thread};

use orchestrator_policy::{ConfigError, Decision, Request, RoutingPolicy, Setup};

#[derive(Debug)]
pub struct Guest(String);

orchestrator_policy::export_routing!(Guest);

impl RoutingPolicy for Guest {
    fn configure(setup: &Setup) -> Result<Self, Vec<ConfigError>> {
        orchestrator_guests::first_service(setup).map(Guest)
    }

    fn route(&self, request: &Request) -> Decision<'_> {
        let got = match request.path().as_str() {
            "/env" => environment(),
            "/files" => files(),
            "/clock" => clock(),
            "/hash-seed" => format!("{}\n", RandomState::new().hash_one(0)),
            "/print" => print(),
            "/exit" => process::exit(3),
            "/sleep" => sleep(),
            _ => return Decision::forward(&self.0),
        };
        Decision::respond(200).body(got)
    }
}

fn environment() -> String {
    let mut got = String::new();
    for (name, value) in env::vars_os() {
        let _ = writeln!(got, "{name:?}={value:?}");
    }
    for argument in env::args_os() {
        let _ = writeln!(got, "argument {argument:?}");
    }
    got
}

/// A line for each file that could be had.
fn files() -> String {
    let mut got = String::new();
    for path in [".", "/", "/tmp", "/etc"] {
        if fs::read_dir(path).is_ok() {
            let _ = writeln!(got, "listed {path}");
        }
    }
    for path in ["/etc/passwd", "/proc/self/environ", "Cargo.toml", "/dev/urandom"] {
        if fs::File::open(path).is_ok() {
            let _ = writeln!(got, "opened {path}");
        }
    }
    for path in ["orchestrator-guest", "/tmp/orchestrator-guest"] {
        if fs::write(path, "x").is_ok() {
            let _ = writeln!(got, "wrote {path}");
        }
    }
    got
}

/// The time twice, and how much of it passed in between: none, if the clock stands still.
fn clock() -> String {
    let since_epoch = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis()
    };
    let (time, instant) = (SystemTime::now(), Instant::now());
    let sum = (0..1_000_000).fold(0_u64, |sum, n| std::hint::black_box(sum ^ n));
    format!(
        "{}\n{}\n{}\n{sum}\n",
        since_epoch(time),
        since_epoch(SystemTime::now()),
        instant.elapsed().as_nanos()
    )
}

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "what goes to the log is tested")]
fn print() -> String {
    println!("to standard output\r\nand \x1b[31mred");
    eprintln!("to standard error");
    "printed\n".to_owned()
}

#[allow(clippy::disallowed_methods, reason = "to see that a policy cannot")]
fn sleep() -> String {
    thread::sleep(Duration::from_millis(50));
    "slept\n".to_owned()
}
