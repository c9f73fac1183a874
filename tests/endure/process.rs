//! What the kernel says of a process and its connections (proc(5)).

use std::fs;
use std::time::Duration;

use orchestrator_tests::Gateway;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Thousands of connections need as many descriptors, here and in the endpoints, which inherit it.
pub(crate) fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// Connections of clients that the gateway holds. Those that it has closed and the kernel has yet to
/// bury belong to no process any more, and neither do those that it has yet to accept.
pub(crate) fn connections(gateway: &Gateway) -> usize {
    let port = format!(":{:04X}", gateway.listen.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table
        .lines()
        .skip(1)
        .filter(|row| {
            let fields: Vec<&str> = row.split_whitespace().collect();
            let [local, state, inode] = [fields[1], fields[3], fields[9]];
            local.ends_with(&port) && state != LISTENING && inode != "0"
        })
        .count()
}

const LISTENING: &str = "0A";

/// Whether a process is there, and not merely waiting to be buried.
pub(crate) fn is_alive(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, in brackets, may have spaces.
    stat.rsplit(')')
        .next()
        .and_then(|rest| rest.split(' ').nth(1))
        .is_some_and(|state| state != "Z")
}

/// Whether this comes true within a second.
pub(crate) async fn settles(holds: impl Fn() -> bool) -> bool {
    for _ in 0..100 {
        if holds() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}
