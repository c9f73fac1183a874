//! What a version has to pass before it decides, and that one that does not changes nothing.

use super::*;

/// That this push is refused at this step, for a reason that has these words in it.
async fn refused(lines: &str, kind: &str, push: Push, step: &str, words: &[&str]) -> Reply {
    let (_writer, gateway) = start(lines).await;
    let before = gateway.policy(kind).await["active"].clone();
    let reply = gateway.push(kind, push).await;
    let detail = reply.problem(422);
    assert_eq!(reply.json()["step"], step, "{detail}");
    for word in words {
        assert!(detail.contains(word), "no {word:?} in: {detail}");
    }
    let after = gateway.policy(kind).await;
    assert_eq!(after["active"], before, "the old one decides");
    let version = reply.json()["version"].as_str().unwrap().to_owned();
    assert_eq!(state_of(&after, &version), "refused");
    let record = gateway.version(kind, &version).await;
    assert_eq!(record["step"], step);
    assert_eq!(record["reason"], reply.json()["reason"]);
    assert_eq!(gateway.get("/x").await.status(), 200);
    let labels = [("policy", kind), ("step", step)];
    assert_eq!(gateway.metrics().await.sum("orchestrator_policy_refused_total", &labels), 1.0);
    reply
}

#[tokio::test]
async fn what_is_no_component_is_not_received() {
    refused("", "routing", Push::of("#!/bin/sh"), "receive", &["not a WebAssembly file"]).await;
}

#[tokio::test]
async fn what_is_cut_off_does_not_compile() {
    let whole = routing();
    let half = Push::of(&whole[..whole.len() / 2]);
    refused("", "routing", half, "compile", &["not a valid component"]).await;
}

#[tokio::test]
async fn a_compilation_has_limits() {
    let lines = "policy_limits.compile_timeout = \"100ms\"";
    // Seven hundred kilobytes of guest take longer than that to compile, or are in no cache.
    let push = Push::of(many_functions());
    refused(lines, "routing", push, "compile", &["compile_timeout"]).await;
    let lines = "policy_limits.compile_cpu = \"100ms\"\npolicy_limits.compile_cpu_per_mib = \"0s\"";
    let push = Push::of(many_functions());
    refused(lines, "routing", push, "compile", &["compile_cpu", "1 s of CPU time"]).await;
}

/// A component that does nothing, at great length: a core module with large functions.
pub(super) fn many_functions() -> Vec<u8> {
    fn leb(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let byte = (number & 0x7f) as u8;
            number >>= 7;
            bytes.push(if number == 0 { byte } else { byte | 0x80 });
            if number == 0 {
                return bytes;
            }
        }
    }
    fn section(id: u8, contents: &[u8]) -> Vec<u8> {
        [&[id][..], &leb(contents.len()), contents].concat()
    }
    const COUNT: usize = 40;
    // A local that is multiplied with itself and a constant, again and again.
    let step = [0x20, 0x00, 0x41, 0x2a, 0x6c, 0x20, 0x00, 0x6a, 0x21, 0x00];
    let mut body = vec![0x00];
    body.extend(step.repeat(20_000));
    body.extend([0x20, 0x00, 0x0b]);
    let sized = [leb(body.len()), body].concat();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 1, 0x7f, 1, 0x7f]),
        section(3, &[leb(COUNT), vec![0; COUNT]].concat()),
        section(10, &[leb(COUNT), sized.repeat(COUNT)].concat()),
    ]
    .concat();
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module)].concat()
}

#[tokio::test]
async fn a_component_has_a_size() {
    let (_writer, gateway) = start("policy_limits.component_max = \"512KiB\"").await;
    let detail = gateway.push("routing", Push::of(vec![0; 600 << 10])).await.problem(413);
    assert!(detail.contains("component_max"), "{detail}");
}

#[tokio::test]
async fn one_of_the_other_kind_does_not_fit() {
    refused("", "retry", Push::of(routing()), "contract", &["this is a routing policy"]).await;
}

#[tokio::test]
async fn one_of_another_contract_does_not_fit() {
    let push = Push::of(guest("old-contract"));
    refused("", "routing", push, "contract", &["this gateway offers 0.1.0"]).await;
}

