//! Forwards under a path that is not one: see `PATHS`, by `/evil/<name>`; `/evil/long` is one that is
//! six times as long when it is shown.

use orchestrator_policy::{Decision, Request};

const PATHS: [(&str, &str); 13] = [
    ("empty", ""),
    ("relative", "x"),
    ("absolute", "http://evil.example/x"),
    ("asterisk", "*"),
    ("space", "/a b"),
    ("crlf", "/a HTTP/1.1\r\nx-smuggled: 1\r\n\r\n"),
    ("nul", "/a\0b"),
    ("fragment", "/a#b"),
    ("not-ascii", "/é"),
    ("dots", "/a/../b"),
    ("encoded-dots", "/a/%2E%2e;x/b"),
    ("backslash", "/a\\b"),
    ("encoded-nul", "/a%00"),
];

fn misbehave<'a>(request: &Request, service: &'a str) -> Decision<'a> {
    let trick = orchestrator_guests::trick(request);
    if trick == "long" {
        return Decision::forward(service).path(format!("/{}", "\u{7f}".repeat(60_000)));
    }
    let path = PATHS.iter().find(|(name, _)| *name == trick).map_or("relative", |(_, path)| *path);
    Decision::forward(service).path(path)
}

orchestrator_guests::hostile_routing!(misbehave);
