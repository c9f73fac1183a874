//! What is accepted, what is refused and in which words, and that nothing can panic.

mod accepted;
mod differences;
mod documented;
mod markdown;
mod reference;
mod refused_admin;
mod refused_cors;
mod refused_policies;
mod refused_sections;
mod refused_services;
mod robust;
mod shown;

use super::{Config, Diagnostics, Origin, SourceMap};

/// A valid file, short: tests put their own lines in front of it.
const VALID: &str = r#"
[services.a]
endpoints = ["http://localhost:8000"]
[policy.routing]
component = "builtin:routing"
"#;

fn parse(text: &str) -> Result<(Config, SourceMap), Diagnostics> {
    Config::parse(text, Origin { name: "gateway.toml".to_owned(), folder: "conf".into() })
}

/// The configuration that these lines and [`VALID`] make.
fn accepted(lines: &str) -> Config {
    match parse(&format!("{lines}{VALID}")) {
        Ok((config, _)) => config,
        Err(wrong) => panic!("refused:\n{wrong}"),
    }
}

/// These lines and [`VALID`] are refused with exactly this text.
fn check(lines: &str, expected: &str) {
    check_whole(&format!("{lines}{VALID}"), expected);
}

/// This file is refused with exactly this text.
fn check_whole(text: &str, expected: &str) {
    let Err(wrong) = parse(text) else { panic!("accepted:\n{text}") };
    assert_same(&wrong.render(false), expected);
}

/// Compares without the blanks at line ends, which editors like to remove, and says what came.
fn assert_same(found: &str, expected: &str) {
    let found: Vec<&str> = found.lines().map(str::trim_end).collect();
    let expected: Vec<&str> = expected.trim().lines().map(str::trim_end).collect();
    assert!(
        found == expected,
        "expected:\n{}\n\nfound:\n{}",
        expected.join("\n"),
        found.join("\n")
    );
}