#[tokio::test]
async fn one_that_loops_in_configure_is_ended() {
    let lines = "policy_limits.configure_timeout = \"50ms\"";
    let push = Push::of(guest("configure-spins")).config(json!({}));
    refused(lines, "routing", push, "configure", &["configure_timeout"]).await;
}

#[tokio::test]
async fn a_configuration_is_refused_with_every_error() {
    let config = json!({ "routes": [{ "path_prefix": "/", "service": "nowhere" }] });
    let push = Push::of(routing()).config(config);
    let reply = refused("", "routing", push, "configure", &["/routes/0/service"]).await;
    let errors = reply.json()["errors"].clone();
    assert_eq!(errors[0]["pointer"], "/routes/0/service");
    assert!(errors[0]["message"].as_str().unwrap().contains("nowhere"));
}

#[tokio::test]
async fn what_a_policy_says_of_its_configuration_forges_no_line() {
    let push = Push::of(guest("versioned")).config(json!({ "\u{1b}[31m\nERROR all is lost": 1 }));
    let reply = refused("", "routing", push, "configure", &["all is lost"]).await;
    for text in [&reply.json()["reason"], &reply.json()["errors"][0]["message"]] {
        assert!(!text.as_str().unwrap().contains(char::is_control), "{text}");
    }
}

#[tokio::test]
async fn a_case_that_comes_out_otherwise_is_a_refusal() {
    let wanted = json!([{
        "name": "drafts go to the writer",
        "request": { "path": "/drafts/1" },
        "decision": { "forward": "writer", "path": "/1" },
    }]);
    let push = marked("a").cases(wanted);
    let words = ["drafts go to the writer", "path was"];
    refused("", "routing", push, "self-test", &words).await;
    let wanted = json!([{ "failure": { "outcome": 503 }, "decision": "stop" }]);
    refused("", "retry", attempts(3).cases(wanted), "self-test", &["it did not stop"]).await;
}

#[tokio::test]
async fn cases_count_for_a_version_that_was_looked_at_before_too() {
    let (_writer, gateway) = start("").await;
    let before = gateway.pushed("routing", marked("a")).await;
    let active = gateway.pushed("routing", marked("b")).await;
    let wrong = json!([{ "request": { "path": "/x" }, "decision": "decline" }]);
    for push in [marked("a"), marked("b")] {
        let reply = gateway.push("routing", push.cases(wrong.clone())).await;
        let detail = reply.problem(422);
        assert!(
            detail.contains("case 1 of those that came with it: it did not decline"),
            "{detail}"
        );
    }
    // Neither has become another for it.
    let policy = gateway.policy("routing").await;
    assert_eq!(
        (state_of(&policy, &active), state_of(&policy, &before)),
        ("active".into(), "previous".into())
    );
    let right = json!([{ "request": { "path": "/x" }, "decision": { "forward": "writer" } }]);
    gateway.pushed("routing", marked("a").cases(right)).await;
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("a"));
}

#[tokio::test]
async fn cases_of_the_configuration_are_for_every_version() {
    let lines = "[[policy.routing.cases]]\nrequest.path = \"/x\"\n\
                 decision.response_headers.x-mark = \"a\"\n";
    let writer = Upstream::start().await;
    let config = format!(
        "{}\npolicy.routing.config = {{ routes = [{{ path_prefix = \"/\", service = \"writer\", \
         response_headers.set = {{ x-mark = \"a\" }} }}] }}\n{lines}",
        service("writer", [&writer])
    );
    let gateway = Gateway::start(config).await;
    assert!(gateway.push("routing", marked("b")).await.problem(422).contains("x-mark"));
    assert_eq!(mark_of(&gateway.get("/x").await).as_deref(), Some("a"));
}

