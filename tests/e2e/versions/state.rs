//! What outlives the process, where `server.state_dir` says so.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

struct Kept {
    writer: Upstream,
    folder: TempDir,
}

impl Kept {
    async fn new() -> Kept {
        Kept { writer: Upstream::start().await, folder: TempDir::new().unwrap() }
    }

    fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }

    fn lines(&self, more: &str) -> String {
        format!(
            "{}\n{EVERYTHING_TO_WRITER}\nserver.state_dir = {}\n{more}",
            service("writer", [&self.writer]),
            toml_path(&self.state())
        )
    }

    async fn start(&self) -> Gateway {
        Gateway::start_at(self.folder.path(), &self.lines("")).await
    }
}

#[tokio::test]
async fn a_version_that_was_pushed_decides_after_a_restart() {
    let kept = Kept::new().await;
    let mut gateway = kept.start().await;
    let a = gateway.pushed("routing", marked("a")).await;
    let b = gateway.pushed("routing", marked("b")).await;
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("b"));
    gateway.terminate();
    gateway.exit().await;

    let gateway = kept.start().await;
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("b"));
    let policy = gateway.policy_when("routing", |it| it["last_good"] == a.as_str()).await;
    assert_eq!(policy["active"], b.as_str());
    assert_eq!(policy["previous"], a.as_str());
    assert_eq!(policy["differs_from_file"], true);
    let record = gateway.version("routing", &b).await;
    assert_eq!(record["by"], "tester");
    assert_eq!(record["decisions"], 2, "one before, one now");
    assert_eq!(names(&policy).len(), 3);
    assert_eq!(gateway.roll_back("routing").await.status(), 200);
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("a"));
}

#[tokio::test]
async fn it_is_for_the_gateways_user_alone_and_for_one_gateway() {
    let kept = Kept::new().await;
    let _gateway = kept.start().await;
    assert_eq!(fs::metadata(kept.state()).unwrap().mode() & 0o777, 0o700);
    let config = orchestrator_tests::with_defaults(&kept.lines(""));
    let file = kept.folder.path().join("second.toml");
    fs::write(&file, config).unwrap();
    let ran = orchestrator_tests::run(["serve", "--config", file.to_str().unwrap()]).await;
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("another gateway uses it"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_folder_that_others_can_reach_is_refused() {
    let kept = Kept::new().await;
    fs::create_dir(kept.state()).unwrap();
    fs::set_permissions(kept.state(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = kept.folder.path().join("gateway.toml");
    fs::write(&file, orchestrator_tests::with_defaults(&kept.lines(""))).unwrap();
    let ran = orchestrator_tests::run(["serve", "--config", file.to_str().unwrap()]).await;
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("chmod 700"), "{}", ran.stderr);
}

#[tokio::test]
async fn what_the_file_names_decides_once_it_has_changed() {
    let kept = Kept::new().await;
    let mut gateway = kept.start().await;
    gateway.pushed("routing", marked("pushed")).await;
    gateway.kill().await;
    let changed = kept.lines("").replace(
        EVERYTHING_TO_WRITER,
        "policy.routing.config.routes = [{ path_prefix = \"/\", service = \"writer\", \
         response_headers.set = { x-mark = \"file\" } }]",
    );
    let mut gateway = Gateway::start_at(kept.folder.path(), &changed).await;
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("file"));
    assert_eq!(gateway.policy("routing").await["differs_from_file"], false);
    gateway.kill().await;
    // Once more with the same file: nothing has changed since.
    let gateway = Gateway::start_at(kept.folder.path(), &changed).await;
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("file"));
}

#[tokio::test]
async fn a_file_that_is_no_good_any_more_does_not_keep_a_gateway_from_starting() {
    let kept = Kept::new().await;
    let mut gateway = kept.start().await;
    gateway.pushed("routing", marked("pushed")).await;
    gateway.kill().await;
    let broken = kept.folder.path().join("broken.wasm");
    fs::write(&broken, "not wasm").unwrap();
    let lines = format!("policy.routing.component = {}", toml_path(&broken));
    let lines = kept.lines(&lines).replace(EVERYTHING_TO_WRITER, "");
    let gateway = Gateway::start_at(kept.folder.path(), &lines).await;
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("pushed"));
    gateway.log.line_with(&["the version before goes on"]).await;
    let policy = gateway.policy("routing").await;
    assert_eq!(policy["differs_from_file"], true);
    assert_eq!(names(&policy)[0].1, "refused");
}

