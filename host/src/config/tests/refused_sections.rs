//! What the gateway's own sections refuse, and in which words.

use super::check;

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    check(
        r#"[sever]
[proxy]
reqest_timeout = "5s"
[health]
frequency = 3"#,
        r##"
error: unknown key `sever` at the top of a configuration
 --> gateway.toml:1:2
  |
1 | [sever]
  |  ^^^^^ unknown
  |
  = help: did you mean `server`? known at the top of a configuration: `server`, `admin`, `proxy`, `limits`, `policy_limits`, `health`, `breaker`, `cors`, `log`, `services`, `policy`

error: unknown key `reqest_timeout` in `[proxy]`
 --> gateway.toml:3:1
  |
3 | reqest_timeout = "5s"
  | ^^^^^^^^^^^^^^ unknown
  |
  = help: did you mean `request_timeout`? known in `[proxy]`: `request_timeout`, `attempt_timeout`, `idle_timeout`, `tunnel_idle_timeout`, `connect_timeout`, `replay_body_max`, `retry_attempts_max`, `retry_delay_max`, `retry_budget_ratio`, `retry_budget_min_per_s`

error: unknown key `frequency` in `[health]`
 --> gateway.toml:5:1
  |
5 | frequency = 3
  | ^^^^^^^^^ unknown
  |
  = help: known in `[health]`: `interval`, `timeout`, `path`, `history`
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
error: `proxy.idle_timeout` must be a duration with its unit, not a bare number
 --> gateway.toml:2:16
  |
2 | idle_timeout = 30
  |                ^^
  |
  = help: write "30s" for seconds, "30ms" for milliseconds

error: `proxy.connect_timeout` is out of range
 --> gateway.toml:3:19
  |
3 | connect_timeout = "9m"
  |                   ^^^^
  |
  = help: write a value from 1ms to 5m

error: `proxy.request_timeout` is not a duration: "soon"
 --> gateway.toml:4:19
  |
4 | request_timeout = "soon"
  |                   ^^^^^^
  |
  = help: write numbers with their units: "30s", "250ms", "1m 30s"

error: `proxy.attempt_timeout` must be a duration, not true or false
 --> gateway.toml:5:19
  |
5 | attempt_timeout = true
  |                   ^^^^
  |
  = help: write it in quotes, for example "30s", or "off"
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
error: `proxy.retry_budget_ratio` is out of range
 --> gateway.toml:2:22
  |
2 | retry_budget_ratio = nan
  |                      ^^^
  |
  = help: write a value from 0 to 10

error: `proxy.retry_attempts_max` is out of range
 --> gateway.toml:3:22
  |
3 | retry_attempts_max = 0
  |                      ^
  |
  = help: write a value from 1 to 100

error: `proxy.retry_budget_min_per_s` must be a whole number, not a string
 --> gateway.toml:4:26
  |
4 | retry_budget_min_per_s = "many"
  |                          ^^^^^^
  |
  = help: write a number from 0 to 100000, without quotes

error: `limits.header_count` must be a whole number, not a number with a fraction
 --> gateway.toml:6:16
  |
6 | header_count = 1.5
  |                ^^^
  |
  = help: write a number from 10 to 1000, without quotes

error: `limits.connections` is out of range
 --> gateway.toml:7:15
  |
7 | connections = 99999999999999999999
  |               ^^^^^^^^^^^^^^^^^^^^
  |
  = help: write a value from 1 to 1000000
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
error: `policy_limits.memory_max` is out of range
 --> gateway.toml:2:14
  |
2 | memory_max = "1KiB"
  |              ^^^^^^
  |
  = help: write a value from 64KiB to 256MiB

error: `policy_limits.result_max` is not a size: "5"
 --> gateway.toml:3:14
  |
3 | result_max = "5"
  |              ^^^
  |
  = help: write a number with its unit: "64KiB", "8MiB", "500B"

error: `limits.header_bytes` must be a size with its unit, not a bare number
 --> gateway.toml:5:16
  |
5 | header_bytes = 5
  |                ^
  |
  = help: write "5KiB" for KiB, "5B" for bytes
"##,
    );
}

#[test]
fn sections_are_tables() {
    check(
        "health = 5\n[[proxy]]",
        r##"
error: `health` must be a table, not a whole number
 --> gateway.toml:1:10
  |
1 | health = 5
  |          ^
  |
  = help: write `[health]`, in single brackets, and its keys below it

error: `proxy` must be a table, not a list
 --> gateway.toml:2:1
  |
2 | [[proxy]]
  | ^^^^^^^^^
  |
  = help: write `[proxy]`, in single brackets, and its keys below it
"##,
    );
}

#[test]
fn an_attempt_is_not_longer_than_its_request() {
    check(
        r#"[proxy]
attempt_timeout = "40s""#,
        r##"
error: `proxy.attempt_timeout` is longer than `proxy.request_timeout`
 --> gateway.toml:2:19
  |
2 | attempt_timeout = "40s"
  |                   ^^^^^ never comes into effect
  |
  = help: all attempts of a request share 30s: give one attempt less, or write "off"
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
error: `server.listen` is not an IP address with a port: ":80"
 --> gateway.toml:2:10
  |
2 | listen = ":80"
  |          ^^^^^
  |
  = help: write "127.0.0.1:80" for this machine only, "0.0.0.0:80" for every IPv4 address of it, "[::]:80" for IPv6

error: `admin.listen` is not an IP address with a port: "localhost"
 --> gateway.toml:4:10
  |
4 | listen = "localhost"
  |          ^^^^^^^^^^^
  |
  = help: write it like "127.0.0.1:8003" or "[::1]:8003", or, for a socket in a folder, "unix:/run/orchestrator.sock"
"##,
    );
}

