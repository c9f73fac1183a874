//! A component's bytes into native code, in a child process that can do no harm.
//!
//! Compiling cannot be interrupted, and what it takes is the component's doing: a few hundred kilobytes
//! can cost half a minute and gigabytes. So a child of the same program does it, one at a time, with a
//! low priority and under limits of its own on address space, CPU time and time on the wall. It reads
//! the component from its standard input and writes the code to its standard output. Nothing else ever
//! becomes code of this process, but for what [`Cache`](super::cache::Cache) has kept of it.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use super::engine::compile_config;
use super::versions::{LoadError, Step};
use crate::config::PolicyLimits;

/// The verb of this program that compiles, not meant for people.
pub const VERB: &str = "compile-policy";

/// The second word of the child's command line once its limits are in force.
const LIMITED: &str = "limited";

/// Code is a few times as large as what it was made from; the address space bounds it before this.
const CODE_BYTES_MAX: u64 = 1 << 30;

/// What is kept of what the child says when it refuses.
const REASON_BYTES_MAX: u64 = 4 << 10;

/// Everybody else goes first.
const NICE: i32 = 10;

const MIB: u64 = 1 << 20;

/// Starts the children.
#[derive(Debug)]
pub(super) struct Compiler {
    program: PathBuf,
    one_at_a_time: Semaphore,
}

impl Compiler {
    /// `program` has the verb [`VERB`].
    pub(super) fn new(program: PathBuf) -> Compiler {
        Compiler { program, one_at_a_time: Semaphore::new(1) }
    }

    /// The code of a component, and what making it took.
    pub(super) async fn compile(
        &self,
        component: &[u8],
        limits: &PolicyLimits,
    ) -> Result<(Vec<u8>, Usage), LoadError> {
        let _turn = self.one_at_a_time.acquire().await.expect("the semaphore is never closed");
        let cpu = cpu_allowance(component.len(), limits);
        let child = Command::new(&self.program)
            .arg(VERB)
            .arg(limits.compile_memory_max.to_string())
            .arg(cpu.as_secs().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let program = self.program.display();
                LoadError::unable(Step::Compile, format!("cannot start {program}: {error}"))
            })?;
        let output = tokio::time::timeout(limits.compile_timeout, talk(child, component)).await;
        let Ok(output) = output else {
            let time = humantime::format_duration(limits.compile_timeout);
            return Err(too_much("compile_timeout", format!("more than {time}")));
        };
        let output = output.map_err(|error| {
            LoadError::unable(Step::Compile, format!("the compiling child: {error}"))
        })?;
        match output.status.success() {
            true => Ok((output.code, Usage::read(&output.said))),
            false => Err(refusal(&output, cpu, limits)),
        }
    }
}

/// What compiling a component took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) cpu: Duration,
    /// The most that was resident, in bytes. What its allocator reserves beyond is as much as there is.
    pub(super) resident: u64,
}

impl Usage {
    /// Of this process, so far.
    fn now() -> Usage {
        // Of its one thread, in nanoseconds.
        let schedstat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
        let cpu_ns = schedstat.split(' ').next().and_then(|text| text.parse().ok());
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Usage { cpu: Duration::from_nanos(cpu_ns.unwrap_or(0)), resident: peak.unwrap_or(0) << 10 }
    }

    fn write(&self) -> String {
        format!("{} {}", self.cpu.as_micros(), self.resident)
    }

    fn read(text: &str) -> Usage {
        let mut numbers = text.split(' ').map(|number| number.parse().unwrap_or(0));
        Usage {
            cpu: Duration::from_micros(numbers.next().unwrap_or(0)),
            resident: numbers.next().unwrap_or(0),
        }
    }
}

struct Output {
    status: ExitStatus,
    code: Vec<u8>,
    /// The reason of a refusal, or what it took.
    said: String,
}

/// Hands the component over and takes what comes, all at once: neither side waits for the other.
async fn talk(mut child: Child, component: &[u8]) -> std::io::Result<Output> {
    let mut stdin = child.stdin.take().expect("it is piped");
    let stdout = child.stdout.take().expect("it is piped");
    let stderr = child.stderr.take().expect("it is piped");
    let (mut code, mut said) = (Vec::new(), Vec::new());
    let give = async {
        // A child that has ended does not read: its status says why.
        let _ = stdin.write_all(component).await;
        drop(stdin);
    };
    let mut stdout = stdout.take(CODE_BYTES_MAX);
    let listen = async {
        let mut stderr = stderr.take(REASON_BYTES_MAX);
        stderr.read_to_end(&mut said).await?;
        // Nobody reads what else it says, but it must not wait for that.
        tokio::io::copy(&mut stderr.into_inner(), &mut tokio::io::sink()).await
    };
    let ((), code_read, said_read) = tokio::join!(give, stdout.read_to_end(&mut code), listen);
    code_read?;
    said_read?;
    let status = child.wait().await?;
    Ok(Output { status, code, said: String::from_utf8_lossy(&said).trim().to_owned() })
}

