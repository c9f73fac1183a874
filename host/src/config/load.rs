//! From a file, or the built-in text, to a [`Config`]: reads it, walks its sections, compares what
//! only makes sense together.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use toml::de::DeTable;

use super::admin::admin;
use super::policies::policy;
use super::policy_limits::policy_limits;
use super::reader::{Problems, Section};
use super::sections::{breaker, cors, health, limits, log, proxy, server};
use super::services::{Shared, services};
use super::source::Source;
use super::{
    Admin, AdminListen, Component, Config, Diagnostic, Diagnostics, Origin, Policy, Server,
    SourceMap,
};
use crate::policy::Kind;

/// The largest configuration that is read, in bytes: 2 MiB, some 20,000 routes.
pub const CONFIG_BYTES_MAX: usize = 2 * 1024 * 1024;

const BUILTIN: &str = include_str!("default.toml");

static DEFAULTS: LazyLock<(Config, SourceMap)> = LazyLock::new(|| {
    let origin = Origin { name: "the built-in configuration".to_owned(), folder: PathBuf::new() };
    match read(BUILTIN.to_owned(), origin, None) {
        Ok(defaults) => defaults,
        Err(wrong) => unreachable!("the built-in configuration is valid:\n{wrong}"),
    }
});

impl Config {
    /// The configuration of a gateway that is started without one. Every default is in it.
    pub fn builtin() -> (Config, SourceMap) {
        DEFAULTS.clone()
    }

    /// Reads and validates a file of up to [`CONFIG_BYTES_MAX`].
    ///
    /// # Errors
    /// All that is wrong with it, or why it could not be read.
    pub fn load(path: &Path) -> Result<(Config, SourceMap), Diagnostics> {
        let name = path.display().to_string();
        let bytes = bytes_of(path).map_err(|error| {
            let source = Arc::new(Source { name: name.clone(), text: String::new() });
            let help = "give the path of a TOML file, or none for the built-in configuration";
            Diagnostic::about(&source, format!("cannot read the configuration: {error}"))
                .help(Some(help.to_owned()))
        })?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        parse_bytes(bytes, Origin { name, folder })
    }

    /// Validates a configuration's text; components that it names must exist.
    ///
    /// # Errors
    /// All that is wrong with it, in the order of the text.
    pub fn parse(text: &str, origin: Origin) -> Result<(Config, SourceMap), Diagnostics> {
        read(text.to_owned(), origin, Some(&DEFAULTS))
    }
}

/// [`Config::parse`], for what may not be text at all.
pub(super) fn parse_bytes(
    bytes: Vec<u8>,
    origin: Origin,
) -> Result<(Config, SourceMap), Diagnostics> {
    let error = match String::from_utf8(bytes) {
        Ok(text) => return read(text, origin, Some(&DEFAULTS)),
        Err(error) => error,
    };
    let valid = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
    let source = Arc::new(Source { name: origin.name, text });
    let diagnostic = Diagnostic::new(&source, valid..valid + 1, "this is not UTF-8");
    Err(diagnostic.help(Some("save the file as UTF-8".to_owned())).into())
}

