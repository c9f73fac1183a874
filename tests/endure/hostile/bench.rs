//! The gateways, and what is done with them.

use std::path::Path;
use std::time::{Duration, Instant};

use orchestrator_tests::{Client, EVERYTHING_TO_WRITER, Gateway, Request, toml_path};
use tempfile::TempDir;

use super::Plan;
use super::found::{Found, Pairs};
use super::guests::{Guests, with_sdk};
use super::table::{Behaviour, Kind};
use super::traffic::{Halves, Traffic};
use crate::endpoint::Endpoint;

/// For a quarantine to come about.
const QUARANTINE_MAX: Duration = Duration::from_secs(5);

/// So that a decision that ends by itself right at its limit has ended within the 100 ms that [`Found`] looks at.
const WALL_TIMEOUT_MS: u32 = 90;

const TOKEN: &str = "a token of the hostile policies' bench";

#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) plan: Plan,
    endpoint: Endpoint,
    guests: Guests,
    /// With the token of the admin API, and what is pushed.
    folder: TempDir,
}

impl Bench {
    pub(crate) async fn new(plan: Plan) -> Bench {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("token"), TOKEN).unwrap();
        let endpoint = Endpoint::start("/dev/null").await;
        Bench { plan, endpoint, guests: Guests::new(), folder }
    }

    /// One whose policy is good.
    pub(crate) async fn good(&self, kind: Kind) -> Gateway {
        self.gateway(kind, &with_sdk(kind), GOOD, "").await
    }

    /// The hostile policy and no other.
    pub(crate) async fn alone(&self, kind: Kind, behaviour: &Behaviour, good: &Gateway) -> Found {
        let mut found = Found::new(self.plan.compares);
        let component = self.guests.of(behaviour, kind);
        let mut lines = format!(
            "policy.{0}.fault_threshold = \"off\"\npolicy.{0}.wall_timeout = \"{WALL_TIMEOUT_MS}ms\"\n",
            kind.word()
        );
        if behaviour.fresh {
            lines += &format!("policy.{}.instances = \"fresh\"\n", kind.word());
        }
        let mut gateway = self.gateway(kind, &component, behaviour.config(), &lines).await;
        let ill = Traffic::misdecided(kind, behaviour);
        let (pairs, mut halves) = self.rounds(kind, behaviour, good, &gateway, ill).await;
        found.no_errors(&mut halves);
        if !lives(&mut gateway, &mut found) {
            return found;
        }
        let page = gateway.metrics().await;
        found.faults(kind, behaviour, halves.evil.requests, &page);
        found.ended_in_time(kind, &page);
        found.slowed(&pairs);
        found.say(format!("{} MiB", gateway.memory("VmHWM") >> 20));
        found
    }

    /// The hostile policy pushed to a gateway that has a good version.
    pub(crate) async fn pushed(
        &self,
        kind: Kind,
        behaviour: &Behaviour,
        good: &Gateway,
        found: &mut Found,
    ) {
        let token = toml_path(&self.folder.path().join("token"));
        let lines = format!("admin.tokens.bench.file = {token}\n");
        let mut gateway = self.gateway(kind, &with_sdk(kind), GOOD, &lines).await;
        // From before the push to the quarantine: the good version decides what the hostile one does not.
        let traffic = Traffic::decided_well(kind, behaviour);
        let sent = traffic.send(gateway.listen, Duration::from_millis(300));
        let ((), mut halves) = tokio::join!(self.push(kind, behaviour, &gateway, found), sent);
        let began = Instant::now();
        while lives(&mut gateway, found) {
            let page = gateway.metrics().await;
            if page.sum("orchestrator_policy_quarantined_total", &[("policy", kind.word())]) > 0.0 {
                break;
            }
            if began.elapsed() > QUARANTINE_MAX {
                found.wrong("it is not quarantined");
                break;
            }
            halves.add(traffic.send(gateway.listen, Duration::from_millis(200)).await);
        }
        if gateway.ended().is_some() {
            return;
        }
        let (pairs, after) = self.rounds(kind, behaviour, good, &gateway, traffic).await;
        halves.add(after);
        found.no_errors(&mut halves);
        lives(&mut gateway, found);
        found.as_before(&pairs);
    }

    /// The same requests to a gateway with a good policy and to this one, in turn.
    async fn rounds(
        &self,
        kind: Kind,
        behaviour: &Behaviour,
        good: &Gateway,
        here: &Gateway,
        traffic: Traffic,
    ) -> (Pairs, Halves) {
        let well = Traffic::decided_well(kind, behaviour);
        let Plan { rounds, round, part, compares, .. } = self.plan;
        let (mut pairs, mut halves) = (Pairs::new(), Halves::default());
        for _ in 0..rounds {
            let before = match compares {
                true => well.send(good.listen, round).await.good.ms_at(part),
                false => 0.0,
            };
            let mut sent = traffic.send(here.listen, round).await;
            pairs.push((before, sent.good.ms_at(part)));
            halves.add(sent);
        }
        (pairs, halves)
    }

    async fn push(&self, kind: Kind, behaviour: &Behaviour, to: &Gateway, found: &mut Found) {
        let component = std::fs::read(self.guests.of(behaviour, kind)).unwrap();
        let part =
            |name| format!("--part\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n");
        let config = match behaviour.config() {
            Some(name) => serde_json::json!({ "behaviour": name }).to_string(),
            None => "{}".to_owned(),
        };
        let parts = [part("component"), part("config")];
        let body: [&[u8]; 6] = [
            parts[0].as_bytes(),
            &component,
            b"\r\n",
            parts[1].as_bytes(),
            config.as_bytes(),
            b"\r\n--part--\r\n",
        ];
        let request = Request::post(&format!("/policies/{}/versions", kind.word()), body.concat())
            .header("content-type", "multipart/form-data; boundary=part")
            .header("authorization", format!("Bearer {TOKEN}"));
        let reply = Client::connect(to.admin).await.call(request).await;
        if reply.status() != 201 {
            found.wrong(format!("the push is refused: {} {}", reply.status(), reply.text().trim()));
        }
    }

    /// One worker, so that both halves meet in it. Neither breaker nor budget has a part in this.
    async fn gateway(&self, kind: Kind, component: &Path, config: Config, lines: &str) -> Gateway {
        let routes = match kind {
            Kind::Routing => "",
            Kind::Retry => EVERYTHING_TO_WRITER,
        };
        let kind = kind.word();
        Gateway::start(format!(
            "services.writer.endpoints = [\"http://{}\"]\n{routes}\n\
             policy.{kind}.component = {}\npolicy.{kind}.config = {}\n\
             server.workers = 1\nlog.access = \"off\"\nbreaker.failure_threshold = 1000\n\
             proxy.retry_delay_max = \"50ms\"\nproxy.retry_budget_ratio = 10\n\
             proxy.retry_budget_min_per_s = 100000\n{lines}",
            self.endpoint.address,
            toml_path(component),
            config.map_or("{}".into(), |name| format!("{{ behaviour = {name:?} }}")),
        ))
        .await
    }
}

/// The `behaviour` of a guest that is told.
type Config = Option<&'static str>;

const GOOD: Config = Some("good");

fn lives(gateway: &mut Gateway, found: &mut Found) -> bool {
    let ended = gateway.ended();
    if let Some(status) = &ended {
        found.wrong(format!("the process ended: {status}\n{:?}", gateway.log));
        found.deaths += 1;
    }
    ended.is_none()
}
