//! Files that the configuration names, which change while the gateway serves.

use std::os::unix::fs::symlink;

use super::*;

/// Puts a file into another one's place, as careful programs do.
fn replace(file: &Path, bytes: &[u8]) {
    let new = file.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(&new, file).unwrap();
}

/// A gateway whose routing policy is this file.
async fn routed_by(file: &Path, folder: &Path, writer: &Upstream, lines: &str) -> Gateway {
    let lines = format!(
        "{}\npolicy.routing.component = {}\n{lines}",
        service("writer", [writer]),
        toml_path(file)
    );
    Gateway::start_at(folder, &lines).await
}

#[tokio::test]
async fn a_component_that_is_replaced_decides() {
    let (writer, folder) = (Upstream::start().await, TempDir::new().unwrap());
    let file = folder.path().join("routing.wasm");
    fs::write(&file, guest("echo")).unwrap();
    let gateway = routed_by(&file, folder.path(), &writer, "").await;
    let before = gateway.policy("routing").await["active"].clone();
    replace(&file, &guest("trap"));
    let policy = gateway.policy_when("routing", |it| it["active"] != before).await;
    assert_eq!(policy["differs_from_file"], false);
    let active = policy["active"].as_str().unwrap();
    assert_eq!(gateway.version("routing", active).await["origin"], "file");
    assert_eq!(gateway.get("/x").await.text(), "hello");
}

#[tokio::test]
async fn a_volume_of_kubernetes_turns_a_link() {
    let (writer, folder) = (Upstream::start().await, TempDir::new().unwrap());
    let volume = folder.path().join("volume");
    for (day, name) in [("monday", "echo"), ("tuesday", "trap")] {
        fs::create_dir_all(volume.join(day)).unwrap();
        fs::write(volume.join(day).join("routing.wasm"), guest(name)).unwrap();
    }
    symlink("monday", volume.join("..data")).unwrap();
    symlink("..data/routing.wasm", volume.join("routing.wasm")).unwrap();
    let gateway = routed_by(&volume.join("routing.wasm"), folder.path(), &writer, "").await;
    let before = gateway.policy("routing").await["active"].clone();
    symlink("tuesday", volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    gateway.policy_when("routing", |it| it["active"] != before).await;
    assert_eq!(gateway.get("/x").await.text(), "hello");
}

#[tokio::test]
async fn one_that_is_no_good_changes_nothing() {
    let (writer, folder) = (Upstream::start().await, TempDir::new().unwrap());
    let file = folder.path().join("routing.wasm");
    fs::write(&file, guest("echo")).unwrap();
    let gateway = routed_by(&file, folder.path(), &writer, "").await;
    let before = gateway.policy("routing").await["active"].clone();
    replace(&file, b"not wasm");
    gateway.log.line_with(&["refused", "not a WebAssembly file"]).await;
    let policy = gateway.policy("routing").await;
    assert_eq!(policy["active"], before);
    assert_eq!(policy["differs_from_file"], true);
    assert_eq!(names(&policy)[0].1, "refused");
    // Written over in place, and removed: neither harms.
    fs::write(&file, &guest("echo")[..100]).unwrap();
    gateway.log.line_with(&["refused", "compile"]).await;
    fs::remove_file(&file).unwrap();
    gateway.log.line_with(&["names a file that cannot be read"]).await;
    replace(&file, &guest("echo"));
    gateway.policy_when("routing", |it| it["differs_from_file"] == false).await;
    assert_eq!(gateway.policy("routing").await["active"], before);
}

#[tokio::test]
async fn the_cases_beside_a_component_count_for_it() {
    let (writer, folder) = (Upstream::start().await, TempDir::new().unwrap());
    let file = folder.path().join("routing.wasm");
    fs::write(&file, guest("echo")).unwrap();
    let gateway = routed_by(&file, folder.path(), &writer, "").await;
    let before = gateway.policy("routing").await["active"].clone();
    let cases = json!([{ "request": { "path": "/fine" }, "decision": "decline" }]);
    fs::write(folder.path().join("routing.cases.json"), cases.to_string()).unwrap();
    replace(&file, &guest("trap"));
    gateway.log.line_with(&["refused", "self-test", "did not decline"]).await;
    assert_eq!(gateway.policy("routing").await["active"], before);
}

#[tokio::test]
async fn the_policies_tables_of_the_configuration_are_taken_over() {
    let (writer, folder) = (Upstream::start().await, TempDir::new().unwrap());
    let lines = |mark: &str| {
        format!(
            "{}\npolicy.routing.config = {{ routes = [{{ path_prefix = \"/\", service = \
             \"writer\", response_headers.set = {{ x-mark = \"{mark}\" }} }}] }}",
            service("writer", [&writer])
        )
    };
    let gateway = Gateway::start_at(folder.path(), &lines("a")).await;
    let config = |lines: &str| orchestrator_tests::with_defaults(lines);
    let file = folder.path().join("orchestrator.toml");
    replace(&file, config(&lines("b")).as_bytes());
    let marked_b =
        async || (mark_of(&gateway.get("/x").await).as_deref() == Some("b")).then_some(());
    orchestrator_tests::eventually("the new configuration to count", marked_b).await;
    // What is wrong with the file changes nothing, and is told at its line.
    let wrong = config(&lines("c").replace("\"writer\", response", "\"nowhere\", response"));
    replace(&file, wrong.as_bytes());
    gateway.log.line_with(&["nowhere"]).await;
    replace(&file, b"no = toml = at all");
    gateway.log.line_with(&["the configuration is refused"]).await;
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("b"));
    // What only a restart can change is named.
    let more = config(&format!("{}\nproxy.request_timeout = \"7s\"", lines("d")));
    replace(&file, more.as_bytes());
    gateway.log.line_with(&["need a restart", "request_timeout"]).await;
    let marked_d =
        async || (mark_of(&gateway.get("/x").await).as_deref() == Some("d")).then_some(());
    orchestrator_tests::eventually("the policy of it to count", marked_d).await;
}

