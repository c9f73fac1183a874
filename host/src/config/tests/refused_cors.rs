//! What `[cors]` refuses, and in which words.

use super::check;

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
error: `cors.allow_origins[0]` is never sent by a browser in this form: "https://A.example:443"
 --> gateway.toml:3:1
  |
3 | "https://A.example:443",
  | ^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: write "https://a.example"

error: `cors.allow_origins[1]` is not an origin: "a.example"
 --> gateway.toml:4:1
  |
4 | "a.example",
  | ^^^^^^^^^^^
  |
  = help: write scheme, host and, where it is not the usual one, port, with nothing behind: "https://example.com"; or "*" or "null"

error: `cors.allow_origins[3]` is there a second time
 --> gateway.toml:6:1
  |
6 | "null",
  | ^^^^^^
  |
  = help: leave one of them out
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
error: `cors.allow_methods[0]` is not a method: "get"
 --> gateway.toml:2:18
  |
2 | allow_methods = ["get", "G T"]
  |                  ^^^^^
  |
  = help: methods have capital letters: "GET"

error: `cors.allow_methods[1]` is not a method: "G T"
 --> gateway.toml:2:25
  |
2 | allow_methods = ["get", "G T"]
  |                         ^^^^^
  |
  = help: write one like "GET", or "*" for every method

error: `cors.allow_headers[1]` is there a second time
 --> gateway.toml:3:25
  |
3 | allow_headers = ["X-A", "x-a", "é"]
  |                         ^^^^^
  |
  = help: leave one of them out

error: `cors.allow_headers[2]` is not a header's name: "é"
 --> gateway.toml:3:32
  |
3 | allow_headers = ["X-A", "x-a", "é"]
  |                                ^^^
  |
  = help: write one like "Content-Type", or "*" for every header
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
error: `cors.allow_credentials` cannot be true while `cors.allow_origins` is "*" by default
 --> gateway.toml:2:21
  |
2 | allow_credentials = true
  |                     ^^^^ browsers refuse this
  |
  = help: list the origins in `allow_origins`, or write allow_credentials = false
"##,
    );
}

#[test]
fn a_star_stands_alone() {
    check(
        r#"[cors]
allow_origins = ["*", "https://a.example"]"#,
        r##"
error: `cors.allow_origins` has "*" together with others
 --> gateway.toml:2:17
  |
2 | allow_origins = ["*", "https://a.example"]
  |                 ^^^^^^^^^^^^^^^^^^^^^^^^^^ "*" is all of them already
  |
  = help: write ["*"] alone, or the origins without it
"##,
    );
}
