//! Whatever a file says: no panic, and every refusal has its place.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{VALID, parse};
use crate::policy::Kind;

const BUILTIN: &str = include_str!("../default.toml");

/// Pieces of TOML that are likely to meet the reader, the parser and the renderer at odd places.
const PIECES: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    "\r\n",
    "\r",
    "\"",
    "'",
    "\"\"\"",
    "#",
    " ",
    "\t",
    "\u{0}",
    "\u{1b}[31m",
    "\u{feff}",
    "é",
    "漢字",
    "👩‍👩‍👧",
    "\u{202e}",
    "true",
    "off",
    "nan",
    "-1",
    "0x7f",
    "1e400",
    "99999999999999999999",
    "1979-05-27T07:32:00Z",
    "\"30s\"",
    "\"64KiB\"",
    "\"*\"",
    "\"http://[::1]:80\"",
    "\"http://\"",
    "\"builtin:retry\"",
    "\"\\u0000\"",
    "services",
    "policy",
    "routing",
    "retry",
    "config",
    "cors",
    "allow_origins",
    "allow_credentials",
    "proxy",
    "attempt_timeout",
    "server",
    "admin",
    "listen",
    "\"127.0.0.1:8003\"",
    "\"unix:\"",
    "\"unix:/run/orchestrator.sock\"",
    "tokens",
    "file",
    "env",
    "\"TOKEN\"",
    "policy_limits",
    "fault_threshold",
    "instances",
    "cases",
    "[[policy.routing.cases]]",
    "endpoints",
    "component",
];

fn never_panics(text: &str) -> Result<(), TestCaseError> {
    let wrong = match parse(text) {
        Ok((config, map)) => {
            config.differences_that_need_a_restart(&super::Config::builtin().0);
            let error = map.policy_error(Kind::Routing, "/routes/1/~1", text, Some(text));
            error.render(true);
            prop_assert!(error.position().is_some());
            let error = map.case_error(Kind::Routing, "/0/request", text);
            error.render(true);
            prop_assert!(error.position().is_some());
            return Ok(());
        }
        Err(wrong) => wrong,
    };
    wrong.render(true);
    prop_assert!(serde_json::to_string(&wrong).is_ok());
    prop_assert!(wrong.iter().count() > 0);
    for one in wrong.iter() {
        let Some((line, column)) = one.position() else {
            return Err(TestCaseError::fail(format!("no place: {}", one.message())));
        };
        let text = text.split('\n').nth(line - 1).unwrap_or("");
        prop_assert!(column <= text.chars().count() + 1, "{line}:{column} is not in the file");
    }
    Ok(())
}

/// Of each kind: together 40,000 files and pointers.
const CASES: u32 = 10_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn arbitrary_text(text in any::<String>()) {
        never_panics(&text)?;
    }

    #[test]
    fn arbitrary_pieces(pieces in vec(select(PIECES), 0..40), valid in any::<bool>()) {
        never_panics(&format!("{}{}", pieces.concat(), if valid { VALID } else { "" }))?;
    }

    #[test]
    fn a_valid_file_with_a_hole_or_a_patch(
        from in 0..BUILTIN.len(),
        length in 0_usize..40,
        pieces in vec(select(PIECES), 0..4),
    ) {
        let from = BUILTIN.floor_char_boundary(from);
        let to = BUILTIN.ceil_char_boundary(from + length);
        never_panics(&format!("{}{}{}", &BUILTIN[..from], pieces.concat(), &BUILTIN[to..]))?;
    }

    #[test]
    fn any_pointer_of_a_policy(pointer in any::<String>(), message in any::<String>()) {
        let (_, map) = super::Config::builtin();
        for kind in [Kind::Routing, Kind::Retry] {
            let about_config = map.policy_error(kind, &pointer, &message, Some(&message));
            for error in [about_config, map.case_error(kind, &pointer, &message)] {
                error.render(true);
                prop_assert!(error.position().is_some());
            }
        }
    }
}

#[test]
fn nesting_and_size_have_their_limits() {
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
        format!("{} = 1", vec!["a"; 100_000].join(".")),
        format!("[{}]", vec!["a"; 100_000].join(".")),
        "[[a]]\n".repeat(100_000),
        (0..100_000).map(|n| format!("a{n} = 1\n")).collect(),
        format!("{BUILTIN}#{}", " ".repeat(super::super::CONFIG_BYTES_MAX)),
    ] {
        let Err(wrong) = parse(&text) else { panic!("accepted") };
        assert!(wrong.iter().all(|one| one.position().is_some()));
        assert!(wrong.render(false).len() < 100_000);
    }
}

#[test]
fn a_place_between_carriage_return_and_line_feed_is_rendered() {
    for text in ["a\r\r\n", "a =\r\r\n", "a = 1\r\r\n", "[a\r\r\n", "a = \"\r\r\n"] {
        never_panics(text).unwrap();
    }
}
