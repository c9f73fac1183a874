//! What takes longer than a test: endpoints that are killed under load, a retry policy without end,
//! thousands of slow clients, bodies of a gibibyte; policies that misbehave or are swapped a thousand
//! times, bad artefacts, a gateway that is killed meanwhile. The built gateway as a process, its
//! endpoints as others; figures and a verdict for each criterion.
//!
//! `run` beside this file builds what it needs and starts it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program whose output is its figures, and which has no caller to hand an error to"
)]

mod admin;
mod always;
mod artefacts;
mod bodies;
mod crash;
mod endpoint;
mod hostile;
mod killed;
mod load;
mod pattern;
mod process;
mod slow;
mod swaps;
mod versions;

use std::process::ExitCode;

const HELP: &str = "\
What takes longer than a test; each prints its figures and a verdict for each criterion.

Usage: tests/endure/run [--quick] [NAME...]

  killed   two endpoints, one of them killed with -9 every 2 s, under load: no failed GET, no POST
           processed twice (60 s, 100,000 POSTs; quick: 10 s)
  always   endpoints that answer 500 and a retry policy that always says \"again\": the budget holds
           (60 s; quick: 8 s)
  slow     2,000 slow heads, slow bodies and slow readers (slowhttptest): others are served, memory is
           bounded, they are shed on time (1 minute; quick: 500 of each)
  bodies   1 GiB up and down, with a length and in chunks: constant memory (20 s)
  swaps    1,000 swaps of the policies in a minute, under load with streams and uploads: nobody notices
           (2 minutes and a half; quick: 80 swaps, 15 s)
  artefacts   more than 60 bad components and modules, bombs among them, are pushed: each is refused with
           the right words, what serves goes on serving (15 s)
  crash    the gateway killed with -9 at 50 random moments while versions change: it comes back, soon, on
           a version that was active or previous (20 s; quick: 20 times)
  hostile  policies that misbehave on half of the paths, in some 60 ways each: every call ends, the
           other half does not notice, the process lives (20 minutes; quick: 1 minute).
           hostile/NAME: the one of this name, such as hostile/spin

Without a name, all of them. ORCHESTRATOR_BIN names the gateway, otherwise target/release/orchestrator.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    process::raise_descriptor_limit();
    if let ["endpoint", port, record] = words[..] {
        runtime.block_on(endpoint::serve(port.parse().unwrap(), record));
        return ExitCode::SUCCESS;
    }
    if words.iter().any(|word| ["-h", "--help"].contains(word)) {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let quick = words.contains(&"--quick");
    let mut names: Vec<&str> = words.into_iter().filter(|word| *word != "--quick").collect();
    let first = |name: &&str| ALL.contains(&name.split('/').next().unwrap_or_default());
    if let Some(unknown) = names.iter().find(|name| !first(name)) {
        println!("endure: there is no {unknown}; --help names what there is");
        return ExitCode::from(2);
    }
    if names.is_empty() {
        names = ALL.to_vec();
    }
    let mut verdicts = Verdicts { quick, ..Verdicts::default() };
    for name in names {
        println!("\n{name}");
        match name {
            "killed" => runtime.block_on(killed::run(quick, &mut verdicts)),
            "always" => runtime.block_on(always::run(quick, &mut verdicts)),
            "slow" => runtime.block_on(slow::run(quick, &mut verdicts)),
            "bodies" => runtime.block_on(bodies::run(&mut verdicts)),
            "swaps" => runtime.block_on(swaps::run(quick, &mut verdicts)),
            "artefacts" => runtime.block_on(artefacts::run(&mut verdicts)),
            "crash" => runtime.block_on(crash::run(quick, &mut verdicts)),
            _ => {
                let only = name.split_once('/').map(|(_, behaviour)| behaviour);
                runtime.block_on(hostile::run(quick, only, &mut verdicts));
            }
        }
    }
    println!("\n{} ok, {} FAILED", verdicts.ok, verdicts.failed);
    if verdicts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const ALL: [&str; 8] =
    ["killed", "always", "slow", "bodies", "swaps", "artefacts", "crash", "hostile"];

/// What has been found so far.
#[derive(Debug, Default)]
struct Verdicts {
    ok: u32,
    failed: u32,
    /// Part of the tests, on a machine that may do other things too.
    quick: bool,
}

impl Verdicts {
    /// One criterion: what must be so, and what was measured.
    fn verdict(&mut self, holds: bool, criterion: &str, measured: impl std::fmt::Display) {
        let word = if holds { "ok    " } else { "FAILED" };
        println!("{word}  {criterion}: {measured}");
        if holds {
            self.ok += 1;
        } else {
            self.failed += 1;
        }
    }

    /// The same of a time, which is no criterion within the tests.
    fn of_time(&mut self, holds: bool, criterion: &str, measured: impl std::fmt::Display) {
        match self.quick {
            true => figure(criterion, measured),
            false => self.verdict(holds, criterion, measured),
        }
    }
}

/// A figure that is no criterion.
fn figure(name: &str, value: impl std::fmt::Display) {
    println!("        {name}: {value}");
}
