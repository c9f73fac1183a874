//! The default routing policy: a list of routes, the most specific path first.
//!
//! ```json
//! {"routes": [
//!     {"path_prefix": "/api/enrich", "service": "research"},
//!     {"path_prefix": "/api/publish", "rewrite_prefix": "/publish", "service": "backend"},
//!     {"path": "/login", "host": "example.org", "methods": ["POST"], "service": "writer"}
//! ]}
//! ```
//!
//! - `path` is exact. `path_prefix` ends on segment boundaries: `/api` takes `/api` and `/api/x`,
//!   not `/apix`. Paths are compared as sent, still percent-encoded; a slash at the end of a prefix
//!   says nothing.
//! - The most specific path decides: an exact one before a prefix, a longer prefix before a shorter.
//!   Of several routes with this path, those for the request's host come before those for any host,
//!   then the order of the list counts. A path whose routes are all for other hosts is passed over.
//! - Where the path decides and none of its routes takes the method, the answer is 405 with `Allow`:
//!   the request does not fall through to a less specific path. A route for GET takes HEAD too.
//! - `rewrite_prefix` stands in for the part of the path that the route names: the prefix, or the
//!   whole of an exact path. The query is kept.
//! - No route: the policy declines, and the client gets 404.
//!
//! `read.rs` reads and checks the configuration, `table.rs` finds the routes of a path.

mod read;
mod table;

use std::cell::OnceCell;

use orchestrator_policy::{ConfigError, Decision, Request, RoutingPolicy, Setup};

use crate::table::Table;

/// The default routing policy.
#[derive(Debug)]
pub struct Routing {
    table: Table,
}

/// One route, checked, with all that can be worked out before a request comes.
#[derive(Debug)]
struct Route {
    name: String,
    service: String,
    /// In lower case, without a port; none for any host.
    host: Option<String>,
    /// Empty for any method.
    methods: Vec<String>,
    rewrite: Option<Rewrite>,
}

/// How a path changes: so many of its first bytes make way for `to`.
#[derive(Debug)]
struct Rewrite {
    cut: usize,
    /// Without a slash at its end; empty for `/`.
    to: String,
}

orchestrator_policy::export_routing!(Routing);

impl RoutingPolicy for Routing {
    fn configure(setup: &Setup) -> Result<Self, Vec<ConfigError>> {
        read::routes(setup).map(|routes| Routing { table: Table::new(routes) })
    }

    fn route(&self, request: &Request) -> Decision<'_> {
        let path = request.path();
        // Each of these is a call into the gateway: made once, and only where a route asks.
        let (host, method) = (OnceCell::new(), OnceCell::new());
        let for_host = |route: &Route| match &route.host {
            Some(wanted) => host.get_or_init(|| host_of(&request.authority())) == wanted,
            None => true,
        };
        let for_method = |route: &Route| {
            route.methods.is_empty()
                || route.methods.contains(method.get_or_init(|| request.method()))
        };

        let Some(routes) = self.table.find(&path, |routes| routes.iter().any(for_host)) else {
            return Decision::decline();
        };
        let routes = routes.iter().filter(|route| for_host(route));
        match routes.clone().find(|route| for_method(route)) {
            Some(route) => forward(route, path),
            None => method_not_allowed(routes),
        }
    }
}

fn forward(route: &Route, path: String) -> Decision<'_> {
    let decision = Decision::forward(&route.service).route_name(&route.name);
    match &route.rewrite {
        Some(rewrite) => decision.path(rewrite.apply(path)),
        None => decision,
    }
}

fn method_not_allowed<'a>(routes: impl Iterator<Item = &'a Route> + Clone) -> Decision<'a> {
    let mut allow: Vec<&str> = Vec::new();
    for method in routes.clone().flat_map(|route| &route.methods) {
        if !allow.contains(&method.as_str()) {
            allow.push(method);
        }
    }
    let decision = Decision::respond(405).response_header("allow", allow.join(", "));
    match routes.into_iter().next() {
        Some(route) => decision.route_name(&route.name),
        None => decision,
    }
}

impl Rewrite {
    fn apply(&self, mut path: String) -> String {
        // What is left begins with a slash or is empty. Of several slashes one stays: `//host/x`
        // would be read as an authority by some.
        let rest = &path[self.cut..];
        let slashes = rest.len() - rest.trim_start_matches('/').len();
        path.replace_range(..self.cut + slashes.saturating_sub(1), &self.to);
        if path.is_empty() {
            path.push('/');
        }
        path
    }
}

/// The host of an authority, in lower case, without its port.
fn host_of(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        // Not so in `[::1]`: what follows its last colon is no port.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    // `example.org.` is the same name, said in full.
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
