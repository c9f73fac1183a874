//! How many instructions a decision and an exchange take, counted by valgrind's callgrind: the same number
//! however busy the machine is. `check` beside this file runs it and compares.

#[path = "common/decisions.rs"]
mod decisions;
#[path = "common/in_process.rs"]
mod in_process;
#[path = "common/loading.rs"]
mod loading;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use decisions::{facts, warm, with_routes};
use gungraun::prelude::*;
use gungraun::{Callgrind, EntryPoint};
use in_process::Client;
use loading::runtime;
use orchestrator::policy::{COMPILE_VERB, Kind, RequestFacts, Warm};
use tokio::runtime::LocalRuntime;

/// The gateway's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is counted is so many: `check` divides by it.
const COUNT: u32 = 100;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("instructions")
}

/// A program that compiles for the processor that valgrind pretends to be, which is not this one.
fn compiler() -> PathBuf {
    let program = folder().join("compile");
    let gateway = env!("CARGO_BIN_EXE_orchestrator");
    let text =
        format!("#!/bin/sh\nexec valgrind -q --tool=none {gateway} {COMPILE_VERB} limited\n");
    fs::create_dir_all(folder()).expect("a folder");
    fs::write(&program, text).expect("a file");
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("it is ours");
    program
}

struct Deciding {
    runtime: LocalRuntime,
    warm: Rc<Warm>,
    request: Option<Box<RequestFacts>>,
}

fn deciding(routes: usize) -> Deciding {
    let config = in_process::load(&folder());
    let engine = in_process::engine(&config, &folder(), &compiler());
    let runtime = runtime();
    let warm = warm(&runtime, &engine, Kind::Routing, &with_routes(&config, routes));
    engine.stop_clock();
    let request = Some(facts("/team-7/api/documents/7", "gateway.example"));
    let mut deciding = Deciding { runtime, warm, request };
    deciding.decide();
    deciding
}

impl Deciding {
    fn decide(&mut self) {
        self.runtime.block_on(async {
            let mut began = Instant::now();
            for _ in 0..COUNT {
                let (request, answer) =
                    self.warm.route(&mut began, self.request.take().expect("it is back")).await;
                assert!(answer.expect("a decision").choice.is_some());
                self.request = Some(request);
            }
        });
    }
}

#[library_benchmark]
#[bench::of_10_routes(args = (10), setup = deciding)]
#[bench::of_10000_routes(args = (10_000), setup = deciding)]
fn decision(mut deciding: Deciding) -> Deciding {
    deciding.decide();
    deciding
}

fn client() -> Client {
    in_process::compile(&folder(), &compiler());
    Client::of_a_gateway(&folder())
}

// Of all threads: the worker's, the access log's, the epochs'; the client's and the service's too.
#[library_benchmark(config = LibraryBenchmarkConfig::default()
    .tool(Callgrind::with_args(["--instr-atstart=no", "--trace-children=no"]).entry_point(EntryPoint::None)))]
#[bench::small_get(setup = client)]
fn exchange(mut client: Client) -> Client {
    ask_callgrind(START_INSTRUMENTATION);
    client.requests(COUNT);
    ask_callgrind(STOP_INSTRUMENTATION);
    client
}

/// What callgrind.h calls these, "CT" in front.
const START_INSTRUMENTATION: usize = 0x4354_0004;
const STOP_INSTRUMENTATION: usize = 0x4354_0005;

/// Valgrind finds these instructions, which do nothing, and does what they ask for (valgrind.h). gungraun
/// has this too, but builds only where there is a libclang.
#[allow(unsafe_code, reason = "there is no other way to reach valgrind from inside")]
fn ask_callgrind(what: usize) {
    let question = [what, 0, 0, 0, 0, 0];
    // SAFETY: RDI is turned by 128 bits in all, and RBX exchanged with itself; of the answer, in RDX, and
    // of the question, which valgrind reads, the compiler knows.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") &raw const question, inout("rdx") 0_usize => _, options(nostack),
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    panic!("no way to ask {question:x?}: host/benches/instructions.rs knows that of x86-64 alone");
}

library_benchmark_group!(name = counts, benchmarks = [decision, exchange]);
main!(
    config = LibraryBenchmarkConfig::default()
        .pass_through_env("PATH")
        .tool(Callgrind::with_args(["--trace-children=no"])),
    library_benchmark_groups = counts
);
