//! `orchestrator config show`: the configuration as it counts, with all that a file leaves out.

use std::process::ExitCode;

use clap::Subcommand;
use orchestrator::gateway::StartError;

use super::{ConfigArgument, load, refuse, say, say_json};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Print every key with its value, as TOML that means the same; what the file says has its line
    /// behind it
    #[command(after_help = "\
Examples:
  orchestrator config show                         all defaults
  orchestrator config show --config gateway.toml   what counts with this file")]
    Show(Show),
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    #[command(flatten)]
    config: ConfigArgument,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(verb: &Verb) -> anyhow::Result<ExitCode> {
    let Verb::Show(arguments) = verb;
    let path = arguments.config.config.as_deref();
    let (config, source) = match load(path) {
        Ok(loaded) => loaded,
        Err(diagnostics) => return refuse(StartError::Refused(diagnostics)),
    };
    if arguments.json {
        say_json(&config.to_json())?;
    } else {
        // The built-in text is in no file of the reader's.
        say(&config.to_toml(path.map(|_| &source)).to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
