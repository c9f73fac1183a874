//! What the kernel says of a process and its connections (proc(5)).

use std::fs;

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
