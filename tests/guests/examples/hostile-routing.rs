//! Misbehaves as its configuration says: `{"behaviour": "spin"}`. The names are those of
//! `src/hostile.rs` and of `OWN`.

use std::time::Duration;

use orchestrator_guests::{first_service, hostile, misbehaves};
use orchestrator_policy::{ConfigError, Decision, Request, RoutingPolicy, Setup};

const OWN: &[&str] = &[
    "unknown-service",
    "forged-header",
    "hop-by-hop-header",
    "reserved-header",
    "smuggled-header",
    "many-headers",
    "bad-path",
    "bad-status",
    "huge-body",
    "no-time",
    "all-the-time",
    "name-of-a-route",
];

#[derive(Debug)]
pub struct Guest {
    behaviour: String,
    service: String,
}

orchestrator_policy::export_routing!(Guest);

impl RoutingPolicy for Guest {
    fn configure(setup: &Setup) -> Result<Self, Vec<ConfigError>> {
        Ok(Guest { behaviour: hostile::behaviour(setup, OWN)?, service: first_service(setup)? })
    }

    fn route(&self, request: &Request) -> Decision<'_> {
        if !misbehaves(request) {
            return Decision::forward(&self.service);
        }
        hostile::misbehave(&self.behaviour, request);
        self.answer(request)
    }
}

impl Guest {
    fn answer(&self, request: &Request) -> Decision<'_> {
        let forward = Decision::forward(&self.service);
        match self.behaviour.as_str() {
            "unknown-service" => Decision::forward("nowhere"),
            "forged-header" => forward.request_header("X-Forwarded-For", "10.0.0.1"),
            "hop-by-hop-header" => forward.request_header("transfer-encoding", "chunked"),
            "reserved-header" => forward.response_header("x-request-id", "mine"),
            "smuggled-header" => forward.response_header("x-a", "1\r\nset-cookie: stolen=1"),
            "many-headers" => (0..400).fold(forward, |forward, number| {
                forward.request_header(format!("x-{number}"), "1")
            }),
            "bad-path" => forward.path("/a HTTP/1.1\r\nhost: elsewhere\r\n\r\n"),
            "bad-status" => Decision::respond(101),
            "huge-body" => Decision::respond(200).body(vec![b'x'; 1 << 20]),
            "no-time" => forward.timeout(Duration::ZERO),
            "all-the-time" => {
                let for_ever = Duration::from_millis(u64::MAX);
                forward.timeout(for_ever).attempt_timeout(for_ever).request_body_max(u64::MAX)
            }
            // Another one each time: names that would grow the metrics without end.
            "name-of-a-route" => forward.route_name(format!("route {}", request.random())),
            "wrong-answer" => {
                wrong_answer();
                forward
            }
            "forged-log" => Decision::cannot_decide(hostile::FORGED),
            _ => forward,
        }
    }
}

/// What only a retry policy may say.
fn wrong_answer() {
    #[cfg(target_arch = "wasm32")]
    orchestrator_policy::wire::retry_half::orchestrator::policy::retry_answer::again(0);
}
