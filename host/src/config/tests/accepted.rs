//! What a valid configuration means.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::super::load::parse_bytes;
use super::super::{
    AccessLog, AdminListen, AdminToken, Component, Config, Instances, Origin, TokenSource,
};
use super::{VALID, accepted, assert_same, parse};
use crate::policy::Kind;

#[test]
fn the_built_in_configuration_is_the_three_services() {
    let (config, _) = Config::builtin();
    let names: Vec<&str> = config.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["writer", "research", "backend"]);
    assert_eq!(config.services[0].endpoints[0].authority, "localhost:8000");
    assert_eq!(config.routing.component, Component::BuiltinRouting);
    assert_eq!(config.routing.config["routes"][1]["rewrite_prefix"], "/publish");
    assert_eq!(config.retry.config, json!({"attempts": 3, "delay": "1s"}));
    assert!(config.server.workers >= 1);
}

#[test]
fn the_built_in_configuration_read_from_its_file_is_the_same() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/default.toml");
    let (config, _) = Config::load(&path).unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::builtin().0));
}

#[test]
fn what_a_file_leaves_out_has_its_default() {
    let config = accepted("proxy.idle_timeout = '1m 30s'");
    assert_eq!(config.proxy.idle_timeout, Duration::from_secs(90));
    assert_eq!(config.proxy.request_timeout, Duration::from_secs(30));
    assert_eq!(config.cors.allow_origins, ["*"]);
    assert_eq!(config.retry.config, json!({"attempts": 3, "delay": "1s"}));
    // The built-in routes lead to the built-in services: they are no default.
    assert_eq!(config.routing.config, json!({}));
}

#[test]
fn services_keep_the_order_of_the_file() {
    let config =
        accepted("services.z.endpoints = ['http://z']\nservices.b.endpoints = ['http://b']");
    let names: Vec<&str> = config.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["z", "b", "a"]);
}

#[test]
fn endpoints_are_names_and_addresses() {
    let config = accepted(
        "services.z.endpoints = ['http://Example.com', 'HTTP://[2001:DB8::1]:8080', 'http://10.0.0.1:80']",
    );
    let found: Vec<_> = config.services[0]
        .endpoints
        .iter()
        .map(|it| (it.url.as_str(), it.host.as_str(), it.port, it.authority.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("http://Example.com", "example.com", 80, "example.com"),
            ("HTTP://[2001:DB8::1]:8080", "2001:db8::1", 8080, "[2001:db8::1]:8080"),
            ("http://10.0.0.1:80", "10.0.0.1", 80, "10.0.0.1"),
        ]
    );
}

#[test]
fn trusted_proxies_are_networks_and_single_addresses() {
    let config = accepted(
        "server.trusted_proxies = ['10.0.0.0/8', '192.0.2.1', 'FD00::/8', '::1', \
         '::ffff:198.51.100.0/120', '::ffff:203.0.113.7', '0.0.0.0/0']",
    );
    let found: Vec<String> =
        config.server.trusted_proxies.iter().map(ToString::to_string).collect();
    let expected = [
        "10.0.0.0/8",
        "192.0.2.1/32",
        "fd00::/8",
        "::1/128",
        "198.51.100.0/24",
        "203.0.113.7/32",
        "0.0.0.0/0",
    ];
    assert_eq!(found, expected);
}

#[test]
fn an_endpoint_may_have_a_weight() {
    let config = accepted(
        "services.z.endpoints = ['http://a', { url = 'http://b', weight = 3 }, { url = 'http://c' }]",
    );
    let weights: Vec<_> =
        config.services[0].endpoints.iter().map(|it| (&*it.host, it.weight)).collect();
    assert_eq!(weights, [("a", 1), ("b", 3), ("c", 1)]);
}

#[test]
fn what_a_service_leaves_out_is_as_for_all() {
    let config = accepted(
        "proxy.connect_timeout = '7s'\nhealth.path = '/up'\nbreaker.open_for = '9s'\n\
         [services.z]\nendpoints = ['http://a']\nidle_timeout = '1m'\n\
         health.interval = '2s'\nbreaker.failure_threshold = 7",
    );
    let [z, a] = &config.services[..] else { panic!("two services") };
    assert_eq!(
        (z.connect_timeout, a.connect_timeout),
        (Duration::from_secs(7), Duration::from_secs(7))
    );
    assert_eq!((z.idle_timeout, a.idle_timeout), (Duration::from_mins(1), Duration::from_secs(30)));
    assert_eq!((&*z.health.path, &*a.health.path), ("/up", "/up"));
    assert_eq!(
        (z.health.interval, a.health.interval),
        (Some(Duration::from_secs(2)), Some(Duration::from_secs(30)))
    );
    assert_eq!(
        (z.breaker.open_for, a.breaker.open_for),
        (Duration::from_secs(9), Duration::from_secs(9))
    );
    assert_eq!((z.breaker.failure_threshold, a.breaker.failure_threshold), (7, 3));
}

