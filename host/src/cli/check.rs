//! `orchestrator check`: everything that `serve` does before it listens, and nothing after.

use std::path::PathBuf;
use std::process::ExitCode;

use orchestrator::gateway::{StartError, check_policies};

use super::{REFUSED, load, on_control_thread, refuse, say, say_json};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: super::ConfigArgument,
    /// Print what is wrong as JSON: a list of {file, line, column, message, help}
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let path = arguments.config.config.as_deref();
    let checked = match load(path) {
        Ok((config, source)) => on_control_thread(check_policies(&config, &source))?,
        Err(diagnostics) => Err(StartError::Refused(diagnostics)),
    };
    match checked {
        Ok(()) if arguments.json => say("[]\n")?,
        Ok(()) => {
            let name = path.map_or(PathBuf::from("the built-in configuration"), PathBuf::from);
            say(&format!("{} is good\n", name.display()))?;
        }
        Err(StartError::Refused(diagnostics)) if arguments.json => {
            say_json(&diagnostics)?;
            return Ok(ExitCode::from(REFUSED));
        }
        Err(error) => return refuse(error),
    }
    Ok(ExitCode::SUCCESS)
}
