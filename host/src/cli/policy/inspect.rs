//! `orchestrator policy inspect`: what a component is, without a gateway.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use orchestrator::policy::{Inspection, inspect};
use serde_json::json;

use super::super::client::{printable, table};
use super::super::{REFUSED, on_control_thread};
use super::read;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// The component
    file: PathBuf,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let component = read(&arguments.file)?;
    let found = on_control_thread(inspect(component.into()))?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &as_json(&found))?;
        writeln!(out)?;
    } else {
        write!(out, "{}", printable(&as_text(&found)))?;
    }
    Ok(match found.wrong {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::from(REFUSED),
    })
}

fn as_json(found: &Inspection) -> serde_json::Value {
    let needs = found.needs.iter().map(
        |(key, needed, default)| json!({ "limit": key, "needed": needed, "default": default }),
    );
    json!({
        "sha256": found.sha256,
        "size": found.size,
        "world": found.world,
        "contract": found.contract,
        "offered": found.offered,
        "made_by": found.made_by,
        "imports": found.imports,
        "exports": found.exports,
        "needs": needs.collect::<Vec<_>>(),
        "step": found.wrong.as_ref().map(|(step, _)| step.word()),
        "reason": found.wrong.as_ref().map(|(_, reason)| reason),
    })
}

fn as_text(found: &Inspection) -> String {
    let list = |all: &[String]| match all {
        [] => "-".to_owned(),
        all => all.join("\n            "),
    };
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let mut text = format!(
        "sha-256     {}\nworld       {}\ncontract    {}; this gateway offers {}\nmade by     {}\n\
         imports     {}\nexports     {}\n\n",
        found.sha256,
        or(&found.world),
        or(&found.contract),
        found.offered,
        list(&found.made_by),
        list(&found.imports),
        list(&found.exports),
    );
    let mut rows = vec![["LIMIT", "NEEDS", "DEFAULT"].map(str::to_owned).to_vec()];
    for (key, needed, default) in &found.needs {
        rows.push(vec![(*key).to_owned(), needed.clone(), default.clone()]);
    }
    text += &table(&rows);
    match &found.wrong {
        Some((step, reason)) => text + &format!("\nrefused at {}: {reason}\n", step.word()),
        None => {
            text + "\nit fits this gateway, as far as that can be seen without a configuration\n"
        }
    }
}
