//! Helpful: responds with all it can learn, a line for each fact, `name value`. Bytes that are not
//! printable ASCII are escaped as in Rust. Facts that are absent have no line.

use std::fmt::Write;

use orchestrator_policy::{ConfigError, Decision, Request, RoutingPolicy, Setup};

#[derive(Debug)]
pub struct Guest {
    config: String,
    services: Vec<String>,
}

orchestrator_policy::export_routing!(Guest);

impl RoutingPolicy for Guest {
    fn configure(setup: &Setup) -> Result<Self, Vec<ConfigError>> {
        Ok(Guest { config: setup.config().to_owned(), services: setup.services().to_vec() })
    }

    fn route(&self, request: &Request) -> Decision<'_> {
        match self.describe(request) {
            Ok(body) => Decision::respond(200).body(body).route_name("echo"),
            Err(error) => Decision::cannot_decide(error.to_string()),
        }
    }
}

impl Guest {
    fn describe(&self, request: &Request) -> Result<String, std::fmt::Error> {
        let mut body = String::new();
        writeln!(body, "config {}", self.config)?;
        writeln!(body, "method {}", request.method())?;
        writeln!(body, "scheme {}", request.scheme())?;
        writeln!(body, "authority {}", request.authority())?;
        writeln!(body, "path {}", request.path())?;
        if let Some(query) = request.query() {
            writeln!(body, "query {query}")?;
        }
        writeln!(body, "client {}", request.client())?;
        writeln!(body, "now-ms {}", request.now_ms())?;
        writeln!(body, "random {} {}", request.random(), request.random())?;
        for (name, value) in request.headers() {
            writeln!(body, "header {name}: {}", value.escape_ascii())?;
        }
        // The same facts by the other two functions, for one header.
        if let Some(joined) = request.header("X-Many") {
            writeln!(body, "joined {}", joined.escape_ascii())?;
            writeln!(body, "values {}", request.header_values("x-MANY").len())?;
        }
        for name in self.services.iter().map(String::as_str).chain(["nowhere"]) {
            match request.service(name) {
                Some(state) => {
                    writeln!(body, "service {name} {:?} {:?}", state.circuit, state.health)?;
                }
                None => writeln!(body, "no-service {name}")?,
            }
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_has_its_line() {
        let setup = Setup::builder().services(["writer"]).build();
        let guest = Guest::configure(&setup).expect("no configuration to refuse");
        let request = Request::builder()
            .path("/a")
            .query("b=c")
            .header("X-Many", "1")
            .header("X-Many", b"\xff")
            .random([1, 2])
            .build();
        assert_eq!(
            guest.describe(&request).expect("text"),
            "config {}\nmethod GET\nscheme http\nauthority localhost\npath /a\nquery b=c\n\
             client 127.0.0.1\nnow-ms 1700000000000\nrandom 1 2\n\
             header x-many: 1\nheader x-many: \\xff\njoined 1, \\xff\nvalues 2\n\
             no-service writer\nno-service nowhere\n"
        );
    }
}
