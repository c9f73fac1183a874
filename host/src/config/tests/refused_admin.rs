//! What `[admin]` refuses, and in which words.

use super::check;

#[test]
fn a_socket_has_a_path() {
    check(
        r#"admin.listen = "unix:""#,
        r##"
error: `admin.listen` is not the path of a socket: "unix:"
 --> gateway.toml:1:16
  |
1 | admin.listen = "unix:"
  |                ^^^^^^^
  |
  = help: write it like "unix:/run/orchestrator.sock"
"##,
    );
}

#[test]
fn the_path_of_a_socket_has_a_length() {
    let path = format!("/{}", "s".repeat(107));
    check(
        &format!("admin.listen = \"unix:{path}\""),
        r##"
error: `admin.listen` is too long for the path of a socket: "unix:/ssssssssssssssssssssssssssssssssssssssssssssssssssssss"…
 --> gateway.toml:1:16
  |
1 | admin.listen = "unix:/sssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss"
  |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: 107 bytes are allowed; as an absolute path it has 108
"##,
    );
}

#[test]
fn a_token_has_one_source() {
    check(
        r#"[admin.tokens.both]
file = "./token"
env = "TOKEN"
[admin.tokens.neither]
[admin.tokens]
word = "secret""#,
        r##"
error: `admin.tokens.both` has both `file` and `env`
 --> gateway.toml:1:1
  |
1 | [admin.tokens.both]
  | ^^^^^^^^^^^^^^^^^^^
  |
  = help: leave one of them out

error: `admin.tokens.neither` has neither `file` nor `env`
 --> gateway.toml:4:1
  |
4 | [admin.tokens.neither]
  | ^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: add `file = "./token"`

error: `admin.tokens.word` must be a table, not a string
 --> gateway.toml:6:8
  |
6 | word = "secret"
  |        ^^^^^^^^
  |
  = help: write `[admin.tokens.word]`, in single brackets, and its keys below it
"##,
    );
}

#[test]
fn tokens_have_names_and_sources_have_forms() {
    check(
        r#"[admin.tokens."on call"]
file = ""
[admin.tokens.b]
env = "2ND=x"
[admin.tokens.c]
env = 7
path = "./token""#,
        r##"
error: `on call` is not a token's name
 --> gateway.toml:1:15
  |
1 | [admin.tokens."on call"]
  |               ^^^^^^^^^
  |
  = help: a name has 1 to 64 letters, digits, `_` and `-`

error: `admin.tokens."on call".file` is not the path of a file: ""
 --> gateway.toml:2:8
  |
2 | file = ""
  |        ^^
  |
  = help: write it like "./token"; the first line of the file is the token

error: `admin.tokens.b.env` is not the name of an environment variable: "2ND=x"
 --> gateway.toml:4:7
  |
4 | env = "2ND=x"
  |       ^^^^^^^
  |
  = help: a name has 1 to 128 letters, digits and `_`, no digit in front

error: `admin.tokens.c.env` must be the name of a variable, not a whole number
 --> gateway.toml:6:7
  |
6 | env = 7
  |       ^
  |
  = help: write it in quotes, for example "ORCHESTRATOR_TOKEN"

error: unknown key `path` in `[admin.tokens.c]`
 --> gateway.toml:7:1
  |
7 | path = "./token"
  | ^^^^ unknown
  |
  = help: known in `[admin.tokens.c]`: `file`, `env`
"##,
    );
}

#[test]
fn tokens_are_not_without_number() {
    let token = |number| format!("admin.tokens.t{number}.env = 'T'\n");
    let tokens: String = (0..101).map(token).collect();
    check(
        &tokens,
        r##"
error: 101 tokens are configured
 --> gateway.toml:1:7
  |
1 | admin.tokens.t0.env = 'T'
  |       ^^^^^^
  |
  = help: at most 100 are allowed
"##,
    );
}
