//! What may stand where in the host's sources: the invariants that are about the code itself.

use std::fs;
use std::path::{Path, PathBuf};

/// Every source file of the host, with what it says outside comments.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).expect("below the root").display().to_string();
                let text = fs::read_to_string(&path).expect("a source file");
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                sources.push((name, code.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    assert!(sources.len() > 20, "the sources were not found");
    sources
}

/// The files that contain `word`, beyond those that may.
fn elsewhere(word: &str, allowed: &[&str]) -> Vec<String> {
    let all = sources();
    let (there, others): (Vec<_>, Vec<_>) = all
        .into_iter()
        .filter(|(_, code)| code.contains(word))
        .map(|(name, _)| name)
        .partition(|name| allowed.iter().any(|allowed| name.starts_with(allowed)));
    assert!(!there.is_empty(), "`{word}` stands nowhere: the test looks for the wrong thing");
    others
}

#[test]
fn only_policy_names_wasmtime() {
    assert_eq!(elsewhere("wasmtime", &["policy/"]), [""; 0]);
}

#[test]
fn only_the_exchange_makes_attempts() {
    assert_eq!(elsewhere("forward(", &["exchange.rs", "forward.rs", "policy/"]), [""; 0]);
}

#[test]
fn only_respond_chooses_the_status_of_a_response() {
    // forward.rs and http1 know what a service's 101 and 100 mean, and io.rs passes on the latter; http1
    // writes the line that respond.rs has chosen;
    // the admin listener is no exchange; route.rs checks a policy's own status; the demo's stand-ins
    // are services, and the command line is a client.
    let allowed = ["respond.rs", "admin", "forward.rs", "http1/", "io.rs", "route.rs", "cli/"];
    assert_eq!(elsewhere("StatusCode::", &allowed), [""; 0]);
    assert_eq!(elsewhere("HTTP/1.1 ", &allowed), [""; 0]);
}
