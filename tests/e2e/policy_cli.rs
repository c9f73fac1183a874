//! The command line's verbs for a running gateway, and for a component by itself.

use std::fs;
use std::path::{Path, PathBuf};

use orchestrator_tests::{Gateway, Upstream, component, operator, run, service};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A gateway, and a folder for what its operator has.
struct Desk {
    gateway: Gateway,
    folder: TempDir,
    _writer: Upstream,
}

impl Desk {
    async fn new() -> Desk {
        let (writer, folder) = (Upstream::start().await, TempDir::new().unwrap());
        let gateway = Gateway::before([&writer], "").await;
        fs::write(folder.path().join("token"), operator::TOKEN).unwrap();
        Desk { gateway, folder, _writer: writer }
    }

    fn file(&self, name: &str, contents: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// With where the gateway is, and the token.
    async fn run(&self, arguments: &[&str]) -> orchestrator_tests::gateway::Ran {
        let token = self.folder.path().join("token");
        let admin = self.gateway.admin.to_string();
        let mut all = arguments.to_vec();
        all.extend(["--admin", &admin]);
        if !matches!(arguments, ["status", ..] | ["policy", "list", ..]) {
            all.extend(["--token-file", token.to_str().unwrap()]);
        }
        run(all).await
    }
}

fn dist(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/dist").join(name);
    path.to_str().unwrap().to_owned()
}

fn marking(mark: &str) -> Value {
    json!({ "routes": [{
        "path_prefix": "/", "service": "writer", "response_headers": { "set": { "x-mark": mark } },
    }] })
}

#[tokio::test]
async fn a_policy_is_pushed_listed_and_taken_back() {
    let desk = Desk::new().await;
    let json = desk.file("a.json", &marking("a").to_string());
    let pushed = desk
        .run(&["policy", "push", &dist("routing.wasm"), "--as", "routing", "--config", &json])
        .await;
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);
    assert!(pushed.stdout.contains("is active: generation 2"), "{}", pushed.stdout);
    assert_eq!(desk.gateway.get("/x").await.header("x-mark").as_deref(), Some("a"));

    let toml = desk.file(
        "b.toml",
        "[[routes]]\npath_prefix = \"/\"\nservice = \"writer\"\nresponse_headers.set.x-mark = \"b\"\n",
    );
    let pushed = desk
        .run(&[
            "policy",
            "push",
            &dist("routing.wasm"),
            "--as",
            "routing",
            "--config",
            &toml,
            "--no-activate",
        ])
        .await;
    assert!(pushed.stdout.contains("is verified"), "{}{}", pushed.stdout, pushed.stderr);
    let name = pushed.stdout.split(' ').nth(2).unwrap().to_owned();
    let activated = desk.run(&["policy", "activate", "routing", &name[..6]]).await;
    assert_eq!(activated.code, 0, "{}", activated.stderr);
    assert_eq!(desk.gateway.get("/x").await.header("x-mark").as_deref(), Some("b"));

    let listed = desk.run(&["policy", "list", "routing"]).await;
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let lines: Vec<&str> = listed.stdout.lines().collect();
    assert!(lines[0].contains("the configuration names"), "{}", listed.stdout);
    assert!(lines[1].starts_with("VERSION"), "{}", listed.stdout);
    assert!(lines[2].starts_with(&name) && lines[2].contains("active"), "{}", listed.stdout);
    assert!(lines[3].contains("previous") && lines[3].contains("tester"), "{}", listed.stdout);

    let back = desk.run(&["policy", "rollback", "routing"]).await;
    assert_eq!(back.code, 0, "{}", back.stderr);
    assert_eq!(desk.gateway.get("/x").await.header("x-mark").as_deref(), Some("a"));
    let none = desk.run(&["policy", "rollback", "retry"]).await;
    assert_eq!(none.code, 2, "{}", none.stderr);
}

