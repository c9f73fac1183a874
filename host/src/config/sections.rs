//! The keys of the gateway's own sections, from `[server]` to `[log]`, but for `[admin]` and
//! `[policy_limits]`.
//!
//! Where a section is complete by itself, its parts are compared here too. `defaults` is the
//! built-in configuration, and none only while that one is being read.

use std::path::Path;
use std::thread::available_parallelism;
use std::time::Duration;

use ipnet::IpNet;
use tracing::Level;

use super::reader::{Section, refuse};
use super::value::{
    DAY, GIB, HOUR, KIB, MIB, MINUTE, MS, boolean, duration, folder_path, fraction, is_path, list,
    network, number, or_off, quote, rate, size, socket_address, string, word,
};
use super::web::{header_name, method, origin, path_prefix, request_path};
use super::{AccessLog, Breaker, Cors, Health, Limits, Log, Proxy, Server};

pub(super) fn server(
    mut section: Section<'_>,
    defaults: Option<&Server>,
    folder: &Path,
) -> Option<Server> {
    let listen = section.read("listen", defaults.map(|d| d.listen), socket_address);
    let workers = section.read("workers", defaults.map(|d| d.workers), number(0..=256));
    let pages = section.read("pages", defaults.map(|d| d.pages), boolean);
    let pages_prefix =
        section.read("pages_prefix", defaults.map(|d| d.pages_prefix.clone()), path_prefix);
    let trusted_proxies = section.read(
        "trusted_proxies",
        defaults.map(|d| d.trusted_proxies.clone()),
        list(network, IpNet::eq, 1000),
    );
    let strict_paths = section.read("strict_paths", defaults.map(|d| d.strict_paths), boolean);
    let cache_dir = section.read(
        "cache_dir",
        defaults.map(|d| d.cache_dir.clone()),
        or_off(folder_path(folder, "./cache")),
    );
    let state_dir = section.read(
        "state_dir",
        defaults.map(|d| d.state_dir.clone()),
        or_off(folder_path(folder, "./state")),
    );
    let watch = section.read("watch", defaults.map(|d| d.watch), boolean);
    let drain_delay = section.read(
        "drain_delay",
        defaults.map(|d| d.drain_delay),
        duration(Duration::ZERO..=10 * MINUTE),
    );
    let drain_timeout = section.read(
        "drain_timeout",
        defaults.map(|d| d.drain_timeout),
        duration(Duration::ZERO..=HOUR),
    );
    section.finish();
    Some(Server {
        listen: listen?,
        workers: match workers? {
            0 => available_parallelism().map_or(1, usize::from),
            workers => workers,
        },
        pages: pages?,
        pages_prefix: pages_prefix?,
        trusted_proxies: trusted_proxies?,
        strict_paths: strict_paths?,
        cache_dir: cache_dir?,
        state_dir: state_dir?,
        watch: watch?,
        drain_delay: drain_delay?,
        drain_timeout: drain_timeout?,
    })
}