#[tokio::test]
async fn a_version_that_was_put_out_of_service_stays_so() {
    let kept = Kept::new().await;
    let mut gateway = kept.start().await;
    let good = gateway.pushed("routing", marked("good")).await;
    let bad = gateway.pushed("routing", Push::of(guest("trap")).config(json!({}))).await;
    for _ in 0..5 {
        gateway.get("/evil").await;
    }
    gateway.policy_when("routing", |it| it["active"] == good.as_str()).await;
    // Its record is written behind that.
    let file = kept.state().join("routing.json");
    let written = async || fs::read_to_string(&file).unwrap().contains("quarantined").then_some(());
    orchestrator_tests::eventually("the quarantine to be written", written).await;
    gateway.kill().await;
    let gateway = kept.start().await;
    let policy = gateway.policy("routing").await;
    assert_eq!(policy["active"], good.as_str());
    assert_eq!(state_of(&policy, &bad), "quarantined");
}

#[tokio::test]
async fn damage_to_it_costs_history_and_nothing_else() {
    let kept = Kept::new().await;
    let mut gateway = kept.start().await;
    gateway.pushed("routing", marked("a")).await;
    gateway.pushed("routing", marked("b")).await;
    gateway.kill().await;
    // The configuration of the active version is gone: the one before decides.
    let text = fs::read_to_string(kept.state().join("routing.json")).unwrap();
    let history: Value = serde_json::from_str(&text).unwrap();
    let active = history["versions"].as_array().unwrap().last().unwrap();
    let object = active["config_sha256"].as_str().unwrap();
    fs::write(kept.state().join("objects").join(object), "{}").unwrap();
    let mut gateway = kept.start().await;
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("a"));
    gateway.log.line_with(&["cannot be restored"]).await;
    gateway.kill().await;
    // The history itself is: what the file names decides.
    fs::write(kept.state().join("routing.json"), "{\"format\": 1,").unwrap();
    let gateway = kept.start().await;
    assert_eq!(mark_of(&gateway.get("/x").await), None);
    assert!(kept.state().join("routing.json.bad").exists());
}

#[tokio::test]
async fn an_earlier_version_can_be_activated_by_a_part_of_its_name() {
    let kept = Kept::new().await;
    let gateway = kept.start().await;
    let a = gateway.pushed("routing", marked("a")).await;
    for mark in ["b", "c", "d"] {
        gateway.pushed("routing", marked(mark)).await;
    }
    assert_eq!(gateway.version("routing", &a).await["resident"], false);
    assert_eq!(gateway.activate("routing", &a[..8]).await.status(), 200);
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("a"));
    gateway.activate("routing", "ffffffff").await.problem(404);
    gateway.activate("routing", "").await.problem(404);
}

/// The oldest makes way for one that is being looked at, while it is to be loaded again.
#[tokio::test]
async fn one_that_is_forgotten_while_it_is_asked_for_ends_nothing() {
    const REMEMBERED: u32 = 64;
    let kept = Kept::new().await;
    let gateway = kept.start().await;
    let retry = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/dist/retry.wasm"));
    let retry = retry.unwrap();
    let with_delay = |component: &[u8], ms: u32| {
        Push::of(component).config(json!({ "attempts": 2, "delay": format!("{ms}ms") }))
    };
    // The configuration of the oldest is that of another, too, so that the store has it to the end.
    let oldest = gateway.pushed("retry", with_delay(&retry, 1000)).await;
    for ms in 1001..1000 + REMEMBERED - 2 {
        gateway.pushed("retry", with_delay(&retry, ms)).await;
    }
    // A custom section that says nothing, and has it compiled anew.
    let padded = |word: &[u8; 4]| [&retry[..], b"\0\x05\x04", word].concat();
    gateway.pushed("retry", with_delay(&padded(b"1st."), 1000)).await;
    let full = gateway.policy("retry").await;
    assert_eq!(names(&full).len(), REMEMBERED as usize);
    assert_eq!(state_of(&full, &oldest), "retired");

    let staged = with_delay(&padded(b"2nd."), 5000).staged();
    let activate = async {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        gateway.activate("retry", &oldest).await
    };
    let (pushed, activated) = tokio::join!(gateway.push("retry", staged), activate);
    assert_eq!(pushed.status(), 201, "{}", pushed.text());
    // Whichever of the two came first.
    if activated.status() != 200 {
        let detail = activated.problem(409);
        assert!(detail.contains("forgotten meanwhile"), "{detail}");
    }
    assert_eq!(gateway.get("/x").await.status(), 200);
}