#[tokio::test]
async fn what_is_refused_is_told_in_full() {
    let desk = Desk::new().await;
    let config = desk.file("no.json", r#"{"routes":[{"path_prefix":"/","service":"writre"}]}"#);
    let push = ["policy", "push", &dist("routing.wasm"), "--as", "routing", "--config", &config];
    let refused = desk.run(&push).await;
    assert_eq!(refused.code, 2);
    for words in ["configure", "/routes/0/service", "writre", "help: "] {
        assert!(refused.stderr.contains(words), "no {words:?} in\n{}", refused.stderr);
    }
    let json = desk.run(&[&push[..], &["--json"]].concat()).await;
    assert_eq!(json.code, 2);
    let problem: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(problem["step"], "configure");
    let missing = desk.run(&["policy", "push", "/no/such.wasm", "--as", "retry"]).await;
    assert!(missing.stderr.contains("/no/such.wasm"), "{}", missing.stderr);
    assert_eq!(missing.code, 1);
}

#[tokio::test]
async fn who_has_no_token_or_no_gateway_is_told_what_to_do() {
    let desk = Desk::new().await;
    let admin = desk.gateway.admin.to_string();
    let wrong = desk.file("wrong", "not the token\n");
    for token in [vec![], vec!["--token-file", &*wrong]] {
        let all = [&["policy", "rollback", "routing", "--admin", &admin][..], &token].concat();
        let ran = run(all).await;
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains("ORCHESTRATOR_TOKEN"), "{}", ran.stderr);
    }
    let nobody = run(["status", "--admin", "127.0.0.1:1"]).await;
    assert_eq!(nobody.code, 1);
    assert!(nobody.stderr.contains("is it running"), "{}", nobody.stderr);
    let nonsense = run(["status", "--admin", "localhost"]).await;
    assert_eq!(nonsense.code, 2);
    assert!(nonsense.stderr.contains("127.0.0.1:8004"), "{}", nonsense.stderr);
}

#[tokio::test]
async fn two_operators_do_not_cross() {
    let desk = Desk::new().await;
    let seen = desk.gateway.policy("routing").await["active"].as_str().unwrap().to_owned();
    for (mark, code) in [("a", 0), ("b", 2)] {
        let config = desk.file(mark, &marking(mark).to_string());
        let push =
            ["policy", "push", &dist("routing.wasm"), "--as", "routing", "--config", &config];
        let ran = desk.run(&[&push[..], &["--if-match", &seen]].concat()).await;
        assert_eq!(ran.code, code, "{}{}", ran.stdout, ran.stderr);
    }
    assert_eq!(desk.gateway.get("/x").await.header("x-mark").as_deref(), Some("a"));
}

#[tokio::test]
async fn the_status_is_one_page() {
    let desk = Desk::new().await;
    let ran = desk.run(&["status"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for words in ["ready", "POLICY", "routing", "retry", "SERVICE", "writer", "closed"] {
        assert!(ran.stdout.contains(words), "no {words:?} in\n{}", ran.stdout);
    }
    assert!(!ran.stdout.contains('\x1b'), "it is not for a terminal");
    let json: Value = serde_json::from_str(&desk.run(&["status", "--json"]).await.stdout).unwrap();
    assert_eq!(json["ready"], true);
}

#[tokio::test]
async fn a_socket_in_a_folder_is_reached_too() {
    let (writer, folder) = (Upstream::start().await, TempDir::new().unwrap());
    let socket: PathBuf = folder.path().join("admin.sock");
    let config = folder.path().join("gateway.toml");
    let lines = format!(
        "server.listen = \"127.0.0.1:0\"\nadmin.listen = \"unix:{}\"\n{}\n{}\n",
        socket.display(),
        service("writer", [&writer]),
        orchestrator_tests::EVERYTHING_TO_WRITER
    );
    fs::write(&config, lines).unwrap();
    let serving = tokio::spawn(async move {
        run(["serve", "--config", config.to_str().unwrap()]).await;
    });
    let address = format!("unix:{}", socket.display());
    orchestrator_tests::eventually("the socket to answer", async || {
        let ran = run(["policy", "list", "--admin", &address]).await;
        (ran.code == 0 && ran.stdout.contains("builtin")).then_some(())
    })
    .await;
    serving.abort();
}

#[tokio::test]
async fn a_component_is_looked_at_by_itself() {
    let ran = run(["policy", "inspect", &dist("retry.wasm")]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for words in [
        "retry-policy",
        "0.1.0",
        "orchestrator:policy/failure",
        "orchestrator-policy 0",
        "wit-bindgen",
        "memory_max",
        "core_instances_max",
    ] {
        assert!(ran.stdout.contains(words), "no {words:?} in\n{}", ran.stdout);
    }
    let old = component("old-contract");
    let ran = run(["policy", "inspect", old.to_str().unwrap(), "--json"]).await;
    assert_eq!(ran.code, 2);
    let found: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(found["step"], "contract");
    assert_eq!(found["offered"], "0.1.0");
    assert_ne!(found["contract"], "0.1.0");
}
