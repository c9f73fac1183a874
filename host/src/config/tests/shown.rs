//! What `config show` prints means the same when it is read again, whatever a key is set to.

use serde_json::json;

use super::documented::{Default, documented};
use super::reference::{CHOSEN, COMPANIONS, keys, toml, with};
use super::{Config, VALID, assert_same, parse};

/// Shown with and without marks, and read again, it is the same configuration.
fn comes_back(text: &str) {
    let (config, source) = parse(text).unwrap_or_else(|wrong| panic!("{text}\n{wrong}"));
    for shown in [config.to_toml(None), config.to_toml(Some(&source))] {
        let (again, _) =
            parse(&shown).unwrap_or_else(|wrong| panic!("{text}\nis shown as\n{shown}\n{wrong}"));
        assert_eq!(format!("{config:#?}"), format!("{again:#?}"), "{text}\nis shown as\n{shown}");
    }
}

#[test]
fn every_documented_default_and_limit_comes_back() {
    comes_back(&with(""));
    let structs = documented();
    for key in keys(&structs) {
        let default = match &key.value.default {
            Default::Literal(literal) => Some(literal),
            _ => None,
        };
        let limits = key.value.limits.iter().flat_map(|(low, high)| [low, high]);
        for literal in limits.chain(default) {
            let line = format!("{} = {}", key.path, toml(literal, &key.value.what));
            let companion = COMPANIONS.iter().find(|(path, _)| *path == key.path);
            comes_back(&with(&format!("{line}\n{}", companion.map_or("", |(_, line)| line))));
        }
    }
}

#[test]
fn every_documented_key_is_shown() {
    let structs = documented();
    for key in keys(&structs) {
        let chosen = CHOSEN.iter().find(|(path, _)| *path == key.path);
        let (config, _) = parse(&with(chosen.map_or("", |(_, line)| line))).unwrap();
        let shown = config.to_json();
        // What they say is shown in each policy's own table.
        let path = key.path.replace("policy_limits.", "policy.retry.");
        let pointer = format!("/{}", path.replace('.', "/"));
        assert!(shown.pointer(&pointer).is_some(), "{path} is not in {shown:#}");
    }
}

#[test]
fn the_built_in_configuration_comes_back() {
    let (config, _) = Config::builtin();
    let (again, _) = parse(&config.to_toml(None)).unwrap();
    assert_eq!(format!("{config:?}"), format!("{again:?}"));
}

#[test]
fn odd_names_and_texts_of_a_policys_own_come_back() {
    comes_back(&format!(
        "{VALID}
[policy.retry.config]
'' = 1
'a.b \"c\"' = \"\\u0000\\u007f\\u001b[31m \\\\ é 👩‍👩‍👧\"
secs = {{ secs = 1, nanos = 2 }}
empty = {{}}
lists = [[], [1, 'two'], [{{ a = 1 }}, 2]]
numbers = [1, -2, 1.5, 1e300, 9223372036854775807]
[[policy.retry.config.rules]]
[[policy.retry.config.rules]]
x.y.z = true
[[policy.retry.config.rules.inner]]
deep = 1
"
    ));
}

#[test]
fn a_socket_tokens_and_cases_come_back() {
    comes_back(&format!(
        "[admin]
listen = \"unix:/run/orchestrator.sock\"
[admin.tokens.deploy]
file = \"/run/deploy.token\"
[admin.tokens.on-call]
env = \"ON_CALL_TOKEN\"
{VALID}
[[policy.routing.cases]]
name = \"a\"
request = {{ path = \"/x\", headers = {{ \"x y\" = \"1\" }} }}
decision = \"decline\"
[[policy.routing.cases]]
[[policy.routing.cases]]
decision.forward = \"a\"
[[policy.retry.cases]]
failure = {{ outcome = 503 }}
decision = {{ again_after_ms = {{ min = 0, max = 1000 }} }}
[policy.retry.config]
attempts = 2
"
    ));
}

#[test]
fn what_the_file_says_has_its_line_behind_it() {
    let text = "services.a.endpoints = [\"http://a\"]
[proxy]
idle_timeout = \"90s\"
[[policy.routing.config.routes]]
path_prefix = \"/\"
service = \"a\"
";
    let (config, source) = parse(text).unwrap();
    let shown = config.to_toml(Some(&source));
    let marked: Vec<_> = shown.lines().filter(|line| line.contains(" # ")).collect();
    assert_same(
        &marked.join("\n"),
        r#"
idle_timeout = "1m 30s"                 # gateway.toml:3
endpoints = ["http://a"]                # gateway.toml:1
path_prefix = "/"                       # gateway.toml:5
service = "a"                           # gateway.toml:6
"#,
    );
    assert!(shown.contains("\nattempt_timeout = \"off\"\n"), "{shown}");
    assert!(shown.contains("\n[[policy.routing.config.routes]]\n"), "{shown}");
}

#[test]
fn scripts_get_it_as_data() {
    let (config, _) = Config::builtin();
    let shown = config.to_json();
    assert_eq!(shown["proxy"]["attempt_timeout"], "off");
    assert_eq!(shown["limits"]["header_bytes"], "64KiB");
    assert_eq!(shown["services"]["writer"]["endpoints"], json!(["http://localhost:8000"]));
    assert_eq!(shown["policy"]["retry"]["config"], json!({"attempts": 3, "delay": "1s"}));
}