pub(super) fn proxy(mut section: Section<'_>, defaults: Option<&Proxy>) -> Option<Proxy> {
    let d = defaults;
    let request_timeout =
        section.read("request_timeout", d.map(|d| d.request_timeout), duration(MS..=HOUR));
    let attempt_timeout =
        section.read("attempt_timeout", d.map(|d| d.attempt_timeout), or_off(duration(MS..=HOUR)));
    let idle_timeout = section.read("idle_timeout", d.map(|d| d.idle_timeout), duration(MS..=DAY));
    let tunnel_idle_timeout =
        section.read("tunnel_idle_timeout", d.map(|d| d.tunnel_idle_timeout), duration(MS..=DAY));
    let connect_timeout =
        section.read("connect_timeout", d.map(|d| d.connect_timeout), duration(MS..=5 * MINUTE));
    let replay_body_max =
        section.read("replay_body_max", d.map(|d| d.replay_body_max), size(0..=16 * MIB));
    let retry_attempts_max =
        section.read("retry_attempts_max", d.map(|d| d.retry_attempts_max), number(1..=100));
    let retry_delay_max = section.read(
        "retry_delay_max",
        d.map(|d| d.retry_delay_max),
        duration(Duration::ZERO..=HOUR),
    );
    let retry_budget_ratio =
        section.read("retry_budget_ratio", d.map(|d| d.retry_budget_ratio), fraction(0.0..=10.0));
    let retry_budget_min_per_s = section.read(
        "retry_budget_min_per_s",
        d.map(|d| d.retry_budget_min_per_s),
        number(0..=100_000),
    );
    if let (Some(request), Some(Some(attempt))) = (request_timeout, attempt_timeout)
        && attempt > request
    {
        section.problems.add(
            section.span_of("attempt_timeout"),
            "`proxy.attempt_timeout` is longer than `proxy.request_timeout`",
            Some("never comes into effect"),
            Some(format!(
                "all attempts of a request share {}: give one attempt less, or write \"off\"",
                humantime::format_duration(request)
            )),
        );
    }
    section.finish();
    Some(Proxy {
        request_timeout: request_timeout?,
        attempt_timeout: attempt_timeout?,
        idle_timeout: idle_timeout?,
        tunnel_idle_timeout: tunnel_idle_timeout?,
        connect_timeout: connect_timeout?,
        replay_body_max: replay_body_max?,
        retry_attempts_max: retry_attempts_max?,
        retry_delay_max: retry_delay_max?,
        retry_budget_ratio: retry_budget_ratio?,
        retry_budget_min_per_s: retry_budget_min_per_s?,
    })
}

pub(super) fn limits(mut section: Section<'_>, defaults: Option<&Limits>) -> Option<Limits> {
    let d = defaults;
    let connections = section.read("connections", d.map(|d| d.connections), number(1..=1_000_000));
    let header_bytes = section.read("header_bytes", d.map(|d| d.header_bytes), size(8 * KIB..=MIB));
    let header_count = section.read("header_count", d.map(|d| d.header_count), number(10..=1000));
    let header_timeout =
        section.read("header_timeout", d.map(|d| d.header_timeout), duration(MS..=10 * MINUTE));
    let keep_alive_timeout =
        section.read("keep_alive_timeout", d.map(|d| d.keep_alive_timeout), duration(MS..=HOUR));
    let body_rate_min =
        section.read("body_rate_min", d.map(|d| d.body_rate_min), or_off(rate(1..=GIB)));
    let body_bytes =
        section.read("body_bytes", d.map(|d| d.body_bytes), or_off(size(0..=1024 * GIB)));
    section.finish();
    Some(Limits {
        connections: connections?,
        header_bytes: header_bytes?,
        header_count: header_count?,
        header_timeout: header_timeout?,
        keep_alive_timeout: keep_alive_timeout?,
        body_rate_min: body_rate_min?,
        body_bytes: body_bytes?,
    })
}

pub(super) fn health(mut section: Section<'_>, defaults: Option<&Health>) -> Option<Health> {
    let d = defaults;
    let interval = section.read("interval", d.map(|d| d.interval), or_off(duration(10 * MS..=DAY)));
    let timeout = section.read("timeout", d.map(|d| d.timeout), duration(MS..=5 * MINUTE));
    let path = section.read("path", d.map(|d| d.path.clone()), request_path);
    let history = section.read("history", d.map(|d| d.history), number(1..=10_000));
    section.finish();
    Some(Health { interval: interval?, timeout: timeout?, path: path?, history: history? })
}

