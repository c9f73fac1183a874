//! Artefacts that are bad, each in another way, pushed to a gateway under load: each is refused at the
//! right step, in words that help, soon; what serves goes on serving.

mod bytes;
mod table;
mod text;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use orchestrator_tests::{Gateway, Push, component, toml_path};
use tempfile::TempDir;
use tokio::sync::watch;

use self::table::{Artefact, Made, TOO_LARGE};
use crate::admin::{Admin, Said};
use crate::bodies::mib;
use crate::endpoint::Endpoint;
use crate::load::{Caller, Tally, get, in_turn};
use crate::process::settles;
use crate::{Verdicts, figure};

/// Clients of the load, and the requests a second that they make together.
const CLIENTS: u32 = 8;
const PER_S: u32 = 400;

/// More than these are enough.
const LEAST: usize = 30;

/// A component, and what the gateway may hold of it beside what it held before.
const COMPONENT_MAX: &str = "16MiB";
const RESIDENT_MORE_MAX: u64 = 64 << 20;

/// From the push to the answer: the longest of the limits, and a busy machine.
const REFUSED_WITHIN: Duration = Duration::from_secs(4);

/// Routing's bound the CPU time of compiling, retry's the time on the wall.
const LIMITS: &str = "\
policy_limits.compile_memory_max = \"256MiB\"
policy_limits.configure_timeout = \"200ms\"
policy.routing.compile_cpu = \"1s\"
policy.routing.compile_cpu_per_mib = \"0s\"
policy.retry.compile_cpu = \"30s\"
policy.retry.compile_timeout = \"1s\"
policy.retry.compile_memory_max = \"1GiB\"
";

pub(crate) async fn run(verdicts: &mut Verdicts) {
    let folder = TempDir::new().unwrap();
    let access = folder.path().join("access.log");
    // Of its own: what an earlier run has compiled would be refused sooner.
    let cache = folder.path().join("compiled");
    let endpoint = Endpoint::start("/dev/null").await;
    let gateway = Gateway::start(format!(
        "services.writer.endpoints = [\"http://{}\"]\nserver.workers = 2\nlog.access = {access:?}\n\
         policy.routing.component = {}\npolicy.routing.config = {{ version = \"good\" }}\n\
         policy_limits.component_max = {COMPONENT_MAX:?}\n{LIMITS}\
         server.cache_dir = {}\n",
        endpoint.address,
        toml_path(&component("versioned")),
        toml_path(&cache),
    ))
    .await;
    let artefacts = table::all(&cache);
    let (stop, stopped) = watch::channel(false);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(client(gateway.listen, number, stopped.clone())))
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = gateway.resident();

    let mut admin = Admin::of(&gateway);
    let mut longest = Duration::ZERO;
    for artefact in &artefacts {
        let began = Instant::now();
        let wrong = push(&gateway, &mut admin, artefact).await;
        longest = longest.max(began.elapsed());
        let (holds, said) = match wrong {
            Ok(said) => (true, said),
            Err(said) => (false, said),
        };
        verdicts.verdict(holds, artefact.mechanism, said);
    }
    let page = gateway.metrics().await;
    let most = gateway.memory("VmHWM").saturating_sub(before);
    stop.send_replace(true);
    let mut tally = Tally::default();
    for client in clients {
        tally.add(client.await.unwrap());
    }
    figure("load", tally.durations());
    figure("the longest", format!("{longest:.1?}"));
    verdicts.verdict(artefacts.len() >= LEAST, "at least 30 artefacts", artefacts.len());
    let criterion = "no request fails, all are decided by the version that was good";
    verdicts.verdict(tally.errors == 0, criterion, tally.said());
    let refused = artefacts.len();
    let counted = page.sum("orchestrator_policy_refused_total", &[]);
    let said = format!("{counted} of {refused}");
    verdicts.verdict(counted == refused as f64, "each refusal is counted", said);
    let said = format!("{} from {}", mib(most), mib(before));
    let criterion = "at no time more than 64 MiB more resident than before";
    verdicts.verdict(most <= RESIDENT_MORE_MAX, criterion, said);
}

/// What the gateway said; or what is wrong with that, or with what came of it.
async fn push(gateway: &Gateway, admin: &mut Admin, artefact: &Artefact) -> Result<String, String> {
    let kind = artefact.kind;
    let text = |error: std::io::Error| error.to_string();
    let active = admin.active(kind).await.map_err(text)?;
    let said = match &artefact.made {
        Made::Zeros { bytes, in_chunks } => admin.push_zeros(kind, *bytes, *in_chunks).await,
        Made::Bytes(bytes) => {
            let mut push = Push::of(&**bytes);
            if let Some(config) = &artefact.config {
                push = push.config(config.clone());
            }
            if let Some(cases) = &artefact.cases {
                push = push.cases(cases.clone());
            }
            admin.push(kind, &push).await
        }
    };
    let said = said.map_err(text)?;
    let shown = format!("{}, {:.0?}", told(&said), said.took);
    let fail = |what: &str| Err(format!("{what}: {shown}"));
    if artefact.step == TOO_LARGE {
        if said.status != 413 || !said.text("detail").contains(artefact.word) {
            return fail("should be 413");
        }
    } else {
        if said.status != 422 || said.text("step") != artefact.step {
            return fail(&format!("should be refused at {}", artefact.step));
        }
        if said.text("reason").is_empty() || !said.text("reason").contains(artefact.word) {
            return fail(&format!("should say {:?}", artefact.word));
        }
    }
    if said.took > REFUSED_WITHIN {
        return fail("takes too long");
    }
    let policy = admin.policy(kind).await.map_err(text)?;
    if policy["active"] != active.as_str() {
        return fail(&format!("{active} is not active any more"));
    }
    let listed = policy["versions"].as_array().into_iter().flatten();
    let mut states = listed.filter(|it| it["version"] == said.text("version"));
    if artefact.step != TOO_LARGE && !states.any(|it| it["state"] == "refused") {
        return fail("is not listed as refused");
    }
    if !settles(|| gateway.children().is_empty()).await {
        return fail("leaves a child behind");
    }
    Ok(shown)
}

fn told(said: &Said) -> String {
    match said.text("reason") {
        "" => format!("{} {}", said.status, said.text("detail")),
        reason => format!("{} {}: {reason}", said.status, said.text("step")),
    }
}

/// Asks until it is told to stop. Only the good version's answers count as good.
async fn client(gateway: SocketAddr, number: u32, stopped: watch::Receiver<bool>) -> Tally {
    let mut tally = Tally::default();
    let mut caller = Caller::new(gateway);
    let mut ticks = in_turn(PER_S, CLIENTS, number);
    while !*stopped.borrow() {
        let due = ticks.tick().await.into_std();
        let answer = caller.call(&get("/version")).await;
        let decided = answer.map(|(status, body)| {
            let status = if body == b"good" || status != 200 { status } else { 0 };
            (status, body)
        });
        tally.count(200, due, &decided);
    }
    tally
}
