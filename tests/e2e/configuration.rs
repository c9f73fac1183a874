//! The configuration: what is wrong is refused at its line, by `check` and by `serve` alike, and
//! says what to write instead.

use orchestrator_tests::gateway::{Ran, cache_dir};
use orchestrator_tests::{component, run, toml_path};
use tempfile::TempDir;

/// A configuration that is good, to be spoilt.
const GOOD: &str = r#"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[services.writer]
endpoints = ["http://127.0.0.1:8000"]
[policy.routing]
component = "builtin:routing"
[[policy.routing.config.routes]]
path_prefix = "/"
service = "writer"
"#;

async fn with(verb: &str, config: &str) -> Ran {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("gateway.toml");
    // In as many lines.
    let server = format!("[server]\ncache_dir = {}\n", toml_path(&cache_dir()));
    std::fs::write(&file, config.replacen("\n[server]\n", &server, 1)).unwrap();
    run([verb, "--config", file.to_str().unwrap()]).await
}

/// Refused with code 2 by both verbs, in the same words, which contain all of these.
async fn refused(config: &str, says: &[&str]) {
    for verb in ["check", "serve"] {
        let ran = with(verb, config).await;
        assert_eq!(ran.code, 2, "{verb}: {ran:?}");
        for part in says {
            assert!(ran.stderr.contains(part), "{verb} does not say {part:?}:\n{}", ran.stderr);
        }
        assert!(!ran.stderr.contains("panicked at host/"), "{}", ran.stderr);
        assert!(!ran.stderr.contains('\x1b'), "colours in a pipe: {:?}", ran.stderr);
    }
}

/// The good one with `from` replaced, refused at the line of `to`, with a caret below `at`.
async fn refused_at(from: &str, to: &str, at: &str, says: &[&str]) {
    let config = GOOD.replacen(from, to, 1);
    assert_ne!(config, GOOD, "{from:?} is not in the good configuration");
    let start = config.find(to).unwrap() + to.find(at).unwrap();
    let number = config[..start].matches('\n').count() + 1;
    let line = config.lines().nth(number - 1).unwrap();
    let column = line.find(at).unwrap() + 1;
    let place = format!("gateway.toml:{number}:{column}");
    let caret = format!("{}{}", " ".repeat(column - 1), "^".repeat(at.len()));
    refused(&config, &[[place.as_str(), line, caret.as_str()].as_slice(), says].concat()).await;
}

mod good {
    use super::*;

    #[tokio::test]
    async fn is_said_to_be_so() {
        let ran = with("check", GOOD).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert!(ran.stdout.contains("gateway.toml"), "{}", ran.stdout);
    }

    #[tokio::test]
    async fn is_what_is_built_in() {
        let ran = run(["check"]).await;
        assert_eq!(ran.code, 0, "{ran:?}");
    }

    #[tokio::test]
    async fn is_checked_without_listening() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let ran = with("check", &GOOD.replacen("127.0.0.1:0", &address, 1)).await;
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}

mod bad {
    use super::*;

    #[tokio::test]
    async fn an_unknown_key_has_a_caret_and_a_suggestion() {
        refused_at("[admin]", "liten = 1\n[admin]", "liten", &["did you mean `listen`"]).await;
        refused_at("endpoints", "endpoint", "endpoint", &["did you mean `endpoints`"]).await;
    }

    #[tokio::test]
    async fn an_unknown_section_too() {
        refused_at("[admin]", "[helth]\n[admin]", "helth", &["did you mean `health`"]).await;
    }

    #[tokio::test]
    async fn a_key_whose_work_is_not_built_is_unknown() {
        for (before, section, key, value) in [
            ("[admin]", "", "tls", "true"),
            ("[policy.routing]", "", "weight", "2"),
            ("[admin]", "[proxy]\n", "mirror", "\"shadow\""),
            ("[admin]", "[limits]\n", "streams", "100"),
        ] {
            let lines = format!("{section}{key} = {value}\n{before}");
            refused_at(before, &lines, key, &["unknown key", &format!("`{key}`")]).await;
        }
    }

