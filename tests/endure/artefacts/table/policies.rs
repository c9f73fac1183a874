//! Components that are whole: those that do not fit, those that are too large, those that do not start,
//! and those that do not do what they should.

use std::fs;

use orchestrator_tests::component;
use serde_json::{Value, json};

use super::super::text::{Text, import};
use super::Artefact;
use crate::versions;

pub(super) fn all() -> Vec<Artefact> {
    [misfits(), too_large(), failing_to_start(), misbehaving()].into_iter().flatten().collect()
}

/// A policy of `tests/guests`.
fn guest(name: &str) -> Vec<u8> {
    fs::read(component(name)).unwrap()
}

fn misfits() -> Vec<Artefact> {
    let exchange = "orchestrator:policy/exchange@0.1.0";
    let with_import = |interface, function, of| Text::with_fields(&import(interface, function, of));
    let other_route = "(func $route (result u32) (canon lift (core func $policy \"decide\")))
        (instance $routing (export \"route\" (func $route)))
        (export \"orchestrator:policy/routing@0.1.0\" (instance $routing))";
    let bare_route = "(func $route (result u32) (canon lift (core func $policy \"decide\")))
        (export \"route\" (func $route))";
    let other_configure =
        "(func $configure (result u32) (canon lift (core func $policy \"configure\")))
        (instance $lifecycle (export \"configure\" (func $configure)))
        (export \"orchestrator:policy/lifecycle@0.1.0\" (instance $lifecycle))";
    let empty_routing =
        "(instance $routing) (export \"orchestrator:policy/routing@0.1.0\" (instance $routing))";
    vec![
        Artefact::new(
            "a core module",
            wat::parse_str("(module)").unwrap(),
            "receive",
            "core module",
        ),
        Artefact::new(
            "an empty component",
            wat::parse_str("(component)").unwrap(),
            "contract",
            "does not export",
        ),
        Artefact::new(
            "a retry policy as routing",
            guest("retry-always"),
            "contract",
            "retry policy",
        ),
        Artefact::new("a routing policy as retry", guest("echo"), "contract", "routing policy")
            .for_retry(),
        Artefact::new("a policy of a contract to come", guest("old-contract"), "contract", "0.1.0"),
        Artefact::new(
            "imports an HTTP client",
            with_import("wasi:http/outgoing-handler@0.2.0", "handle", ""),
            "contract",
            "wasi:http",
        ),
        Artefact::new(
            "imports an interface that is not there",
            with_import("orchestrator:policy/secrets@0.1.0", "all", "(result string)"),
            "contract",
            "secrets",
        ),
        Artefact::new(
            "imports a function that is not there",
            with_import(exchange, "cookies", "(result u32)"),
            "contract",
            "cookies",
        ),
        Artefact::new(
            "imports a function of another type",
            with_import(exchange, "now-ms", "(result u32)"),
            "contract",
            "now-ms",
        ),
        Artefact::new(
            "imports a bare function",
            Text::with_fields("(import \"now\" (func (result u64)))"),
            "contract",
            "now",
        ),
        Artefact::new(
            "imports a core module",
            Text::with_fields("(import \"plugin\" (core module))"),
            "contract",
            "plugin",
        ),
        Artefact::new("exports no lifecycle", Text::with_lifecycle(""), "contract", "lifecycle"),
        Artefact::new(
            "exports a bare function",
            Text::with_routing(bare_route),
            "contract",
            "routing",
        ),
        Artefact::new(
            "exports routing without route",
            Text::with_routing(empty_routing),
            "contract",
            "route",
        ),
        Artefact::new(
            "exports a route of another type",
            Text::with_routing(other_route),
            "contract",
            "route",
        ),
        Artefact::new(
            "exports a configure of another type",
            Text::with_lifecycle(other_configure),
            "contract",
            "configure",
        ),
    ]
}

fn too_large() -> Vec<Artefact> {
    let instances =
        "(core module $E) ".to_owned() + &"(core instance (instantiate $E)) ".repeat(40);
    vec![
        Artefact::new(
            "begins with 64 MiB of memory",
            Text::with_memory("(memory (export \"memory\") 1024)"),
            "contract",
            "memory_max",
        ),
        Artefact::new("two memories", Text::with_core("(memory 1)"), "contract", "memories"),
        Artefact::new(
            "a table of a million elements",
            Text::with_core("(table 1000000 funcref)"),
            "contract",
            "table_elements_max",
        ),
        Artefact::new(
            "40 tables",
            Text::with_core(&"(table 1 funcref) ".repeat(40)),
            "contract",
            "tables_max",
        ),
        Artefact::new(
            "40 core instances",
            Text::with_fields(&instances),
            "contract",
            "core_instances_max",
        ),
    ]
}

fn failing_to_start() -> Vec<Artefact> {
    let start = |body: &str| Text::with_core(&format!("(func $start {body}) (start $start)"));
    let hoard = "(loop (drop (memory.grow (i32.const 16))) (br 0))";
    let recursion = "(func $deep (param i64) (result i64)
        (i64.mul (call $deep (i64.add (local.get 0) (i64.const 1))) (local.get 0)))";
    let says_too_much = "(i32.store8 (i32.const 512) (i32.const 1))
        (i32.store offset=4 (i32.const 512) (i32.const 1024))
        (i32.store offset=8 (i32.const 512) (i32.const 1))
        (i32.store (i32.const 1024) (i32.const 0))
        (i32.store offset=4 (i32.const 1024) (i32.const 200000))";
    let beyond = "(i32.store8 (i32.const 512) (i32.const 1))
        (i32.store offset=4 (i32.const 512) (i32.const 0x7fff0000))
        (i32.store offset=8 (i32.const 512) (i32.const 1))";
    vec![
        Artefact::new(
            "a start function that loops",
            start("(loop (br 0))"),
            "instantiate",
            "configure_timeout",
        ),
        Artefact::new("a start function that traps", start("unreachable"), "instantiate", "trap"),
        Artefact::new("a start function that hoards", start(hoard), "instantiate", "memory"),
        Artefact::new(
            "data outside of its memory",
            Text::with_core("(data (i32.const 0x10000000) \"x\")"),
            "instantiate",
            "trap",
        ),
        Artefact::new(
            "configure loops",
            guest("configure-spins"),
            "configure",
            "configure_timeout",
        ),
        Artefact::new("configure traps", guest("configure-traps"), "configure", "trap"),
        Artefact::new(
            "configure refuses",
            guest("configure-refuses"),
            "configure",
            "the whole is wrong",
        ),
        Artefact::new(
            "a configuration with a mistake",
            versions::component("routing"),
            "configure",
            "path_prefix",
        )
        .with(json!({ "routes": [{ "path_prefx": "/", "service": "writer" }] })),
        Artefact::new(
            "a configuration for a service that is not there",
            versions::component("routing"),
            "configure",
            "nowhere",
        )
        .with(json!({ "routes": [{ "path_prefix": "/", "service": "nowhere" }] })),
        Artefact::new("configure hoards", Text::with_configure(hoard, ""), "configure", "memory"),
        Artefact::new(
            "configure calls itself without end",
            Text::with_configure("(drop (call $deep (i64.const 1)))", recursion),
            "configure",
            "stack",
        ),
        Artefact::new(
            "configure grows a table without end",
            Text::with_configure(
                "(loop (drop (table.grow (ref.null func) (i32.const 1000))) (br 0))",
                "(table 1 funcref)",
            ),
            "configure",
            "table",
        ),
        Artefact::new(
            "configure says too much",
            Text {
                configure: says_too_much.into(),
                memory: "(memory (export \"memory\") 8)".into(),
                ..Text::default()
            }
            .compiled(),
            "configure",
            "result",
        ),
        Artefact::new(
            "configure answers with what is not its own",
            Text::with_configure(beyond, ""),
            "configure",
            "",
        ),
        Artefact::new(
            "configure asks for a request",
            guest("out-of-phase"),
            "configure",
            "configure",
        )
        .with(json!({ "eager": true })),
    ]
}

fn misbehaving() -> Vec<Artefact> {
    let case = |path: &str, decision: Value| {
        let request = json!({ "path": path });
        json!([{ "request": request, "decision": decision }])
    };
    let forward = || json!({ "forward": "writer" });
    let memory = |how: &str| json!({ "version": "bad", "memory": how });
    let judged = || {
        let failure = json!({ "outcome": 503 });
        json!([{ "request": { "path": "/evil" }, "failure": failure, "decision": "stop" }])
    };
    vec![
        Artefact::new(
            "a case that comes out otherwise",
            guest("echo"),
            "self-test",
            "respond = 200",
        )
        .with_cases(case("/", forward())),
        Artefact::new("a case with another header", guest("versioned"), "self-test", "x-version")
            .with(json!({ "version": "bad" }))
            .with_cases(case("/", json!({ "request_headers": { "x-version": "good" } }))),
        Artefact::new(
            "a case about a service that is not there",
            guest("echo"),
            "self-test",
            "nowhere",
        )
        .with_cases(case("/", json!({ "forward": "nowhere" }))),
        Artefact::new("cases that are none", guest("echo"), "self-test", "case")
            .with_cases(json!([{ "request": 7 }])),
        Artefact::new("a case that traps", guest("trap"), "self-test", "trap")
            .with_cases(case("/evil", forward())),
        Artefact::new("a case that loops", guest("spin"), "self-test", "decision_timeout")
            .with_cases(case("/evil", forward())),
        Artefact::new("a case that hoards", guest("hoard"), "self-test", "memory")
            .with_cases(case("/evil", forward())),
        Artefact::new(
            "a case that cannot be decided",
            guest("cannot-decide"),
            "self-test",
            "no opinion",
        )
        .with_cases(case("/evil", forward())),
        Artefact::new(
            "a case with an invalid answer",
            guest("unknown-service"),
            "self-test",
            "nowhere",
        )
        .with_cases(case("/evil", forward())),
        Artefact::new("a judge that traps", guest("retry-trap"), "self-test", "trap")
            .for_retry()
            .with_cases(judged()),
        Artefact::new("a judge that loops", guest("retry-spin"), "self-test", "decision_timeout")
            .for_retry()
            .with_cases(judged()),
        Artefact::new("counts the requests", guest("versioned"), "purity", "depend")
            .with(memory("counts")),
        Artefact::new("remembers the last request", guest("versioned"), "purity", "depend")
            .with(memory("remembers")),
        Artefact::new("answers in the order of a set", guest("versioned"), "purity", "depend")
            .with(memory("shuffles")),
    ]
}