/// What the history on the disk says decides.
fn written(kept: &Kept) -> Value {
    let text = fs::read_to_string(kept.state().join("routing.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn a_switch_that_was_answered_is_written_whatever_else_is() {
    let kept = Kept::new().await;
    let gateway = kept.start().await;
    let a = gateway.pushed("routing", marked("a")).await;
    let b = gateway.pushed("routing", marked("b")).await;
    for version in [&a, &b].into_iter().cycle().take(40) {
        // What is refused is written as well, and so is what is staged.
        let (switched, refused, staged) = tokio::join!(
            gateway.activate("routing", version),
            gateway.push("routing", Push::of("not wasm")),
            gateway.push("routing", marked("c").staged()),
        );
        assert_eq!(switched.status(), 200);
        refused.problem(422);
        assert!(staged.status() < 300, "{}", staged.text());
        assert_eq!(written(&kept)["active"], version.as_str());
    }
}

#[tokio::test]
async fn what_a_history_that_was_put_aside_may_name_is_kept() {
    let kept = Kept::new().await;
    let mut gateway = kept.start().await;
    gateway.pushed("routing", marked("a")).await;
    gateway.kill().await;
    let objects = || {
        let names = fs::read_dir(kept.state().join("objects")).unwrap().flatten();
        names.map(|it| it.file_name()).collect::<std::collections::BTreeSet<_>>()
    };
    let before = objects();
    fs::write(kept.state().join("routing.json"), "{\"format\": 2}").unwrap();
    let gateway = kept.start().await;
    gateway.log.line_with(&["put aside", "format 2"]).await;
    gateway.pushed("routing", marked("b")).await;
    assert!(objects().is_superset(&before), "{before:?} {:?}", objects());
}

#[tokio::test]
async fn one_that_was_put_out_of_service_is_not_good_because_it_was_looked_at_again() {
    let kept = Kept::new().await;
    let mut gateway = kept.start().await;
    let first = gateway.policy("routing").await["active"].clone();
    let good = gateway.pushed("routing", marked("good")).await;
    let trap = || Push::of(guest("trap")).config(json!({}));
    let bad = gateway.pushed("routing", trap()).await;
    for _ in 0..5 {
        gateway.get("/evil").await;
    }
    gateway.policy_when("routing", |it| it["active"] == good.as_str()).await;
    assert!(gateway.push("routing", trap().staged()).await.status() < 300);
    gateway.terminate();
    gateway.exit().await;
    let gateway = kept.start().await;
    let policy = gateway.policy_when("routing", |it| it["last_good"] != Value::Null).await;
    assert_eq!(policy["last_good"], first);
    assert_eq!(state_of(&policy, &bad), "verified");
}

/// The lines of a configuration that marks responses, and has this said of the policy.
fn marking_lines(kept: &Kept, mark: &str, more: &str) -> String {
    let config = format!(
        "policy.routing.config.routes = [{{ path_prefix = \"/\", service = \"writer\", \
         response_headers.set = {{ x-mark = \"{mark}\" }} }}]\n{more}"
    );
    kept.lines("").replace(EVERYTHING_TO_WRITER, &config)
}

#[tokio::test]
async fn what_was_refused_is_tried_again_at_the_next_start() {
    let kept = Kept::new().await;
    let mut gateway = kept.start().await;
    let pushed = gateway.pushed("routing", marked("pushed")).await;
    gateway.kill().await;
    let case = "policy.routing.cases = [{ request.path = \"/x\", decision = \"decline\" }]";
    let mut gateway =
        Gateway::start_at(kept.folder.path(), &marking_lines(&kept, "file", case)).await;
    // What served before is not asked the cases of another.
    assert_eq!(gateway.policy("routing").await["active"], pushed.as_str());
    gateway.log.line_with(&["the version before goes on", "did not decline"]).await;
    gateway.kill().await;
    let gateway = Gateway::start_at(kept.folder.path(), &marking_lines(&kept, "file", "")).await;
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("file"));
    gateway.policy_when("routing", |it| it["previous"] == pushed.as_str()).await;
}

/// That the answer to `/x` has this mark.
fn case_of(mark: &str) -> String {
    let decision =
        format!("{{ forward = \"writer\", response_headers = {{ x-mark = \"{mark}\" }} }}");
    format!("policy.routing.cases = [{{ request.path = \"/x\", decision = {decision} }}]")
}

#[tokio::test]
async fn what_served_is_not_asked_the_cases_of_today() {
    let kept = Kept::new().await;
    let mut gateway = kept.start().await;
    let pushed = gateway.pushed("routing", marked("pushed")).await;
    gateway.kill().await;
    let lines = marking_lines(&kept, "file", &case_of("file"));
    let gateway = Gateway::start_at(kept.folder.path(), &lines).await;
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("file"));
    let policy = gateway.policy_when("routing", |it| it["previous"] == pushed.as_str()).await;
    assert_eq!(policy["last_good"], pushed.as_str());
    assert_eq!(gateway.roll_back("routing").await.status(), 200);
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("pushed"));
}

