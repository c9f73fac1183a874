//! Which differences between two configurations a running gateway cannot take over.

use super::super::Config;
use super::documented::documented;
use super::reference::{COMPANIONS, keys, toml, with};
use super::{VALID, accepted, parse};

/// The built-in configuration's defaults, and these lines: what differs from those other lines?
fn check(old: &str, new: &str, expected: &[&str]) {
    let (old, new) = (accepted(old), accepted(new));
    assert_eq!(old.differences_that_need_a_restart(&new), expected);
}

#[test]
fn the_same_configuration_has_none() {
    let (config, _) = Config::builtin();
    let (again, _) = parse(&config.to_toml(None)).unwrap();
    assert_eq!(config.differences_that_need_a_restart(&again), [""; 0]);
    check("proxy.idle_timeout = '60s'", "proxy.idle_timeout = '1m'", &[]);
}

/// Each key at each of its limits, where that is not its default.
#[test]
fn every_documented_key_is_named_when_it_differs() {
    let (plain, _) = parse(&with("")).unwrap();
    let structs = documented();
    let mut checked = 0;
    for key in keys(&structs) {
        for literal in key.value.limits.iter().flat_map(|(low, high)| [low, high]) {
            let line = format!("{} = {}", key.path, toml(literal, &key.value.what));
            let companion = COMPANIONS.iter().find(|(path, _)| *path == key.path);
            let companion = companion.map_or("", |(_, line)| line);
            let (changed, _) = parse(&with(&format!("{line}\n{companion}"))).unwrap();
            let found = plain.differences_that_need_a_restart(&changed);
            if format!("{plain:?}") == format!("{changed:?}") {
                assert_eq!(found, [""; 0], "{line}");
                continue;
            }
            // What is said for all is said for each, and for each policy.
            let path = key.path.replace("policy_limits.", "policy.retry.");
            assert!(found.contains(&path), "{line}\n{found:?}");
            checked += 1;
        }
    }
    assert!(checked > 80, "the limits were found: {checked}");
}

#[test]
fn a_key_is_named_with_all_that_it_stands_for() {
    check(
        "",
        "server.listen = '127.0.0.1:1'\ncors.allow_origins = []\nserver.watch = false",
        &["server.listen", "server.watch", "cors.allow_origins"],
    );
    check(
        "",
        "policy_limits.memory_max = '1MiB'\npolicy.retry.instances = 'fresh'",
        &["policy.routing.memory_max", "policy.retry.instances", "policy.retry.memory_max"],
    );
    check(
        "services.z.endpoints = ['http://z']",
        "services.z.endpoints = ['http://z', 'http://y']\nhealth.timeout = '1s'",
        &[
            "health.timeout",
            "services.z.endpoints",
            "services.z.health.timeout",
            "services.a.health.timeout",
        ],
    );
}

#[test]
fn services_and_tokens_that_only_one_has_are_one_key() {
    check(
        "services.z.endpoints = ['http://z']\nadmin.tokens.x.env = 'X'",
        "services.y.endpoints = ['http://z']\nadmin.tokens.y.env = 'X'",
        &["admin.tokens.x", "admin.tokens.y", "services.z", "services.y"],
    );
    check(
        "admin.tokens.x.env = 'X'",
        "admin.tokens.x.file = 'X'",
        &["admin.tokens.x.env", "admin.tokens.x.file"],
    );
}

#[test]
fn the_order_of_services_is_one_that_clients_see() {
    check(
        "services.z.endpoints = ['http://z']\nservices.y.endpoints = ['http://y']",
        "services.y.endpoints = ['http://y']\nservices.z.endpoints = ['http://z']",
        &["services"],
    );
}

#[test]
fn what_a_policy_is_made_of_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let wasm = folder.path().join("own.wasm");
    std::fs::write(&wasm, "").unwrap();
    let own = format!(
        "{VALID}cases = [{{ decision = 'decline' }}]\n[policy.routing.config]\na = 1\n\
         [policy.retry]\ncomponent = {:?}\ncases = [{{ decision = 'stop' }}]",
        wasm.display().to_string()
    );
    let (own, _) = parse(&own).unwrap();
    assert_eq!(accepted("").differences_that_need_a_restart(&own), [""; 0]);
}