#[test]
fn a_policys_own_limits_go_before_those_for_all() {
    let config = accepted(
        "policy_limits.memory_max = '16MiB'\npolicy_limits.result_max = '1KiB'\n\
         policy.retry.memory_max = '1MiB'",
    );
    assert_eq!(config.routing.limits.memory_max, 16 * 1024 * 1024);
    assert_eq!(config.retry.limits.memory_max, 1024 * 1024);
    assert_eq!(config.retry.limits.result_max, 1024);
    assert_eq!(config.retry.limits.decision_timeout, Duration::from_millis(10));
}

#[test]
fn a_policy_may_be_denied_its_memory_and_be_left_alone_with_its_faults() {
    let config = accepted(
        "policy.retry.instances = 'fresh'\npolicy.retry.fault_threshold = 'off'\n\
         policy_limits.fault_threshold = 7\npolicy_limits.compile_memory_max = '2GiB'",
    );
    assert_eq!(
        (config.routing.instances, config.retry.instances),
        (Instances::Warm, Instances::Fresh)
    );
    assert_eq!(
        (config.routing.limits.fault_threshold, config.retry.limits.fault_threshold),
        (Some(7), None)
    );
    assert_eq!(config.retry.limits.compile_memory_max, 2 << 30);
}

#[test]
fn cases_become_json_in_the_order_of_the_file() {
    let config = accepted(
        "[[policy.retry.cases]]\nfailure = { outcome = 503, number = 1 }\ndecision = 'stop'\n\
         [[policy.retry.cases]]\ndecision.again_after_ms = 1000\n",
    );
    assert_eq!(
        config.retry.cases.to_string(),
        r#"[{"failure":{"outcome":503,"number":1},"decision":"stop"},{"decision":{"again_after_ms":1000}}]"#
    );
    assert_eq!(config.routing.cases, json!([]));
    // Cases are about the configuration that counts: they change nothing in it.
    assert_eq!(config.retry.config, json!({"attempts": 3, "delay": "1s"}));
}

#[test]
fn the_admin_listener_may_be_a_socket() {
    let listen = |value: &str| accepted(&format!("admin.listen = {value:?}")).admin.listen;
    assert_eq!(listen("127.0.0.1:9"), AdminListen::Tcp(([127, 0, 0, 1], 9).into()));
    assert_eq!(listen("unix:/run/a.sock").to_string(), "unix:/run/a.sock");
    let here = std::env::current_dir().unwrap();
    assert_eq!(listen("unix:./a.sock"), AdminListen::Unix(here.join("conf/a.sock")));
    let long = format!("unix:/{}", "s".repeat(106));
    assert_eq!(listen(&long).to_string(), long);
}

#[test]
fn tokens_are_in_files_and_in_the_environment() {
    let config = accepted(
        "[admin.tokens.deploy]\nfile = 'deploy.token'\n[admin.tokens.on-call]\nenv = 'ON_CALL'",
    );
    let token = |name: &str, source| AdminToken { name: name.to_owned(), source };
    assert_eq!(
        config.admin.tokens,
        [
            token("deploy", TokenSource::File("conf/deploy.token".into())),
            token("on-call", TokenSource::Env("ON_CALL".to_owned())),
        ]
    );
}

#[test]
fn a_policys_configuration_becomes_json_in_the_order_of_the_file() {
    let config = accepted(
        "[policy.retry.config]\nz = [1_000, 0xff, -0.5]\nday = 1979-05-27\nb = { deep.er = true }",
    );
    assert_eq!(
        config.retry.config.to_string(),
        r#"{"z":[1000,255,-0.5],"day":"1979-05-27","b":{"deep":{"er":true}}}"#
    );
}

