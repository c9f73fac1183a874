//! The words of the demo: what runs where, and what to try.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;

use orchestrator::config::{AdminListen, Config};
use serde_json::Value;

#[derive(Debug)]
pub(super) struct Guide<'a> {
    pub(super) config: &'a Config,
    pub(super) listen: SocketAddr,
    pub(super) admin: &'a AdminListen,
    /// With which policies are replaced.
    pub(super) token: &'a str,
    /// What is not where the configuration says.
    pub(super) notes: &'a [String],
    pub(super) coloured: bool,
}

impl Display for Guide<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        writeln!(f, "\n{}", self.bold(format!("Orchestrator {version}, the demo")))?;
        writeln!(f, "A gateway in front of three stand-in services. Ctrl-C stops all of it.\n")?;
        self.places(f)?;
        self.walk(f)
    }
}

impl Guide<'_> {
    fn places(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let place = |f: &mut Formatter<'_>, name: &str, url: &str, what: &str| {
            writeln!(f, "  {} {url:<23} {what}", self.bold(format!("{name:<9}")))
        };
        place(f, "gateway", &format!("http://{}", self.listen), "one port for all services")?;
        place(f, "admin", &format!("http://{}", self.admin), "/metrics, /policies, /status")?;
        for service in &self.config.services {
            place(f, &service.name, &service.endpoints[0].url, &self.routes_of(&service.name))?;
        }
        for note in self.notes {
            writeln!(f, "  {}", self.yellow(note))?;
        }
        writeln!(f)
    }

    /// `/api/publish as /publish`
    fn routes_of(&self, service: &str) -> String {
        let routes = self.config.routing.config["routes"].as_array().into_iter().flatten();
        let routes = routes.filter(|route| route["service"] == service).map(|route| {
            let text = |key| route.get(key).and_then(Value::as_str);
            let prefix = text("path_prefix").unwrap_or_default();
            match text("rewrite_prefix") {
                Some(rewritten) => format!("{prefix} as {rewritten}"),
                None => format!("{prefix} under its own path"),
            }
        });
        format!("gets {}", routes.collect::<Vec<_>>().join(", "))
    }

    fn walk(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let gateway = format!("http://{}", self.listen);
        let open_for = humantime::format_duration(self.config.breaker.open_for);
        let interval = humantime::format_duration(super::CHECK_INTERVAL);
        writeln!(f, "{}\n", self.bold("Try, in another terminal"))?;

        self.step(f, 1, "a request: a WebAssembly component decides which service gets it")?;
        self.command(f, &format!("curl {gateway}/api/writer/notes/7"), "")?;
        self.command(f, &format!("curl -d 'a text' {gateway}/api/enrich"), "")?;

        writeln!(f)?;
        self.step(f, 2, "a retry that succeeds: the first two attempts fail, the third does not")?;
        self.command(
            f,
            &format!("curl -i '{gateway}/api/writer/notes/7?fail=2'"),
            "200, after 2 s",
        )?;

        writeln!(f)?;
        self.step(f, 3, "a circuit that opens: three attempts of one request fail")?;
        self.command(f, &format!("curl -i '{gateway}/api/writer/notes/7?status=503'"), "")?;
        self.command(
            f,
            &format!("curl -i {gateway}/api/writer/notes/7"),
            "503 at once, with Retry-After",
        )?;
        self.command(f, &format!("curl {gateway}/health/status/writer"), "circuit_state: open")?;
        self.says(f, &format!("… and closes: after {open_for} it half-opens, and two good"))?;
        self.says(f, &format!("checks, one every {interval}, close it. Ask once more then."))?;

        writeln!(f)?;
        self.step(f, 4, "a service that goes away for a while, and one that is slow")?;
        let down = format!("curl -X POST '{gateway}/api/publish/_stand-in/down?for=15s'");
        self.command(f, &down, "")?;
        self.command(f, &format!("curl {gateway}/health"), "overall: degraded")?;
        self.command(f, &format!("curl '{gateway}/api/enrich?delay=2s'"), "")?;

        writeln!(f)?;
        self.step(f, 5, "a policy that is replaced while the gateway serves, and taken back")?;
        let admin = format!("ORCHESTRATOR_ADMIN={}", self.admin);
        self.command(f, &format!("export {admin} ORCHESTRATOR_TOKEN={}", self.token), "")?;
        let config = r#"{"attempts": 3, "delay": "20ms"}"#;
        self.command(f, &format!("echo '{config}' >/tmp/retry.json"), "")?;
        self.says(f, "in the repository's folder, with target/release on the PATH:")?;
        let push = "orchestrator policy push plugins/dist/retry.wasm --as retry";
        self.command(f, &format!("{push} --config /tmp/retry.json"), "")?;
        self.command(
            f,
            &format!("curl -i '{gateway}/api/writer/notes/7?fail=2'"),
            "200 as in 2, but at once",
        )?;
        self.command(f, "orchestrator policy list", "who decides, and how fast")?;
        self.command(f, "orchestrator policy rollback retry", "")?;

        writeln!(f, "\n{}\n", self.bold("Where to see it"))?;
        for (where_to, what) in [
            (format!("{gateway}/health/status"), "what the monitor saw last, and every circuit"),
            (format!("{gateway}/docs"), "the gateway's own pages"),
            (format!("http://{}/metrics", self.admin), "attempts, retries, decisions, transitions"),
            (
                "below".to_owned(),
                "the access log, a JSON line per request, and the gateway's words",
            ),
        ] {
            writeln!(f, "  {where_to:<38} {what}")?;
        }
        writeln!(f)
    }

    fn step(&self, f: &mut Formatter<'_>, number: u32, what: &str) -> fmt::Result {
        writeln!(f, "  {number}. {what}")
    }

    /// Something to copy, and what to expect of it.
    fn command(&self, f: &mut Formatter<'_>, command: &str, expect: &str) -> fmt::Result {
        match expect {
            "" => writeln!(f, "     {}", self.cyan(command)),
            _ => writeln!(f, "     {}   # {expect}", self.cyan(command)),
        }
    }

    fn says(&self, f: &mut Formatter<'_>, text: &str) -> fmt::Result {
        writeln!(f, "     {text}")
    }

    fn bold(&self, text: impl Display) -> String {
        self.paint("1", text)
    }

    fn cyan(&self, text: impl Display) -> String {
        self.paint("36", text)
    }

    fn yellow(&self, text: impl Display) -> String {
        self.paint("33", text)
    }

    fn paint(&self, code: &str, text: impl Display) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}
