//! What services, policies and the file as a whole refuse, and in which words.

use super::{check, check_whole};

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
error: `b c` is not a service's name
 --> gateway.toml:1:11
  |
1 | [services."b c"]
  |           ^^^^^
  |
  = help: a name has 1 to 64 letters, digits, `_` and `-`

error: `services."b c".endpoints` is empty
 --> gateway.toml:2:13
  |
2 | endpoints = []
  |             ^^
  |
  = help: write at least one address: ["http://localhost:8000"]

error: `services.d.endpoints` is missing
 --> gateway.toml:3:1
  |
3 | [services.d]
  | ^^^^^^^^^^^^ in this table
  |
  = help: add `endpoints = …`

error: unknown key `weight` in `[services.d]`
 --> gateway.toml:4:1
  |
4 | weight = 3
  | ^^^^^^ unknown
  |
  = help: known in `[services.d]`: `endpoints`, `balance`, `slow_start`, `panic_threshold`, `host`, `resolve`, `request_timeout`, `attempt_timeout`, `idle_timeout`, `connect_timeout`, `health`, `breaker`

error: `services.e.endpoints` must be a list, not a string
 --> gateway.toml:6:13
  |
6 | endpoints = "http://a"
  |             ^^^^^^^^^^
  |
  = help: put it in brackets: ["http://a"]
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
error: `services.e.endpoints[0]` asks for https, which is not supported yet: services are reached by plain http
 --> gateway.toml:3:1
  |
3 | "https://a",
  | ^^^^^^^^^^^
  |
  = help: write an http:// address, of a TLS-terminating proxy next to the service if need be

error: `services.e.endpoints[1]` has the scheme "ftp", which is unknown
 --> gateway.toml:4:1
  |
4 | "ftp://a",
  | ^^^^^^^^^
  |
  = help: write "http://host:port", for example "http://localhost:8000"

error: `services.e.endpoints[2]` has no scheme: "a:80"
 --> gateway.toml:5:1
  |
5 | "a:80",
  | ^^^^^^
  |
  = help: write "http://host:port", for example "http://localhost:8000"

error: `services.e.endpoints[3]` holds a user name or password, which the gateway does not send
 --> gateway.toml:6:1
  |
6 | "http://u:p@a",
  | ^^^^^^^^^^^^^^
  |
  = help: leave out all up to the `@`; a policy can set an `Authorization` header

error: `services.e.endpoints[4]` has "/x?y" behind its host and port
 --> gateway.toml:7:1
  |
7 | "http://a/x?y",
  | ^^^^^^^^^^^^^^
  |
  = help: write "http://a": paths are the routing policy's

error: `services.e.endpoints[5]` has the port "0", which is none
 --> gateway.toml:8:1
  |
8 | "http://a:0",
  | ^^^^^^^^^^^^
  |
  = help: a port is a number from 1 to 65535

error: `services.e.endpoints[6]` has the host "[:", which is neither a name nor an IP address
 --> gateway.toml:9:1
  |
9 | "http://[::1",
  | ^^^^^^^^^^^^^
  |
  = help: names have letters, digits, `-`, `_` and `.`; IPv6 addresses stand in brackets: "http://[::1]:8000"

error: `services.e.endpoints[7]` has the host "10.0.0.300", which is neither a name nor an IP address
  --> gateway.toml:10:1
   |
10 | "http://10.0.0.300",
   | ^^^^^^^^^^^^^^^^^^^
   |
   = help: names have letters, digits, `-`, `_` and `.`; IPv6 addresses stand in brackets: "http://[::1]:8000"

error: `services.e.endpoints[9]` is there a second time
  --> gateway.toml:12:1
   |
12 | "http://A:80",
   | ^^^^^^^^^^^^^
   |
   = help: leave one of them out

error: `services.e.endpoints[10]` must be an address, not a whole number
  --> gateway.toml:13:1
   |
13 | 3,
   | ^
   |
   = help: write it in quotes, for example "http://localhost:8000"
"##,
    );
}

#[test]
fn an_endpoint_with_a_weight_is_a_table_of_two() {
    check(
        r#"[services.e]
endpoints = [
{ url = "a:80", weight = 0 },
{ weight = 2 },
{ url = "http://a", wait = 3 },
{ url = "http://a", weight = 1001 },
]"#,
        r##"
error: `services.e.endpoints[0].url` has no scheme: "a:80"
 --> gateway.toml:3:9
  |
3 | { url = "a:80", weight = 0 },
  |         ^^^^^^
  |
  = help: write "http://host:port", for example "http://localhost:8000"

error: `services.e.endpoints[0].weight` is out of range
 --> gateway.toml:3:26
  |
3 | { url = "a:80", weight = 0 },
  |                          ^
  |
  = help: write a value from 1 to 1000

error: `services.e.endpoints[1]` has no `url`
 --> gateway.toml:4:1
  |
4 | { weight = 2 },
  | ^^^^^^^^^^^^^^
  |
  = help: write { url = "http://localhost:8000", weight = 3 }

error: `services.e.endpoints[2].wait` is unknown
 --> gateway.toml:5:21
  |
5 | { url = "http://a", wait = 3 },
  |                     ^^^^
  |
  = help: an endpoint has `url` and `weight`

error: `services.e.endpoints[3].weight` is out of range
 --> gateway.toml:6:30
  |
6 | { url = "http://a", weight = 1001 },
  |                              ^^^^
  |
  = help: write a value from 1 to 1000
"##,
    );
}