#[test]
fn relative_paths_count_from_the_folder_of_the_file() {
    let folder = std::env::temp_dir().join(format!("orchestrator-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("retry.wasm"), "").unwrap();
    std::fs::write(
        folder.join("gateway.toml"),
        format!("policy.retry.component = 'retry.wasm'\nlog.access = './a.log'{VALID}"),
    )
    .unwrap();
    let loaded = Config::load(&folder.join("gateway.toml"));
    std::fs::remove_dir_all(&folder).unwrap();
    let (config, _) = loaded.unwrap();
    assert_eq!(config.retry.component, Component::File(folder.join("retry.wasm")));
    assert_eq!(config.retry.config, json!({}), "a policy of one's own gets no built-in attempts");
    assert_eq!(config.log.access, AccessLog::File(folder.join("./a.log")));
}

#[test]
fn listeners_with_port_0_may_be_alike() {
    accepted("server.listen = '127.0.0.1:0'\nadmin.listen = '127.0.0.1:0'");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let wrong = Config::load(Path::new("no/such.toml")).unwrap_err();
    assert_same(
        &wrong.to_string(),
        r#"
error: cannot read the configuration: No such file or directory (os error 2)
--> no/such.toml
 = help: give the path of a TOML file, or none for the built-in configuration
"#,
    );
}

#[test]
fn a_file_that_is_not_utf_8_is_refused_at_its_first_wrong_byte() {
    let origin = Origin { name: "gateway.toml".to_owned(), folder: PathBuf::new() };
    let wrong = parse_bytes(b"[log]\nlevel = \"\xff\"".to_vec(), origin).unwrap_err();
    assert_eq!(wrong.iter().next().unwrap().position(), Some((2, 10)));
}

#[test]
fn scripts_get_the_same_as_data() {
    let wrong =
        parse("proxy.idle_timeout = 3\n[services.a]\nendpoints = ['http://a']").unwrap_err();
    assert_eq!(
        serde_json::to_value(&wrong).unwrap()[0],
        json!({
            "file": "gateway.toml",
            "line": 1,
            "column": 22,
            "message": "`proxy.idle_timeout` must be a duration with its unit, not a bare number",
            "help": "write \"3s\" for seconds, \"3ms\" for milliseconds",
        })
    );
}

/// The built-in configuration's routing policy says `message` about `pointer`.
fn check_policy(pointer: &str, suggestion: Option<&str>, expected: &str) {
    let (_, map) = parse(&format!("{VALID}{ROUTES}")).unwrap();
    let error = map.policy_error(Kind::Routing, pointer, "a message", suggestion);
    assert_same(&error.render(false), expected);
}

const ROUTES: &str = r#"
[[policy.routing.config.routes]]
path_prefix = "/a"
service = "a"
[[policy.routing.config.routes]]
"x/y~" = [
  1,
  2 ]
"#;

#[test]
fn a_policy_error_stands_at_the_value_it_points_to() {
    check_policy(
        "/routes/0/service",
        Some("a suggestion"),
        r#"
error: a message
 --> gateway.toml:9:11
  |
9 | service = "a"
  |           ^^^
  |
  = note: the routing policy refuses its configuration
  = help: a suggestion
"#,
    );
    check_policy(
        "/routes/1/x~1y~0/1",
        None,
        r#"
error: a message
  --> gateway.toml:13:3
   |
13 |   2 ]
   |   ^
   |
   = note: the routing policy refuses its configuration
"#,
    );
}

#[test]
fn a_policy_error_about_a_field_that_is_unknown_stands_at_its_name() {
    check_policy(
        "/routes/0/service#",
        None,
        r#"
error: a message
 --> gateway.toml:9:1
  |
9 | service = "a"
  | ^^^^^^^
  |
  = note: the routing policy refuses its configuration
"#,
    );
    check_policy(
        "/routes/1/x~1y~0#",
        None,
        r#"
error: a message
  --> gateway.toml:11:1
   |
11 | "x/y~" = [
   | ^^^^^^
   |
   = note: the routing policy refuses its configuration
"#,
    );
}

#[test]
fn a_policy_error_about_what_is_missing_stands_at_the_table_around_it() {
    check_policy(
        "/routes/1/service",
        None,
        r#"
error: a message
  --> gateway.toml:10:1
   |
10 | [[policy.routing.config.routes]]
   | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ about `/routes/1/service`, which is not here
   |
   = note: the routing policy refuses its configuration
"#,
    );
    check_policy(
        "",
        None,
        r#"
error: a message
 --> gateway.toml:7:18
  |
7 | [[policy.routing.config.routes]]
  |                  ^^^^^^
  |
  = note: the routing policy refuses its configuration
"#,
    );
}

#[test]
fn a_policy_error_about_a_default_stands_in_the_built_in_configuration() {
    let (_, map) = parse(VALID).unwrap();
    let error = map.policy_error(Kind::Retry, "/attempts", "a message", None);
    assert!(
        error.render(false).contains("--> the built-in configuration:"),
        "{}",
        error.render(false)
    );
}

#[test]
fn an_error_of_a_case_stands_at_its_line() {
    let cases =
        "\n[[policy.retry.cases]]\n[[policy.retry.cases]]\ndecision = { again_after_ms = 1 }\n";
    // The file says nothing of the policy's configuration, which is the built-in one.
    let (_, map) = parse(&format!("{VALID}{cases}")).unwrap();
    let check = |pointer, expected| {
        let error = map.case_error(Kind::Retry, pointer, "a message");
        assert_same(&error.render(false), expected);
    };
    check(
        "/1/decision/again_after_ms",
        r#"
error: a message
 --> gateway.toml:9:31
  |
9 | decision = { again_after_ms = 1 }
  |                               ^
  |
  = note: in the self-test of the retry policy
"#,
    );
    check(
        "/1/decision#",
        r#"
error: a message
 --> gateway.toml:9:1
  |
9 | decision = { again_after_ms = 1 }
  | ^^^^^^^^
  |
  = note: in the self-test of the retry policy
"#,
    );
    check(
        "/0/decision",
        r#"
error: a message
 --> gateway.toml:7:1
  |
7 | [[policy.retry.cases]]
  | ^^^^^^^^^^^^^^^^^^^^^^ about `/0/decision`, which is not here
  |
  = note: in the self-test of the retry policy
"#,
    );
}