#[tokio::test]
async fn what_an_operator_has_chosen_since_stays() {
    let kept = Kept::new().await;
    let mut gateway = kept.start().await;
    gateway.pushed("routing", marked("first")).await;
    gateway.kill().await;
    let lines = marking_lines(&kept, "file", &case_of("chosen"));
    let mut gateway = Gateway::start_at(kept.folder.path(), &lines).await;
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("first"));
    gateway.pushed("routing", marked("chosen")).await;
    gateway.kill().await;
    let gateway = Gateway::start_at(kept.folder.path(), &marking_lines(&kept, "file", "")).await;
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("chosen"));
    assert_eq!(gateway.policy("routing").await["differs_from_file"], true);
}

#[tokio::test]
async fn the_way_back_stays_when_the_file_names_what_decides() {
    let kept = Kept::new().await;
    let mut gateway = kept.start().await;
    let before = gateway.policy("routing").await["active"].clone();
    let config = json!({ "routes": [{
        "path_prefix": "/", "service": "writer", "response_headers": { "set": { "x-mark": "same" } },
    }] });
    let pushed = gateway.pushed("routing", Push::of(routing()).config(config)).await;
    gateway.kill().await;
    let gateway = Gateway::start_at(kept.folder.path(), &marking_lines(&kept, "same", "")).await;
    let policy = gateway.policy_when("routing", |it| it["previous"] != Value::Null).await;
    assert_eq!((&policy["active"], &policy["previous"]), (&json!(pushed), &before));
    assert_eq!(policy["differs_from_file"], false);
}

#[tokio::test]
async fn a_file_that_was_not_looked_at_to_the_end_is_looked_at_again() {
    let kept = Kept::new().await;
    let off = "server.cache_dir = \"off\"\npolicy_limits.compile_cpu = \"1m\"";
    let mut gateway = Gateway::start_at(kept.folder.path(), &kept.lines(off)).await;
    let file = kept.folder.path().join("orchestrator.toml");
    let heavy = kept.folder.path().join("heavy.wasm");
    fs::write(&heavy, trials::many_functions()).unwrap();
    let lines = kept.lines(&format!("{off}\npolicy.retry.component = {}", toml_path(&heavy)));
    fs::write(&file, orchestrator_tests::with_defaults(&lines)).unwrap();
    let received = |it: &Value| names(it).iter().any(|(_, state)| state == "received");
    gateway.policy_when("retry", received).await;
    gateway.kill().await;
    let gateway = Gateway::start_at(kept.folder.path(), &lines).await;
    gateway.log.line_with(&["retry", "the version before goes on"]).await;
    assert_eq!(names(&gateway.policy("retry").await)[0].1, "refused");
}

#[tokio::test]
async fn the_check_makes_no_folder() {
    let kept = Kept::new().await;
    let file = kept.folder.path().join("orchestrator.toml");
    fs::write(&file, orchestrator_tests::with_defaults(&kept.lines("server.cache_dir = \"off\"")))
        .unwrap();
    let ran = run([Path::new("check"), Path::new("--config"), &file]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!kept.state().exists());
}
