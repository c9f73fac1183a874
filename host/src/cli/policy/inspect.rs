//! `orchestrator policy inspect`: what a component is, without a gateway.

use std::path::PathBuf;
use std::process::ExitCode;

use orchestrator::policy::{Inspection, Need, inspect};
use serde_json::json;

use super::super::client::{printable, table};
use super::super::{REFUSED, on_control_thread, say, say_json};
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
    match arguments.json {
        true => say_json(&as_json(&found))?,
        false => say(&as_text(&found))?,
    }
    let fits = found.wrong.is_none() && found.needs.iter().all(Need::is_within);
    Ok(if fits { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

fn as_json(found: &Inspection) -> serde_json::Value {
    let needs = found.needs.iter().map(|need| {
        json!({
            "limit": need.key,
            "needed": need.needed,
            "default": need.default,
            "unit": need.unit.word(),
            "exceeds": !need.is_within(),
        })
    });
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
        all => {
            let all: Vec<String> = all.iter().map(|it| printable(it)).collect();
            all.join("\n            ")
        }
    };
    let or = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), printable);
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
    for need in &found.needs {
        let (needed, default) = (need.unit.text(need.needed), need.unit.text(need.default));
        rows.push(vec![need.key.to_owned(), format!("{needed}{}", need.note), default]);
    }
    text += &table(&rows);
    let beyond: Vec<&str> =
        found.needs.iter().filter(|need| !need.is_within()).map(|need| need.key).collect();
    match &found.wrong {
        Some((step, reason)) => {
            text + &format!("\nrefused at {}: {}\n", step.word(), printable(reason))
        }
        None if !beyond.is_empty() => {
            text + &format!(
                "\nrefused where limits are the defaults: it needs more of {}\n",
                beyond.join(", ")
            )
        }
        None => {
            text + "\nit fits this gateway, as far as that can be seen without a configuration\n"
        }
    }
}