    #[tokio::test]
    async fn a_bad_value_says_what_to_write() {
        for (key, value, says) in [
            ("listen", r#""8003""#, "127.0.0.1:8003"),
            ("workers", "-1", "0 to 256"),
            ("workers", r#""two""#, "number"),
            ("drain_timeout", "30", r#""30s""#),
            ("drain_timeout", r#""30 parsecs""#, "ms"),
            ("trusted_proxies", r#"["10.0.0.1/8"]"#, "10.0.0.0/8"),
            ("pages", r#""yes""#, "true"),
            ("pages_prefix", r#""gateway""#, "/"),
        ] {
            let config = GOOD.replacen("[server]\nlisten = \"127.0.0.1:0\"", "[server]", 1);
            let config = config.replacen("[server]", &format!("[server]\n{key} = {value}"), 1);
            refused(&config, &["gateway.toml:3:", &format!("server.{key}"), says]).await;
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_is_none_says_how_one_looks() {
        for (endpoint, says) in [
            ("localhost:8000", "http://"),
            ("https://localhost:8000", "https"),
            ("http://localhost:8000/path", "path"),
            ("http://localhost:99999", "99999"),
            ("http://", "host"),
        ] {
            let quoted = format!("{endpoint:?}");
            refused_at("\"http://127.0.0.1:8000\"", &quoted, &quoted, &[says]).await;
        }
    }

    #[tokio::test]
    async fn a_configuration_without_services_or_routing_serves_nobody() {
        refused(&GOOD.replace("services.writer", "services"), &["endpoints"]).await;
        refused("[services.writer]\nendpoints = [\"http://a:1\"]\n", &["no routing policy"]).await;
        refused("", &["no service is configured"]).await;
    }

    #[tokio::test]
    async fn all_that_is_wrong_is_said_at_once() {
        let config = GOOD.replacen("[admin]", "workers = -1\nfoo = 1\n[admin]", 1).replacen(
            "[policy.routing]",
            "wieght = 2\n[policy.routing]",
            1,
        );
        refused(&config, &["`server.workers`", "`foo`", "`wieght`"]).await;
    }

    #[tokio::test]
    async fn what_is_not_toml_has_its_line() {
        refused(&format!("{GOOD}\nlisten = = 1\n"), &["gateway.toml:14:"]).await;
        refused(&format!("{GOOD}\n[server]\n"), &["gateway.toml:14:"]).await;
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_named() {
        for verb in ["check", "serve"] {
            let ran = run([verb, "--config", "/nowhere/gateway.toml"]).await;
            assert_eq!(ran.code, 2, "{ran:?}");
            assert!(ran.stderr.contains("/nowhere/gateway.toml"), "{}", ran.stderr);
        }
    }

    #[tokio::test]
    async fn one_address_for_two_listeners_is_refused() {
        let config = GOOD.replace("127.0.0.1:0", "127.0.0.1:18003");
        refused(&config, &["admin.listen", "server.listen"]).await;
    }

    #[tokio::test]
    async fn credentials_for_every_origin_are_refused() {
        let config = format!("{GOOD}\n[cors]\nallow_credentials = true\n");
        refused(&config, &["allow_credentials", "allow_origins"]).await;
    }

    #[tokio::test]
    async fn scripts_get_it_as_json() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, GOOD.replacen("[admin]", "liten = 1\n[admin]", 1)).unwrap();
        let ran = run(["check", "--json", "--config", file.to_str().unwrap()]).await;
        assert_eq!(ran.code, 2);
        let said: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((&said[0]["line"], &said[0]["column"]), (&4.into(), &1.into()));
        assert!(said[0]["message"].as_str().unwrap().contains("liten"), "{said}");
    }
}

/// What only the policy itself understands, at the line of the file all the same.
mod policies {
    use super::*;

    #[tokio::test]
    async fn a_route_to_an_unknown_service_is_refused_at_its_line() {
        refused_at(
            "service = \"writer\"",
            "service = \"writter\"",
            "\"writter\"",
            &["`writter` is not a service", "did you mean `writer`?", "routing policy"],
        )
        .await;
    }

    #[tokio::test]
    async fn an_unknown_key_of_a_route_is_refused_at_the_key() {
        refused_at(
            "path_prefix",
            "path_prefx = \"/\"\npath_prefix",
            "path_prefx",
            &["`path_prefx` is not known here", "did you mean `path_prefix`?"],
        )
        .await;
        let inline = "headers = { x-a = { regexp = \"b\" } }\nservice = ";
        refused_at("service = ", inline, "regexp", &["did you mean `regex`?"]).await;
    }

    #[tokio::test]
    async fn a_route_that_never_matches_is_refused() {
        let again =
            "\n[[policy.routing.config.routes]]\npath_prefix = \"/\"\nservice = \"writer\"\n";
        refused(&format!("{GOOD}{again}"), &["gateway.toml:14:", "no request comes here"]).await;
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_route_names_it_and_the_field_at_its_place() {
        let service = "service = \"writer\"";
        for (line, at, says) in [
            ("host = \"a.*.org\"", "\"a.*.org\"", "route 1 (`/`), `host`: `*` stands for"),
            ("name = \"all\"\nmethods = [\"get\"]", "\"get\"", "route `all`, `methods[0]`: "),
            ("headers = { x-a = { regex = \"(\" } }", "\"(\"", "`headers.x-a.regex`: `(` is not"),
            ("query = { a = 1 }", "1 }", "`query.a`: expected a table"),
            ("when = { writer = \"shut\" }", "\"shut\"", "`shut` is not a state of a service"),
            ("rewrite = \"/{id}\"", "\"/{id}\"", "`{id}` is not in the route's path"),
            ("fallback = \"writter\"", "\"writter\"", "did you mean `writer`?"),
            ("timeout = \"soon\"", "\"soon\"", "`timeout`: `soon` is not a duration"),
            ("request_headers.set.Via = \"x\"", "\"x\"", "`via` belongs to the gateway"),
        ] {
            let at = at.trim_end_matches(" }");
            refused_at(service, &format!("{service}\n{line}"), at, &[says, "routing policy"]).await;
        }
        for (line, at, says) in [
            ("services = [{ service = \"writer\", weight = -1 }]", "-1", "`services[0].weight`"),
            ("redirect = { to = \"//evil.org\" }", "\"//evil.org\"", "`redirect.to`"),
            (
                "respond = { status = 99 }",
                "99",
                "`respond.status`: expected a whole number from 200",
            ),
        ] {
            refused_at(service, line, at, &[says]).await;
        }
    }

    #[tokio::test]
    async fn what_a_route_lacks_is_told_as_toml() {
        let config = GOOD.replacen("path_prefix = \"/\"", "", 1);
        refused(&config, &["gateway.toml:10:", "route 1", "`path_prefix = \"/\"` takes"]).await;
        let config = GOOD.replacen("service = \"writer\"", "", 1);
        refused(&config, &["gateway.toml:10:", "route 1 (`/`): `service` is missing"]).await;
    }

    #[tokio::test]
    async fn retrys_configuration_is_refused_at_its_line() {
        for (line, says) in [
            ("attempts = 0", "from 1"),
            ("delay = \"soon\"", "duration"),
            ("statuses = [200]", "400 to 599"),
            ("atempts = 3", "did you mean `attempts`?"),
            ("backoff = { factor = 0 }", "`backoff.factor`: expected a whole number from 1 to 100"),
            ("rules = [{ statuses = [\"6xx\"] }]", "`rules[0].statuses[0]`: `6xx`"),
            ("services.wirter.attempts = 1", "did you mean `writer`?"),
            ("services.writer.retry_after = \"honor\"", "`services.writer.retry_after`: `honor`"),
        ] {
            let config = format!("{GOOD}[policy.retry.config]\n{line}\n");
            refused(&config, &["gateway.toml:14:", line, says, "retry policy"]).await;
        }
    }

    /// The good one, with this component for routing and nothing that the default policy knows.
    fn routed_by(component: &str) -> String {
        let (start, _) = GOOD.split_once("[policy.routing]").unwrap();
        format!("{start}[policy.routing]\ncomponent = {component}\n")
    }

    #[tokio::test]
    async fn a_component_that_is_not_there_is_refused_at_its_line() {
        refused(&routed_by("\"nowhere.wasm\""), &["gateway.toml:9:", "nowhere.wasm"]).await;
        refused(&routed_by("\"builtin:rooting\""), &["gateway.toml:9:", "builtin:routing"]).await;
        refused(&routed_by("\"builtin:retry\""), &["gateway.toml:9:", "builtin:routing"]).await;
    }

    #[tokio::test]
    async fn a_file_that_is_no_component_is_refused() {
        let folder = TempDir::new().unwrap();
        for (name, bytes) in [
            ("text.wasm", b"not wasm at all".as_slice()),
            ("empty.wasm", b""),
            // A core module: what compilers give that know nothing of components.
            ("module.wasm", b"\0asm\x01\0\0\0"),
            ("cut.wasm", &std::fs::read(component("echo")).unwrap()[..1000]),
        ] {
            let file = folder.path().join(name);
            std::fs::write(&file, bytes).unwrap();
            refused(&routed_by(&toml_path(&file)), &["gateway.toml:9:", "component"]).await;
        }
    }

    #[tokio::test]
    async fn a_component_for_another_version_of_the_contract_says_what_to_do() {
        let config = routed_by(&toml_path(&component("old-contract")));
        let says =
            ["gateway.toml:9:", "wants `orchestrator:policy/", "offers", "0.1.0", "rebuild it"];
        refused(&config, &says).await;
    }

    #[tokio::test]
    async fn a_policy_of_the_other_kind_is_refused() {
        let config = routed_by(&toml_path(&component("retry-always")));
        refused(&config, &["gateway.toml:9:", "rout"]).await;
    }

    #[tokio::test]
    async fn a_policy_that_traps_in_configure_is_refused() {
        let config = routed_by(&toml_path(&component("configure-traps")));
        refused(&config, &["gateway.toml:9:", "`configure` failed"]).await;
    }

    #[tokio::test]
    async fn a_policy_that_loops_in_configure_is_refused() {
        let config = routed_by(&toml_path(&component("configure-spins")));
        refused(&config, &["gateway.toml:9:", "`configure` failed", "timeout"]).await;
    }

    #[tokio::test]
    async fn a_policy_that_asks_for_a_request_in_configure_is_refused() {
        let config = routed_by(&toml_path(&component("out-of-phase")));
        refused(
            &format!("{config}config.eager = true\n"),
            &["gateway.toml:9:", "`exchange.path` was called outside its phase"],
        )
        .await;
    }

    #[tokio::test]
    async fn every_error_of_a_policy_is_shown_even_one_that_points_nowhere() {
        let config = routed_by(&toml_path(&component("configure-refuses")));
        let routes = "[[policy.routing.config.routes]]\nservice = \"writter\"\n";
        refused(
            &format!("{config}{routes}"),
            &[
                "the whole is wrong",
                "no such service",
                "gateway.toml:11:",
                "did you mean `writer`?",
                "points nowhere",
            ],
        )
        .await;
    }
}

/// `config show`: what counts, with all that the file leaves out.
mod shown {
    use super::*;

    #[tokio::test]
    async fn is_every_key_and_is_accepted_and_shown_the_same_again() {
        let folder = TempDir::new().unwrap();
        let show = async |name: &str, config: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, config).unwrap();
            run(["config", "show", "--config", file.to_str().unwrap()]).await
        };
        let first = show("gateway.toml", GOOD).await;
        assert_eq!((first.code, first.stderr.as_str()), (0, ""));
        for part in [
            "[server]\n",
            "gateway.toml:3\n",
            "request_timeout = \"30s\"\n",
            "[[policy.routing.config.routes]]\n",
            "attempts = 3\n",
        ] {
            assert!(first.stdout.contains(part), "no {part:?} in\n{}", first.stdout);
        }
        assert!(!first.stdout.contains('\x1b'), "colours in a pipe");
        let second = show("shown.toml", &first.stdout).await;
        assert_eq!(second.code, 0, "{second:?}");
        let without_lines = |shown: &str| {
            let code = shown.lines().map(|line| line.split(" # ").next().unwrap().trim_end());
            code.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(without_lines(&first.stdout), without_lines(&second.stdout));
        assert_eq!(with("check", &first.stdout).await.code, 0);
    }

    #[tokio::test]
    async fn is_the_built_in_one_where_there_is_no_file() {
        let ran = run(["config", "show", "--json"]).await;
        let shown: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(shown["server"]["listen"], "127.0.0.1:8003");
        assert_eq!(shown["services"]["writer"]["endpoints"][0], "http://localhost:8000");
    }

    #[tokio::test]
    async fn is_nothing_of_a_file_that_is_refused() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, GOOD.replacen("[admin]", "liten = 1\n[admin]", 1)).unwrap();
        let ran = run(["config", "show", "--config", file.to_str().unwrap()]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
        assert!(ran.stderr.contains("gateway.toml:4:1"), "{}", ran.stderr);
    }
}

mod command_line {
    use super::*;

    #[tokio::test]
    async fn every_verb_has_help_with_an_example() {
        for verb in ["serve", "check", "demo", "config", "config show"] {
            let ran = run(verb.split(' ').chain(["--help"])).await;
            assert_eq!(ran.code, 0);
            assert!(ran.stdout.contains(&format!("orchestrator {verb}")), "{}", ran.stdout);
            assert!(!ran.stdout.contains('\x1b'), "colours in a pipe");
        }
        let ran = run(["--version"]).await;
        assert!(ran.stdout.contains(env!("CARGO_PKG_VERSION")), "{}", ran.stdout);
    }

    #[tokio::test]
    async fn an_unknown_verb_is_refused() {
        let ran = run(["sreve"]).await;
        assert_eq!(ran.code, 2);
        assert!(ran.stderr.contains("sreve"), "{}", ran.stderr);
    }
}
