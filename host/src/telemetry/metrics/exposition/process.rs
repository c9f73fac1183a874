//! What the process takes of the machine, under the names that Prometheus's own libraries use. Read
//! from `/proc` when somebody asks; where there is none, these metrics are not there.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::family::{Family, Samples};

pub(super) fn families(started: SystemTime) -> Vec<Family> {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let spent = spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9;
    let since_epoch = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut families = vec![
        Family {
            name: "process_cpu_seconds",
            help: "CPU time that the process has taken, in user and kernel mode.",
            samples: Samples::Seconds(spent),
        },
        Family {
            name: "process_start_time_seconds",
            help: "When the gateway was started, since the Unix epoch.",
            samples: Samples::Level(since_epoch.as_secs_f64()),
        },
    ];
    let mut gauge = |name, help, value: Option<u64>| {
        let samples = value.map(|value| Samples::Level(value as f64));
        families.extend(samples.map(|samples| Family { name, help, samples }));
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    gauge(
        "process_resident_memory_bytes",
        "Memory of the process that is in RAM.",
        number(&status, "VmRSS:").map(|kib| kib * 1024),
    );
    gauge(
        "process_virtual_memory_bytes",
        "Addresses that the process has reserved, most of them for policies and never touched.",
        number(&status, "VmSize:").map(|kib| kib * 1024),
    );
    // Counting them opens one more.
    let open = fs::read_dir("/proc/self/fd").ok().map(|open| open.count().saturating_sub(1) as u64);
    gauge("process_open_fds", "Files and sockets that are open.", open);
    gauge(
        "process_max_fds",
        "Files and sockets that may be open.",
        getrlimit(Resource::Nofile).current,
    );
    gauge("process_threads", "Threads of the process.", number(&status, "Threads:"));
    families
}

/// The number on this line of `/proc/self/status`.
fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