#[test]
fn listeners_have_different_addresses() {
    check(
        r#"[admin]
listen = "127.0.0.1:8003""#,
        r##"
error: `admin.listen` and `server.listen` are one address: 127.0.0.1:8003
 --> gateway.toml:2:10
  |
2 | listen = "127.0.0.1:8003"
  |          ^^^^^^^^^^^^^^^^
  |
  = help: give them different ports: only one listener can have each
"##,
    );
}

#[test]
fn listeners_on_all_addresses_collide_too() {
    check(
        r#"[server]
listen = "0.0.0.0:8004""#,
        r##"
error: `admin.listen` and `server.listen` are one address: 127.0.0.1:8004
 --> gateway.toml:2:10
  |
2 | listen = "0.0.0.0:8004"
  |          ^^^^^^^^^^^^^^
  |
  = help: give them different ports: only one listener can have each
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
error: `server.pages` must be true or false, not a string
 --> gateway.toml:2:9
  |
2 | pages = "yes"
  |         ^^^^^
  |
  = help: write true or false, without quotes

error: `server.pages_prefix` is not a path prefix: "gateway/"
 --> gateway.toml:3:16
  |
3 | pages_prefix = "gateway/"
  |                ^^^^^^^^^^
  |
  = help: write "" for none, or up to 128 characters like "/_gateway": a `/` in front, none at the end, letters, digits and `- . _ ~` between
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
error: `log.level` cannot be "wran"
 --> gateway.toml:2:9
  |
2 | level = "wran"
  |         ^^^^^^
  |
  = help: did you mean "warn"? one of "error", "warn", "info", "debug", "trace"

error: `log.access` is neither "stdout" nor "off" nor a path: "stdot"
 --> gateway.toml:3:10
  |
3 | access = "stdot"
  |          ^^^^^^^
  |
  = help: a path has a `/` in it: "./access.log"
"##,
    );
}

#[test]
fn units_are_spelt_out_and_paths_lead_somewhere() {
    check(
        r#"server.cache_dir = "cache"
limits.body_bytes = "200M"
log.access = "./not/there.log""#,
        r##"
error: `server.cache_dir` is not a path: "cache"
 --> gateway.toml:1:20
  |
1 | server.cache_dir = "cache"
  |                    ^^^^^^^
  |
  = help: a path has a `/` in it: "./cache", or "off"

error: `limits.body_bytes` is not a size: "200M"
 --> gateway.toml:2:21
  |
2 | limits.body_bytes = "200M"
  |                     ^^^^^^
  |
  = help: write a number with its unit: "64KiB", "8MiB", "500B", or "off"

error: `log.access` is in a folder that is not there: "./not/there.log"
 --> gateway.toml:3:14
  |
3 | log.access = "./not/there.log"
  |              ^^^^^^^^^^^^^^^^^
  |
  = help: make it; looked for conf/./not/there.log
"##,
    );
}

#[test]
fn trusted_proxies_are_written_exactly() {
    check(
        r#"[server]
trusted_proxies = ["10.0.0.1/8", "10.0.0.0/33", "proxy.internal", 7, "::1", "::1/128"]"#,
        r##"
error: `server.trusted_proxies[0]` has bits behind its prefix: "10.0.0.1/8"
 --> gateway.toml:2:20
  |
2 | trusted_proxies = ["10.0.0.1/8", "10.0.0.0/33", "proxy.internal", 7, "::1", "::1/128"]
  |                    ^^^^^^^^^^^^
  |
  = help: write "10.0.0.0/8" for the network, "10.0.0.1" for the address

error: `server.trusted_proxies[1]` is neither a network nor an address: "10.0.0.0/33"
 --> gateway.toml:2:34
  |
2 | trusted_proxies = ["10.0.0.1/8", "10.0.0.0/33", "proxy.internal", 7, "::1", "::1/128"]
  |                                  ^^^^^^^^^^^^^
  |
  = help: write a network like "10.0.0.0/8" or "fd00::/8", or one address

error: `server.trusted_proxies[2]` is neither a network nor an address: "proxy.internal"
 --> gateway.toml:2:49
  |
2 | trusted_proxies = ["10.0.0.1/8", "10.0.0.0/33", "proxy.internal", 7, "::1", "::1/128"]
  |                                                 ^^^^^^^^^^^^^^^^
  |
  = help: write a network like "10.0.0.0/8" or "fd00::/8", or one address

error: `server.trusted_proxies[3]` must be a network or an address, not a whole number
 --> gateway.toml:2:67
  |
2 | trusted_proxies = ["10.0.0.1/8", "10.0.0.0/33", "proxy.internal", 7, "::1", "::1/128"]
  |                                                                   ^
  |
  = help: write it in quotes, for example "10.0.0.0/8"

error: `server.trusted_proxies[5]` is there a second time
 --> gateway.toml:2:77
  |
2 | trusted_proxies = ["10.0.0.1/8", "10.0.0.0/33", "proxy.internal", 7, "::1", "::1/128"]
  |                                                                             ^^^^^^^^^
  |
  = help: leave one of them out
"##,
    );
}