#[test]
fn a_service_has_its_own_keys_and_those_of_health_and_breaker() {
    check(
        r#"[services.e]
endpoints = ["http://a"]
balance = "round-robin"
slow_start = "2h"
panic_threshold = 1.5
host = "Client"
resolve = true
request_timeout = "2s"
attempt_timeout = "3s"
health.path = "health"
health.intervall = "3s"
breaker.open_for = 3"#,
        r##"
error: `services.e.balance` cannot be "round-robin"
 --> gateway.toml:3:11
  |
3 | balance = "round-robin"
  |           ^^^^^^^^^^^^^
  |
  = help: did you mean "round_robin"? one of "p2c", "round_robin", "random", "consistent_hash"

error: `services.e.slow_start` is out of range
 --> gateway.toml:4:14
  |
4 | slow_start = "2h"
  |              ^^^^
  |
  = help: write a value from 1ms to 1h, or "off"

error: `services.e.panic_threshold` is out of range
 --> gateway.toml:5:19
  |
5 | panic_threshold = 1.5
  |                   ^^^
  |
  = help: write a value from 0 to 1

error: `services.e.host` cannot be "Client"
 --> gateway.toml:6:8
  |
6 | host = "Client"
  |        ^^^^^^^^
  |
  = help: did you mean "client"? one of "endpoint", "client"

error: `services.e.resolve` must be a word, not true or false
 --> gateway.toml:7:11
  |
7 | resolve = true
  |           ^^^^
  |
  = help: write it in quotes, for example "one"

error: `services.e.attempt_timeout` is longer than the service's request_timeout
 --> gateway.toml:9:19
  |
9 | attempt_timeout = "3s"
  |                   ^^^^ never comes into effect
  |
  = help: all attempts of a request share 2s: give one attempt less, or write "off"

error: `services.e.health.path` is not a path: "health"
  --> gateway.toml:10:15
   |
10 | health.path = "health"
   |               ^^^^^^^^
   |
   = help: a path begins with `/`

error: unknown key `intervall` in `[services.e.health]`
  --> gateway.toml:11:8
   |
11 | health.intervall = "3s"
   |        ^^^^^^^^^ unknown
   |
   = help: did you mean `interval`? known in `[services.e.health]`: `interval`, `timeout`, `path`, `history`

error: `services.e.breaker.open_for` must be a duration with its unit, not a bare number
  --> gateway.toml:12:20
   |
12 | breaker.open_for = 3
   |                    ^
   |
   = help: write "3s" for seconds, "3ms" for milliseconds
"##,
    );
}

#[test]
fn what_is_wrong_for_all_services_is_said_once() {
    check(
        r#"[proxy]
request_timeout = 3"#,
        r##"
error: `proxy.request_timeout` must be a duration with its unit, not a bare number
 --> gateway.toml:2:19
  |
2 | request_timeout = 3
  |                   ^
  |
  = help: write "3s" for seconds, "3ms" for milliseconds
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
error: this key is there a second time
 --> gateway.toml:3:1
  |
3 | idle_timeout = "2s"
  | ^^^^^^^^^^^^
  |
  = help: leave one of them out
"##,
    );
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    check(
        r#"[proxy]
"\u001b[31m" = 1"#,
        r##"
error: unknown key `\u{1b}[31m` in `[proxy]`
 --> gateway.toml:2:1
  |
2 | "\u001b[31m" = 1
  | ^^^^^^^^^^^^ unknown
  |
  = help: known in `[proxy]`: `request_timeout`, `attempt_timeout`, `idle_timeout`, `tunnel_idle_timeout`, `connect_timeout`, `replay_body_max`, `retry_attempts_max`, `retry_delay_max`, `retry_budget_ratio`, `retry_budget_min_per_s`
"##,
    );
}

#[test]
fn an_empty_file_routes_nothing() {
    check_whole(
        "",
        r##"
error: no service is configured
 --> gateway.toml:1:1
  |
1 |
  | ^
  |
  = help: add a table like `[services.backend]` with `endpoints = ["http://localhost:8000"]`

error: no routing policy is configured: no request would reach a service
 --> gateway.toml:1:1
  |
1 |
  | ^
  |
  = help: add a table `[policy.routing]` with `component = "builtin:routing"`, and for each path a `[[policy.routing.config.routes]]` with `path_prefix = "/"` and `service = "…"`
"##,
    );
}

#[test]
fn a_routing_policy_is_required() {
    check_whole(
        r#"[services.a]
endpoints = ["http://a"]"#,
        r##"
error: no routing policy is configured: no request would reach a service
 --> gateway.toml:2:25
  |
2 | endpoints = ["http://a"]
  |                         ^
  |
  = help: add a table `[policy.routing]` with `component = "builtin:routing"`, and for each path a `[[policy.routing.config.routes]]` with `path_prefix = "/"` and `service = "…"`
"##,
    );
}

#[test]
fn syntax_errors_come_alone() {
    check_whole(
        "idle = \r\n[log\r\n",
        r##"
error: this is not TOML: string values must be quoted, expected literal string
 --> gateway.toml:1:8
  |
1 | idle =
  |        ^

error: this is not TOML: unclosed table, expected `]`
 --> gateway.toml:2:5
  |
2 | [log
  |     ^
"##,
    );
}
