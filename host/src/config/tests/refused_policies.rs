//! What `[policy.routing]`, `[policy.retry]` and `[policy_limits]` refuse, and in which words.

use super::{check, check_whole};

#[test]
fn a_policy_is_a_built_in_of_its_kind_or_a_file() {
    check(
        r#"[policy.retry]
component = "builtin:routing"
on_failure = "reject""#,
        r##"
error: `policy.retry.component` is a policy of the other kind: "builtin:routing"
 --> gateway.toml:2:13
  |
2 | component = "builtin:routing"
  |             ^^^^^^^^^^^^^^^^^
  |
  = help: here only "builtin:retry" fits, or the path of a .wasm

error: unknown key `on_failure` in `[policy.retry]`
 --> gateway.toml:3:1
  |
3 | on_failure = "reject"
  | ^^^^^^^^^^ unknown
  |
  = help: known in `[policy.retry]`: `component`, `instances`, `decision_timeout`, `wall_timeout`, `configure_timeout`, `instances_max`, `memory_max`, `result_max`, `stack_max`, `table_elements_max`, `tables_max`, `core_instances_max`, `log_lines_per_s`, `component_max`, `compile_memory_max`, `compile_cpu`, `compile_cpu_per_mib`, `compile_timeout`, `self_test_timeout`, `fault_threshold`, `fault_window`, `config`, `cases`
"##,
    );
}

#[test]
fn a_built_in_policy_is_one_of_two() {
    check(
        r#"[policy.retry]
component = "builtin:rety""#,
        r##"
error: `policy.retry.component` is not a built-in policy: "builtin:rety"
 --> gateway.toml:2:13
  |
2 | component = "builtin:rety"
  |             ^^^^^^^^^^^^^^
  |
  = help: write "builtin:retry", or the path of a .wasm file
"##,
    );
}

#[test]
fn a_policys_file_exists() {
    check(
        r#"[policy.retry]
component = "policies/none.wasm""#,
        r##"
error: `policy.retry.component` names a file that cannot be read: No such file or directory (os error 2)
 --> gateway.toml:2:13
  |
2 | component = "policies/none.wasm"
  |             ^^^^^^^^^^^^^^^^^^^^
  |
  = help: looked for conf/policies/none.wasm
"##,
    );
}

#[test]
fn a_policys_file_is_wasm() {
    check(
        r#"[policy.retry]
component = "retry.lua""#,
        r##"
error: `policy.retry.component` is not a .wasm file: "retry.lua"
 --> gateway.toml:2:13
  |
2 | component = "retry.lua"
  |             ^^^^^^^^^^^
  |
  = help: write the path of one, or "builtin:retry"
"##,
    );
}

#[test]
fn a_policys_configuration_is_what_json_can_say() {
    check(
        "[policy.retry]\nconfig.x = [1, nan, {y = inf}]",
        r##"
error: `policy.retry.config.x[1]` cannot be "nan"
 --> gateway.toml:2:16
  |
2 | config.x = [1, nan, {y = inf}]
  |                ^^^
  |
  = help: it is handed over as JSON, which has finite numbers only

error: `policy.retry.config.x[2].y` cannot be "inf"
 --> gateway.toml:2:26
  |
2 | config.x = [1, nan, {y = inf}]
  |                          ^^^
  |
  = help: it is handed over as JSON, which has finite numbers only
"##,
    );
}

#[test]
fn a_policys_configuration_is_a_table() {
    check(
        "[policy.retry]\nconfig = 3",
        r##"
error: `policy.retry.config` must be a table, not a whole number
 --> gateway.toml:2:10
  |
2 | config = 3
  |          ^
  |
  = help: write `[policy.retry.config]` with keys below it
"##,
    );
}

#[test]
fn on_failure_can_only_reject() {
    check_whole(
        r#"[services.a]
endpoints = ["http://a"]
[policy.routing]
on_failure = "accept""#,
        r##"
error: `policy.routing.on_failure` cannot be "accept"
 --> gateway.toml:4:14
  |
4 | on_failure = "accept"
  |              ^^^^^^^^
  |
  = help: write "reject", the only choice so far
"##,
    );
}

#[test]
fn limits_of_a_policy_are_those_of_all() {
    check(
        r#"[policy_limits]
fault_threshold = 0
compile_memory_max = "64MiB"
[policy.retry]
fault_threshold = "never"
compile_cpu_per_mib = "2m"
tables_max = "off"
instances = "cold""#,
        r##"
error: `policy_limits.fault_threshold` is out of range
 --> gateway.toml:2:19
  |
2 | fault_threshold = 0
  |                   ^
  |
  = help: write a value from 1 to 1000000, or "off"

error: `policy_limits.compile_memory_max` is out of range
 --> gateway.toml:3:22
  |
3 | compile_memory_max = "64MiB"
  |                      ^^^^^^^
  |
  = help: write a value from 128MiB to 16GiB

error: `policy.retry.fault_threshold` must be a whole number, not a string
 --> gateway.toml:5:19
  |
5 | fault_threshold = "never"
  |                   ^^^^^^^
  |
  = help: write a number from 1 to 1000000, without quotes, or "off"

error: `policy.retry.compile_cpu_per_mib` is out of range
 --> gateway.toml:6:23
  |
6 | compile_cpu_per_mib = "2m"
  |                       ^^^^
  |
  = help: write a value from 0s to 1m

error: `policy.retry.tables_max` must be a whole number, not a string
 --> gateway.toml:7:14
  |
7 | tables_max = "off"
  |              ^^^^^
  |
  = help: write a number from 1 to 64, without quotes

error: `policy.retry.instances` cannot be "cold"
 --> gateway.toml:8:13
  |
8 | instances = "cold"
  |             ^^^^^^
  |
  = help: write one of "warm", "fresh"
"##,
    );
}

#[test]
fn cases_are_tables_that_json_can_say() {
    check(
        r#"[policy.retry]
cases = ["stop", { decision = { again_after_ms = nan } }]"#,
        r##"
error: `policy.retry.cases[0]` must be a table, not a string
 --> gateway.toml:2:10
  |
2 | cases = ["stop", { decision = { again_after_ms = nan } }]
  |          ^^^^^^
  |
  = help: write `[[policy.retry.cases]]` for each case, with keys below it

error: `policy.retry.cases[1].decision.again_after_ms` cannot be "nan"
 --> gateway.toml:2:50
  |
2 | cases = ["stop", { decision = { again_after_ms = nan } }]
  |                                                  ^^^
  |
  = help: it is handed over as JSON, which has finite numbers only
"##,
    );
}

#[test]
fn cases_are_a_list() {
    check(
        r#"[policy.retry.cases]
decision = "stop""#,
        r##"
error: `policy.retry.cases` must be a list, not a table
 --> gateway.toml:1:1
  |
1 | [policy.retry.cases]
  | ^^^^^^^^^^^^^^^^^^^^
  |
  = help: write `[[policy.retry.cases]]`, in double brackets
"##,
    );
}
