//! `orchestrator status`: a running gateway on one page.

use std::process::ExitCode;

use serde_json::Value as Json;

use super::client::{self, table, word};
use super::on_control_thread;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    gateway: client::Gateway,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let gateway = &arguments.gateway;
    on_control_thread(gateway.get("/status"))??.print(gateway, page)
}

fn page(status: &Json) -> String {
    let uptime = std::time::Duration::from_secs(status["uptime_s"].as_u64().unwrap_or(0));
    let mut text = format!(
        "orchestrator {}, {}, up {}, {} connections, generation {}\n\n",
        word(&status["version"]),
        if status["ready"] == true { "ready" } else { "not ready" },
        humantime::format_duration(uptime),
        word(&status["connections"]),
        word(&status["generation"]),
    );
    let head = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut rows = vec![head(&["POLICY", "ACTIVE", "PREVIOUS", "LAST GOOD", "FILE"])];
    for policy in status["policies"].as_array().into_iter().flatten() {
        let of = |key: &str| word(&policy[key]);
        let differs = match policy["differs_from_file"] == true {
            true => " (differs)",
            false => "",
        };
        let file = format!("{}{differs}", of("file"));
        rows.push(vec![of("kind"), of("active"), of("previous"), of("last_good"), file]);
    }
    text += &table(&rows);
    let mut rows = vec![head(&["SERVICE", "STATUS", "CIRCUIT", "URL", "ERROR"])];
    for (name, service) in status["services"]["services"].as_object().into_iter().flatten() {
        let of = |key: &str| word(&service[key]);
        rows.push(vec![name.clone(), of("status"), of("circuit_state"), of("url"), of("error")]);
    }
    text + "\n" + &table(&rows)
}
