//! The default routing policy. This is all that a route can say; the README has the rules in full.
//!
//! ```toml
//! [[policy.routing.config.routes]]
//! name = "orders"                                 # in logs and metrics; else the path
//! # Which requests:
//! host = "*.shop.example"                         # or a name without `*.`
//! path_prefix = "/users/{user}/orders"            # or `path`, the whole of it
//! methods = ["GET", "POST"]
//! headers = { x-tenant = "acme", x-debug = { present = false }, user-agent = { regex = "curl/.*" } }
//! query = { version = "2" }
//! when = { legacy = "open" }                      # how a service stands: circuit or health
//! # What becomes of them: `service`, `services`, `redirect` or `respond`
//! services = [{ service = "orders", weight = 90 }, { service = "orders-next", weight = 10 }]
//! sticky = { cookie = "user" }
//! fallback = "legacy"                             # while the service's circuit is open
//! affinity = { header = "x-user" }
//! rewrite_prefix = "/accounts/{user}/orders"      # or `rewrite`, the whole path
//! timeout = "5s"
//! attempt_timeout = "1s"
//! body_bytes = "10MiB"
//! request_headers = { set = { x-from = "gateway" }, remove = ["x-debug"] }
//! response_headers = { set = { cache-control = "no-store" }, remove = ["server"] }
//! ```
//!
//! **Which route.** Of all routes that take a request, the first in this order decides, as in the
//! Gateway API's HTTPRoute: an exact host, the longest `*.` host, no host; a whole path before a
//! prefix, a longer prefix before a shorter; among paths alike in that, those with fewer `{…}`, then
//! those whose `{…}` come later; a route with `methods`; the most `headers`, the most `query`, the
//! most `when`; the order of the list. Where a path has routes that would take the request but for
//! its method, no less specific path is looked at: the answer is 405 with `Allow`. That is ours. Where
//! there is no route, the policy declines, and the client gets 404.
//!
//! `read.rs` reads and checks the configuration, `table.rs` and `group.rs` are the index in which a
//! route is found, `condition.rs` has what it asks of a request, `act.rs` what becomes of it.

mod act;
mod asked;
mod condition;
mod group;
mod method;
mod pattern;
mod read;
mod rewrite;
mod table;

use orchestrator_policy::{ConfigError, Decision, Request, RoutingPolicy, Setup};

use crate::act::{Action, Edit};
use crate::asked::Asked;
use crate::condition::Condition;
use crate::method::Methods;
use crate::table::{Found, Names, Table};

/// The default routing policy.
#[derive(Debug)]
pub struct Routing {
    table: Table,
    names: Names,
    services: Vec<String>,
}

/// One route, checked, with all that can be worked out before a request comes. Its host and path
/// are where it stands in the [`Table`].
#[derive(Debug)]
struct Route {
    name: Box<str>,
    methods: Methods,
    conditions: Box<[Condition]>,
    action: Action,
    response_headers: Box<[Edit]>,
}

orchestrator_policy::export_routing!(Routing);

impl RoutingPolicy for Routing {
    fn configure(setup: &Setup) -> Result<Self, Vec<ConfigError>> {
        let (entries, names) = read::routes(setup)?;
        Ok(Routing { table: Table::new(entries), names, services: setup.services().to_vec() })
    }

    fn route(&self, request: &Request) -> Decision<'_> {
        let asked = Asked::new(request, &self.names);
        match self.table.find(&asked, &self.services) {
            Found::Route(route) => act::decide(route, asked, &self.services),
            Found::OtherMethods(routes) => method_not_allowed(&routes),
            Found::Nothing => Decision::decline(),
        }
    }
}

fn method_not_allowed<'a>(routes: &[&'a Route]) -> Decision<'a> {
    let mut allow: Vec<&str> = Vec::new();
    for method in routes.iter().flat_map(|route| route.methods.names()) {
        if !allow.contains(&method) {
            allow.push(method);
        }
    }
    let decision = Decision::respond(405).response_header("allow", allow.join(", "));
    match routes.first() {
        Some(route) => decision.route_name(&*route.name),
        None => decision,
    }
}

#[cfg(test)]
mod tests;