#[tokio::test]
async fn sighup_does_what_watching_does() {
    let (writer, folder) = (Upstream::start().await, TempDir::new().unwrap());
    let file = folder.path().join("routing.wasm");
    fs::write(&file, guest("echo")).unwrap();
    let gateway = routed_by(&file, folder.path(), &writer, "server.watch = false").await;
    let before = gateway.policy("routing").await["active"].clone();
    replace(&file, &guest("trap"));
    gateway.hang_up();
    gateway.policy_when("routing", |it| it["active"] != before).await;
}

#[tokio::test]
async fn a_version_that_was_pushed_stays_until_the_file_changes() {
    let (writer, folder) = (Upstream::start().await, TempDir::new().unwrap());
    let file = folder.path().join("routing.wasm");
    fs::write(&file, guest("echo")).unwrap();
    let gateway = routed_by(&file, folder.path(), &writer, "").await;
    let pushed = gateway.pushed("routing", marked("pushed")).await;
    let policy = gateway.policy("routing").await;
    assert_eq!(policy["differs_from_file"], true);
    gateway.hang_up();
    // The same bytes again are no change.
    replace(&file, &guest("echo"));
    assert_eq!(gateway.policy("routing").await["active"], pushed.as_str());
    replace(&file, &guest("trap"));
    gateway.policy_when("routing", |it| it["differs_from_file"] == false).await;
}

#[tokio::test]
async fn one_that_its_cases_refused_is_tried_again_when_they_have_changed() {
    let (writer, folder) = (Upstream::start().await, TempDir::new().unwrap());
    let file = folder.path().join("routing.wasm");
    fs::write(&file, guest("echo")).unwrap();
    let gateway = routed_by(&file, folder.path(), &writer, "").await;
    let before = gateway.policy("routing").await["active"].clone();
    let cases = folder.path().join("routing.cases.json");
    let of = |path: &str| json!([{ "request": { "path": path }, "decision": "decline" }]);
    fs::write(&cases, of("/fine").to_string()).unwrap();
    replace(&file, &guest("trap"));
    gateway.log.line_with(&["refused", "self-test", "did not decline"]).await;
    // What is not about it has it tried no more often.
    let refused = || gateway.log.lines().iter().filter(|it| it.contains("did not decline")).count();
    let before_that = refused();
    let file = folder.path().join("orchestrator.toml");
    let more = fs::read_to_string(&file).unwrap() + "\nproxy.request_timeout = \"7s\"";
    replace(&file, more.as_bytes());
    gateway.log.line_with(&["need a restart", "request_timeout"]).await;
    gateway.hang_up();
    let again = async || (refused() > before_that).then(&refused);
    let count = orchestrator_tests::eventually("SIGHUP to try it again", again).await;
    assert_eq!(count, before_that + 1);
    replace(&cases, b"[]");
    gateway.policy_when("routing", |it| it["active"] != before).await;
    replace(&cases, of("/fine").to_string().as_bytes());
    gateway.log.line_with(&["the cases beside the component have changed"]).await;
}

#[tokio::test]
async fn a_file_that_changes_while_the_gateway_starts_is_noticed() {
    let (writer, folder) = (Upstream::start().await, TempDir::new().unwrap());
    let file = folder.path().join("routing.wasm");
    for milliseconds in [2, 5, 10, 20, 40, 80] {
        fs::write(&file, guest("echo")).unwrap();
        let changes = async {
            tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
            replace(&file, &guest("trap"));
        };
        let start = routed_by(&file, folder.path(), &writer, "");
        let (gateway, ()) = tokio::join!(start, changes);
        gateway.policy_when("routing", |it| it["differs_from_file"] == false).await;
        let declines = async || (gateway.get("/x").await.text() == "hello").then_some(());
        orchestrator_tests::eventually("the new component to decide", declines).await;
    }
}

/// What is not a file might never end.
#[tokio::test]
async fn a_pipe_is_no_component() {
    let (writer, folder) = (Upstream::start().await, TempDir::new().unwrap());
    let file = folder.path().join("routing.wasm");
    fs::write(&file, guest("echo")).unwrap();
    let mut gateway = routed_by(&file, folder.path(), &writer, "").await;
    fs::remove_file(&file).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&file).status().unwrap();
    assert!(made.success());
    gateway.hang_up();
    gateway.log.line_with(&["routing.wasm", "not a file"]).await;
    gateway.terminate();
    assert!(gateway.exit().await.success());
}

#[tokio::test]
async fn a_version_that_is_being_looked_at_keeps_no_gateway_from_ending() {
    let (writer, folder) = (Upstream::start().await, TempDir::new().unwrap());
    let file = folder.path().join("routing.wasm");
    fs::write(&file, guest("echo")).unwrap();
    let lines =
        "policy_limits.compile_cpu = \"1m\"\nserver.watch = false\nserver.cache_dir = \"off\"";
    let mut gateway = routed_by(&file, folder.path(), &writer, lines).await;
    replace(&file, &trials::many_functions());
    gateway.hang_up();
    let compiler = async || (!gateway.children().is_empty()).then_some(());
    orchestrator_tests::eventually("the compiler to run", compiler).await;
    gateway.terminate();
    assert!(gateway.exit().await.success());
    let seen: Vec<String> = gateway.log.lines();
    assert!(!seen.iter().any(|line| line.contains("refused")), "it was not waited for: {seen:?}");
}
