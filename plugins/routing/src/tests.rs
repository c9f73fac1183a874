mod acting;
mod conditions;
mod matching;
mod model;
mod refused;

use orchestrator_policy::{Action as Chosen, Circuit, Health, RequestBuilder, ServiceState};

use super::*;

const SERVICES: [&str; 3] = ["writer", "research", "backend"];

fn configure(config: &str) -> Result<Routing, Vec<ConfigError>> {
    Routing::configure(&Setup::builder().config(config).services(SERVICES).build())
}

/// A policy with these routes, each a JSON object without its braces. Where nothing says what becomes
/// of the requests, they go to the writer.
fn policy(routes: &[&str]) -> Routing {
    let acts = ["\"service", "\"redirect", "\"respond\""];
    let route = |route: &&str| match acts.iter().any(|action| route.contains(action)) {
        true => format!("{{{route}}}"),
        false => format!(r#"{{{route}, "service": "writer"}}"#),
    };
    let routes: Vec<_> = routes.iter().map(route).collect();
    configure(&format!(r#"{{"routes": [{}]}}"#, routes.join(", "))).expect("valid routes")
}

fn get(path: &str) -> RequestBuilder {
    Request::builder().path(path)
}

fn standing(circuit: Circuit) -> ServiceState {
    ServiceState { circuit, health: Health::Healthy }
}

/// The name of the route that takes the request; `-` for none, the `Allow` of a 405.
fn taken_by(policy: &Routing, request: RequestBuilder) -> String {
    let request = request.build();
    let decision = policy.route(&request);
    match decision.action {
        Chosen::Forward(_) => decision.route_name.expect("a name").into_owned(),
        Chosen::Decline => "-".to_owned(),
        Chosen::Respond(405) => {
            let allow = decision.response_headers[0].value.as_deref().expect("a value");
            format!("405 {}", String::from_utf8_lossy(allow))
        }
        other => panic!("{other:?}"),
    }
}