#[tokio::test]
async fn cases_that_hold_are_no_hindrance() {
    let (_writer, gateway) = start("").await;
    let routing = json!([
        { "request": { "path": "/x" }, "decision": { "forward": "writer" } },
        {
            "request": { "method": "POST", "path": "/x?q=1", "headers": { "host": "a.example" } },
            "services": { "writer": { "circuit": "open", "health": "unhealthy" } },
            "decision": { "response_headers": { "x-mark": "a" } },
        },
    ]);
    gateway.pushed("routing", marked("a").cases(routing)).await;
    let retry = json!([
        { "failure": { "outcome": 503 }, "decision": { "again_after_ms": 1 } },
        {
            "failure": { "outcome": "connect-failed", "number": 2 },
            "decision": { "again_after_ms": { "min": 0, "max": 10 } },
        },
        { "failure": { "outcome": 503, "number": 3 }, "decision": "stop" },
    ]);
    gateway.pushed("retry", attempts(3).cases(retry)).await;
}

#[tokio::test]
async fn a_case_that_makes_no_sense_is_named() {
    for (case, word) in [
        (json!({ "decision": { "forward": "nowhere" } }), "no service \"nowhere\""),
        (json!({ "request": { "path": "x" }, "decision": "decline" }), "begin with `/`"),
        (json!({ "request": { "colour": "red" }, "decision": "decline" }), "colour"),
        (json!({ "decision": "perhaps" }), "decline"),
        (json!({ "request": {} }), "decision"),
    ] {
        let (_writer, gateway) = start("").await;
        let cases = json!([{ "decision": { "forward": "writer" } }, case]);
        let detail = gateway.push("routing", marked("a").cases(cases)).await.problem(422);
        assert!(detail.contains("case 2") && detail.contains(word), "no {word:?} in: {detail}");
    }
}

#[tokio::test]
async fn one_that_remembers_is_impure() {
    let push = Push::of(guest("remembers")).config(json!({}));
    refused("", "routing", push, "purity", &["may depend on"]).await;
}

#[tokio::test]
async fn one_that_takes_too_long_in_another_order_is_impure() {
    let push = Push::of(guest("versioned")).config(json!({ "memory": "tires" }));
    let words = ["in another order", "failed, where there was an answer", "`decision_timeout`"];
    // What the wall clock ends is no difference.
    let lines = "policy_limits.wall_timeout = \"10s\"";
    refused(lines, "routing", push, "purity", &words).await;
}

#[tokio::test]
async fn with_fresh_instances_nothing_is_remembered() {
    let (_writer, gateway) = start("policy.routing.instances = \"fresh\"").await;
    gateway.pushed("routing", Push::of(guest("remembers")).config(json!({}))).await;
    let mut client = gateway.connect().await;
    for _ in 0..20 {
        let reply = client.call(Request::get("/x")).await;
        assert_eq!(reply.header("x-asked").as_deref(), Some("1"));
    }
}

#[tokio::test]
async fn a_self_test_has_a_time() {
    let lines = "policy_limits.self_test_timeout = \"100ms\"\npolicy_limits.memory_max = \"64MiB\"";
    // It is configured several times, which takes long with so many routes.
    let routes: Vec<Value> = (0..20_000)
        .map(|number| json!({ "path_prefix": format!("/{number}"), "service": "writer" }))
        .collect();
    let push = Push::of(routing()).config(json!({ "routes": routes }));
    refused(lines, "routing", push, "self-test", &["self_test_timeout"]).await;
}

/// What the gateway itself could not do says nothing about the version.
#[tokio::test]
async fn one_whose_compiler_is_killed_is_not_refused() {
    let (_writer, gateway) =
        start("policy_limits.compile_cpu = \"1m\"\nserver.cache_dir = \"off\"").await;
    let kill = async {
        let child = orchestrator_tests::eventually("the compiler to run", async || {
            gateway.children().first().copied()
        });
        let child = rustix::process::Pid::from_raw(child.await as i32).unwrap();
        // It may still be the gateway that is about to become it.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
    };
    let (reply, ()) = tokio::join!(gateway.push("routing", Push::of(many_functions())), kill);
    let detail = reply.problem(503);
    assert!(detail.contains("killed from outside"), "{detail}");
    gateway.log.line_with(&["refused", "killed from outside"]).await;
    assert_eq!(names(&gateway.policy("routing").await).len(), 1, "it is not known");
}
