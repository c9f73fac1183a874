//! What is refused, and in which words.

use super::{check, check_whole};

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    check(
        r#"[sever]
[proxy]
reqest_timeout = "5s"
[health]
frequency = 3"#,
        r##"

"##,
    );
}

#[test]
fn durations_need_a_unit_and_have_limits() {
    check(
        r#"[proxy]
idle_timeout = 30
connect_timeout = "9m"
request_timeout = "soon"
attempt_timeout = true"#,
        r##"

"##,
    );
}

#[test]
fn numbers_have_limits() {
    check(
        r#"[proxy]
retry_budget_ratio = nan
retry_attempts_max = 0
retry_budget_min_per_s = "many"
[limits]
header_count = 1.5
connections = 99999999999999999999"#,
        r##"

"##,
    );
}

#[test]
fn sizes_need_a_unit_and_have_limits() {
    check(
        r#"[policy_limits]
memory_max = "1KiB"
result_max = "5"
[limits]
header_bytes = 5"#,
        r##"

"##,
    );
}

#[test]
fn sections_are_tables() {
    check(
        "health = 5\n[[proxy]]",
        r##"

"##,
    );
}

#[test]
fn an_attempt_is_not_longer_than_its_request() {
    check(
        r#"[proxy]
attempt_timeout = "40s""#,
        r##"

"##,
    );
}

#[test]
fn listeners_have_an_address_and_a_port() {
    check(
        r#"[server]
listen = ":80"
[admin]
listen = "localhost""#,
        r##"

"##,
    );
}

#[test]
fn listeners_have_different_addresses() {
    check(
        r#"[admin]
listen = "127.0.0.1:8003""#,
        r##"

"##,
    );
}

#[test]
fn listeners_on_all_addresses_collide_too() {
    check(
        r#"[server]
listen = "0.0.0.0:8004""#,
        r##"

"##,
    );
}

#[test]
fn the_prefix_of_the_pages_has_a_form() {
    check(
        r#"[server]
pages = "yes"
pages_prefix = "gateway/""#,
        r##"

"##,
    );
}

#[test]
fn words_are_chosen_from_a_list() {
    check(
        r#"[log]
level = "wran"
access = "stdot""#,
        r##"

"##,
    );
}

#[test]
fn origins_are_as_browsers_write_them() {
    check(
        r#"[cors]
allow_origins = [
"https://A.example:443",
"a.example",
"null",
"null",
]"#,
        r##"

"##,
    );
}

#[test]
fn methods_and_headers_are_tokens() {
    check(
        r#"[cors]
allow_methods = ["get", "G T"]
allow_headers = ["X-A", "x-a", "é"]"#,
        r##"

"##,
    );
}

#[test]
fn credentials_never_go_with_a_star() {
    check(
        r#"[cors]
allow_credentials = true
allow_headers = ["X-A"]"#,
        r##"

"##,
    );
}

#[test]
fn a_star_stands_alone() {
    check(
        r#"[cors]
allow_origins = ["*", "https://a.example"]"#,
        r##"

"##,
    );
}

#[test]
fn services_have_names_and_endpoints() {
    check(
        r#"[services."b c"]
endpoints = []
[services.d]
weight = 3
[services.e]
endpoints = "http://a""#,
        r##"

"##,
    );
}

#[test]
fn endpoints_are_http_host_and_port() {
    check(
        r#"[services.e]
endpoints = [
"https://a",
"ftp://a",
"a:80",
"http://u:p@a",
"http://a/x?y",
"http://a:0",
"http://[::1",
"http://10.0.0.300",
"http://a",
"http://A:80",
3,
]"#,
        r##"

"##,
    );
}

#[test]
fn a_policy_is_a_built_in_of_its_kind_or_a_file() {
    check(
        r#"[policy.retry]
component = "builtin:routing"
on_failure = "reject""#,
        r##"

"##,
    );
}

#[test]
fn a_built_in_policy_is_one_of_two() {
    check(
        r#"[policy.retry]
component = "builtin:rety""#,
        r##"

"##,
    );
}

#[test]
fn a_policys_file_exists() {
    check(
        r#"[policy.retry]
component = "policies/none.wasm""#,
        r##"

"##,
    );
}

#[test]
fn a_policys_file_is_wasm() {
    check(
        r#"[policy.retry]
component = "retry.lua""#,
        r##"

"##,
    );
}

#[test]
fn a_policys_configuration_is_what_json_can_say() {
    check(
        "[policy.retry]\nconfig.x = [1, nan, {y = inf}]",
        r##"

"##,
    );
}

#[test]
fn a_policys_configuration_is_a_table() {
    check(
        "[policy.retry]\nconfig = 3",
        r##"

"##,
    );
}

#[test]
fn a_key_stands_once() {
    check(
        r#"[proxy]
idle_timeout = "1s"
idle_timeout = "2s""#,
        r##"

"##,
    );
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    check(
        r#"[proxy]
"\u001b[31m" = 1"#,
        r##"

"##,
    );
}

#[test]
fn an_empty_file_routes_nothing() {
    check_whole(
        "", r##"

"##,
    );
}

#[test]
fn a_routing_policy_is_required() {
    check_whole(
        r#"[services.a]
endpoints = ["http://a"]"#,
        r##"

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

"##,
    );
}

#[test]
fn syntax_errors_come_alone() {
    check_whole(
        "idle = \r\n[log\r\n",
        r##"

"##,
    );
}