pub(super) fn breaker(mut section: Section<'_>, defaults: Option<&Breaker>) -> Option<Breaker> {
    let d = defaults;
    let failure_threshold =
        section.read("failure_threshold", d.map(|d| d.failure_threshold), number(1..=1000));
    let open_for = section.read("open_for", d.map(|d| d.open_for), duration(MS..=HOUR));
    let success_threshold =
        section.read("success_threshold", d.map(|d| d.success_threshold), number(1..=1000));
    let timeout_floor =
        section.read("timeout_floor", d.map(|d| d.timeout_floor), duration(Duration::ZERO..=HOUR));
    section.finish();
    Some(Breaker {
        failure_threshold: failure_threshold?,
        open_for: open_for?,
        success_threshold: success_threshold?,
        timeout_floor: timeout_floor?,
    })
}

pub(super) fn cors(mut section: Section<'_>, defaults: Option<&Cors>) -> Option<Cors> {
    let d = defaults;
    let same_name = |one: &String, other: &String| one.eq_ignore_ascii_case(other);
    let origins = list(origin, String::eq, 1000);
    let methods = list(method, String::eq, 100);
    let headers = list(header_name, same_name, 100);
    let allow_origins = section.read("allow_origins", d.map(|d| d.allow_origins.clone()), origins);
    let allow_methods = section.read("allow_methods", d.map(|d| d.allow_methods.clone()), methods);
    let allow_headers = section.read("allow_headers", d.map(|d| d.allow_headers.clone()), &headers);
    let expose_headers =
        section.read("expose_headers", d.map(|d| d.expose_headers.clone()), &headers);
    let max_age = section.read("max_age", d.map(|d| d.max_age), duration(Duration::ZERO..=DAY));
    let allow_credentials =
        section.read("allow_credentials", d.map(|d| d.allow_credentials), boolean);

    let lists = [
        ("allow_origins", &allow_origins, "the origins"),
        ("allow_methods", &allow_methods, "the methods"),
        ("allow_headers", &allow_headers, "the headers"),
        ("expose_headers", &expose_headers, "the headers"),
    ];
    for (key, list, which) in lists {
        let list = list.as_deref().unwrap_or_default();
        let has_all = list.iter().any(|one| one == "*");
        if has_all && list.len() > 1 {
            section.problems.add(
                section.span_of(key),
                format!("`cors.{key}` has \"*\" together with others"),
                Some("\"*\" is all of them already"),
                Some(format!("write [\"*\"] alone, or {which} without it")),
            );
        }
        if has_all && allow_credentials == Some(true) {
            let message = format!(
                "`cors.allow_credentials` cannot be true while `cors.{key}` is \"*\"{}",
                if section.has(key) { "" } else { " by default" }
            );
            section.problems.add(
                section.span_of("allow_credentials"),
                message,
                Some("browsers refuse this"),
                Some(format!("list {which} in `{key}`, or write allow_credentials = false")),
            );
        }
    }
    section.finish();
    Some(Cors {
        allow_origins: allow_origins?,
        allow_methods: allow_methods?,
        allow_headers: allow_headers?,
        expose_headers: expose_headers?,
        max_age: max_age?,
        allow_credentials: allow_credentials?,
    })
}

pub(super) fn log(mut section: Section<'_>, defaults: Option<&Log>, folder: &Path) -> Option<Log> {
    let levels = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    let level = section.read("level", defaults.map(|d| d.level), word(&levels));
    let access = section.read("access", defaults.map(|d| d.access.clone()), |value| {
        let text = string(value, "\"stdout\", \"off\" or a path", "stdout")?;
        match text {
            "stdout" => Ok(AccessLog::Stdout),
            "off" => Ok(AccessLog::Off),
            path if is_path(path) && !path.ends_with('/') => {
                let file = folder.join(path);
                match file.parent().is_some_and(Path::is_dir) {
                    true => Ok(AccessLog::File(file)),
                    false => refuse(
                        format!("is in a folder that is not there: {}", quote(text)),
                        format!("make it; looked for {}", file.display()),
                    ),
                }
            }
            other => refuse(
                format!("is neither \"stdout\" nor \"off\" nor a path: {}", quote(other)),
                "a path has a `/` in it: \"./access.log\"",
            ),
        }
    });
    section.finish();
    Some(Log { level: level?, access: access? })
}