/// The kernel counts whole seconds.
fn cpu_allowance(bytes: usize, limits: &PolicyLimits) -> Duration {
    let per_mib = limits.compile_cpu_per_mib.as_secs_f64() * bytes as f64 / MIB as f64;
    let whole = (limits.compile_cpu.as_secs_f64() + per_mib).ceil();
    Duration::from_secs((whole as u64).max(1))
}

fn refusal(output: &Output, cpu: Duration, limits: &PolicyLimits) -> LoadError {
    let out_of_memory = || {
        let memory = bytesize::ByteSize(limits.compile_memory_max);
        too_much("compile_memory_max", format!("more than {memory} of memory"))
    };
    // Of a panic, what follows the place in the source.
    let reason = output.said.lines().find(|line| !line.contains("panicked at"));
    let reason = reason.unwrap_or_default();
    let is_memory = ["memory allocation", "out of memory", "out-of-memory"];
    let is_memory = is_memory.iter().any(|words| output.said.contains(words));
    let signal = output.status.signal().and_then(Signal::from_named_raw);
    match signal {
        Some(Signal::XCPU) => {
            let time = format!("more than {} s of CPU time", cpu.as_secs());
            too_much("compile_cpu", time)
        }
        // Memory that cannot be had aborts the child.
        Some(Signal::ABORT) if is_memory => out_of_memory(),
        Some(Signal::KILL) => LoadError::unable(
            Step::Compile,
            "the compiling child was killed from outside: is the machine short of memory? Try it again",
        ),
        Some(signal) => LoadError::Compile(format!(
            "the compiler cannot cope with it: signal {}, {reason:?}",
            signal.as_raw()
        )),
        None if output.said.contains("Cannot allocate memory") => out_of_memory(),
        None if reason.is_empty() => LoadError::Compile(format!(
            "the compiling child ended without a word: {}",
            output.status
        )),
        None => LoadError::Compile(format!("this is not a valid component: {}", output.said)),
    }
}

fn too_much(key: &'static str, what: String) -> LoadError {
    LoadError::Limit {
        step: Step::Compile,
        key,
        text: format!("compiling it takes {what}: simplify it, or raise `{key}`"),
    }
}

/// What the child does: everything that the verb [`VERB`] is for. `arguments` follow the verb.
///
/// Returns a reason where the component is refused. With its limits set it begins anew, so that they
/// count for all that its allocator reserves.
pub fn compile_in_this_process(arguments: &[String]) -> Result<(), String> {
    let fail = |error: &dyn std::fmt::Display| error.to_string();
    if arguments != [LIMITED] {
        let [memory, cpu] = arguments else { return Err("wants two limits".into()) };
        let memory: u64 = memory.parse().map_err(|error| fail(&error))?;
        let cpu: u64 = cpu.parse().map_err(|error| fail(&error))?;
        limit(memory, cpu).map_err(|error| fail(&error))?;
        let error = std::process::Command::new("/proc/self/exe").arg(VERB).arg(LIMITED).exec();
        return Err(fail(&error));
    }
    let mut component = Vec::new();
    std::io::stdin().lock().read_to_end(&mut component).map_err(|error| fail(&error))?;
    let engine = wasmtime::Engine::new(&compile_config()).map_err(|error| fail(&error))?;
    let code = engine.precompile_component(&component).map_err(|error| {
        // The innermost cause says what; where it names an offset, the text says where.
        error.root_cause().to_string()
    })?;
    let mut out = std::io::stdout().lock();
    out.write_all(&code).and_then(|()| out.flush()).map_err(|error| fail(&error))?;
    write!(std::io::stderr().lock(), "{}", Usage::now().write()).map_err(|error| fail(&error))
}

fn limit(memory: u64, cpu: u64) -> rustix::io::Result<()> {
    let at_most = |limit: u64, more: u64| Rlimit {
        current: Some(limit),
        maximum: Some(limit.saturating_add(more)),
    };
    // The gateway may be killed at any time: nobody would want the code then.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    setrlimit(Resource::Core, at_most(0, 0))?;
    setrlimit(Resource::As, at_most(memory, 0))?;
    setrlimit(Resource::Cpu, at_most(cpu, 1))?;
    nice(NICE).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn a_child_that_says_much_is_heard_out() {
        let folder = tempfile::tempdir().expect("a folder for it");
        let program = folder.path().join("says-much");
        let says = "#!/bin/sh\necho the reason >&2\nhead -c 200000 /dev/zero >&2\nexit 1\n";
        std::fs::write(&program, says).expect("it is written");
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&program, mode).expect("it may be run");
        let (config, _) = Config::builtin();
        let refused = Compiler::new(program).compile(b"", &config.routing.limits).await;
        let text = refused.expect_err("it refuses").to_string();
        assert!(text.contains("the reason"), "{text}");
        assert!(text.len() < 2 * REASON_BYTES_MAX as usize, "{} bytes", text.len());
    }
}