fn bytes_of(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(CONFIG_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `defaults` is none only for the built-in configuration itself, which must say everything.
fn read(
    text: String,
    origin: Origin,
    defaults: Option<&(Config, SourceMap)>,
) -> Result<(Config, SourceMap), Diagnostics> {
    let source = Arc::new(Source { name: origin.name, text });
    if source.text.len() > CONFIG_BYTES_MAX {
        let message = format!("the configuration is larger than {CONFIG_BYTES_MAX} bytes");
        return Err(Diagnostic::new(&source, 0..0, message).into());
    }
    let (root, errors) = DeTable::parse_recoverable(&source.text);
    let problems = Problems::of(Arc::clone(&source));
    for error in &errors {
        let span = error.span().unwrap_or_else(|| source.end());
        problems.add(span, syntax_message(error.message()), None, syntax_help(error.message()));
    }
    // Half of a document would be refused for what the other half says.
    if let Some(wrong) = problems.into_diagnostics() {
        return Err(wrong);
    }
    let problems = Problems::of(Arc::clone(&source));
    let root = Section::root(&problems, root.get_ref());
    let config = config(root, defaults.map(|(config, _)| config), &origin.folder);
    match (config, problems.into_diagnostics()) {
        (Some((config, says_retry)), None) => {
            let retry = match defaults {
                Some((_, map)) if !says_retry => map.clone().into_sources().1,
                _ => Arc::clone(&source),
            };
            Ok((config, SourceMap::new(source, retry)))
        }
        (_, Some(wrong)) => Err(wrong),
        (None, None) => unreachable!("whatever is missing has been reported"),
    }
}

/// All sections, and whether the retry policy's configuration stands in this document.
fn config(
    mut root: Section<'_>,
    defaults: Option<&Config>,
    folder: &Path,
) -> Option<(Config, bool)> {
    let d = defaults;
    let server_section = root.section("server");
    let server_listen = server_section.has("listen").then(|| server_section.span_of("listen"));
    let admin_section = root.section("admin");
    let admin_listen = admin_section.has("listen").then(|| admin_section.span_of("listen"));
    let server = server(server_section, d.map(|d| &d.server), folder);
    let admin = admin(admin_section, d.map(|d| &d.admin), folder);
    if let (Some(server), Some(admin)) = (&server, &admin)
        && let Some(span) = admin_listen.or(server_listen)
        && collide(server, admin)
    {
        root.problems.add(
            span,
            format!("`admin.listen` and `server.listen` are one address: {}", admin.listen),
            None,
            Some("give them different ports: only one listener can have each".to_owned()),
        );
    }
    let proxy = proxy(root.section("proxy"), d.map(|d| &d.proxy));
    let limits = limits(root.section("limits"), d.map(|d| &d.limits));
    let default_limits = d.map(|d| &d.routing.limits);
    let mut section = root.section("policy_limits");
    let policy_limits = policy_limits(&mut section, default_limits).or(default_limits.cloned());
    section.finish();
    let health = health(root.section("health"), d.map(|d| &d.health));
    let breaker = breaker(root.section("breaker"), d.map(|d| &d.breaker));
    let cors = cors(root.section("cors"), d.map(|d| &d.cors));
    let log = log(root.section("log"), d.map(|d| &d.log), folder);
    // What is wrong in these was reported there; a service is read with the defaults then.
    let services = match (
        proxy.as_ref().or(d.map(|d| &d.proxy)),
        health.as_ref().or(d.map(|d| &d.health)),
        breaker.as_ref().or(d.map(|d| &d.breaker)),
    ) {
        (Some(proxy), Some(health), Some(breaker)) => {
            services(&root.section("services"), &Shared { proxy, health, breaker })
        }
        _ => None,
    };

    let mut policies = root.section("policy");
    let mut read_policy = |kind: Kind, default_config| -> Option<(Policy, bool)> {
        let section = policies.section(kind.name());
        if kind == Kind::Routing && !section.is_given() && !policies.has("routing") {
            let help = "add a table `[policy.routing]` with `component = \"builtin:routing\"`, and \
                        for each path a `[[policy.routing.config.routes]]` with `path_prefix = \
                        \"/\"` and `service = \"…\"`";
            let message = "no routing policy is configured: no request would reach a service";
            root.problems.add(policies.span(), message, None, Some(help.to_owned()));
        }
        let says_config = section.has("config");
        let policy = policy(section, kind, policy_limits.as_ref(), default_config, folder);
        policy.map(|policy| (policy, says_config))
    };
    let routing = read_policy(Kind::Routing, None);
    let retry = read_policy(Kind::Retry, d.map(|d| &d.retry.config));
    policies.finish();
    root.finish();

    let (retry, says_retry) = retry?;
    let has_own_component = retry.component != Component::BuiltinRetry;
    let config = Config {
        server: server?,
        admin: admin?,
        proxy: proxy?,
        limits: limits?,
        health: health?,
        breaker: breaker?,
        cors: cors?,
        log: log?,
        services: services?,
        routing: routing?.0,
        retry,
    };
    Some((config, says_retry || has_own_component))
}

/// Whether the two listeners would want the same port of the same address.
fn collide(server: &Server, admin: &Admin) -> bool {
    let (server, AdminListen::Tcp(admin)) = (server.listen, &admin.listen) else { return false };
    let share_an_address =
        server.ip() == admin.ip() || server.ip().is_unspecified() || admin.ip().is_unspecified();
    server.port() != 0 && server.port() == admin.port() && share_an_address
}

/// The parser's words, as a sentence of ours.
fn syntax_message(message: &str) -> String {
    match message {
        "duplicate key" => "this key is there a second time".to_owned(),
        other => format!("this is not TOML: {other}"),
    }
}

fn syntax_help(message: &str) -> Option<String> {
    (message == "duplicate key").then(|| "leave one of them out".to_owned())
}
