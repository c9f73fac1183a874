//! The command line: one file a verb.

mod check;
mod client;
mod config;
mod demo;
mod policy;
mod serve;
mod status;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use orchestrator::config::{Config, Diagnostics, SourceMap};
use orchestrator::gateway::StartError;
use orchestrator::policy::{COMPILE_VERB, compile_in_this_process};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The exit code of a configuration that is refused.
const REFUSED: u8 = 2;

/// An API gateway whose routing and retry policies are WebAssembly components.
///
/// Without a verb it serves.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  orchestrator demo                          see it work, with three stand-in services
  orchestrator --config gateway.toml         serve
  orchestrator check --config gateway.toml   is this configuration good?"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    serve: ConfigArgument,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve; SIGTERM and Ctrl-C drain and end it
    #[command(after_help = "Example:\n  orchestrator serve --config gateway.toml")]
    Serve(ConfigArgument),
    /// Serve in front of three stand-in services, and say what to try
    #[command(after_help = "Example:\n  orchestrator demo")]
    Demo,
    /// Validate a configuration and its policies without serving: exit code 0 or 2
    #[command(after_help = "Example:\n  orchestrator check --config gateway.toml")]
    Check(check::Arguments),
    /// Look at a configuration
    #[command(
        subcommand,
        after_help = "Example:\n  orchestrator config show --config gateway.toml"
    )]
    Config(config::Verb),
    /// Replace policies on a running gateway, and look at components
    #[command(
        subcommand,
        after_help = "Example:\n  orchestrator policy push routing.wasm --as routing"
    )]
    Policy(policy::Verb),
    /// Show a running gateway: its policies, services and circuits
    #[command(after_help = "Example:\n  orchestrator status --admin 127.0.0.1:8004")]
    Status(status::Arguments),
    /// Compile a component within limits: what the gateway starts for each
    #[command(name = COMPILE_VERB, hide = true)]
    Compile { arguments: Vec<String> },
}

#[derive(Debug, Args)]
struct ConfigArgument {
    /// The configuration, in TOML; without it the built-in one
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the verb that the command line names.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let verb = arguments.verb.unwrap_or(Verb::Serve(arguments.serve));
    let outcome = match verb {
        Verb::Serve(argument) => serve::run(argument.config.as_deref()),
        Verb::Demo => demo::run(),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Config(verb) => config::run(&verb),
        Verb::Policy(verb) => policy::run(&verb),
        Verb::Status(arguments) => status::run(&arguments),
        Verb::Compile { arguments } => match compile_in_this_process(&arguments) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(reason) => {
                tell(&reason);
                Ok(ExitCode::FAILURE)
            }
        },
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            tell(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints an answer. Who reads no further has what it wants.
fn say(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn say_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    say(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// The configuration in `path`, or the built-in one.
fn load(path: Option<&Path>) -> Result<(Config, SourceMap), Diagnostics> {
    path.map_or_else(|| Ok(Config::builtin()), Config::load)
}

/// Why nothing was started, as a person reads it.
fn refuse(error: StartError) -> anyhow::Result<ExitCode> {
    match error {
        StartError::Refused(diagnostics) => {
            tell(&diagnostics.render(std::io::stderr().is_terminal()));
            Ok(ExitCode::from(REFUSED))
        }
        other => Err(other.into()),
    }
}

/// Writes to standard error. Who closed it does not want to know.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end());
}

/// Everything beside the access log goes to standard error, as lines for people.
///
/// A thread of its own writes them, and drops lines when nobody reads: a log that is stuck must not
/// stop a worker. What is left is written when the returned guard is dropped.
fn start_log(level: tracing::Level) -> tracing_appender::non_blocking::WorkerGuard {
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let filter = EnvFilter::new(format!("warn,orchestrator={level}"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    guard
}

/// Runs this on the control thread: the one that calls.
fn on_control_thread<T>(future: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    let ended = runtime.block_on(future);
    // To drop it would wait for names that are being looked up, which nothing can interrupt.
    runtime.shutdown_background();
    Ok(ended)
}

/// The signals that a gateway listens to.
#[derive(Debug)]
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Stop {
    /// To be called before serving: a signal during the start must not be lost.
    fn listen() -> std::io::Result<Stop> {
        Ok(Stop {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next one.
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }

    /// SIGTERM, or Ctrl-C. A SIGHUP meanwhile is the next that [`next`](Self::next) returns.
    async fn ended(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// SIGTERM, or Ctrl-C.
    End,
    /// SIGHUP.
    Reload,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_up_that_hangs_does_not_keep_the_process() {
        let (until, ended) = std::sync::mpsc::sync_channel::<()>(0);
        let hangs = move || ended.recv();
        on_control_thread(async { drop(tokio::task::spawn_blocking(hangs)) }).unwrap();
        drop(until);
    }
}
