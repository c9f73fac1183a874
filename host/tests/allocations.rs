//! How often a proxied request allocates: each time costs, and what they come to is easily forgotten.

#[path = "../benches/common/in_process.rs"]
mod in_process;
#[path = "../benches/common/loading.rs"]
mod loading;

use std::path::Path;

use dhat::{HeapStats, Profiler};
use in_process::Client;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// A number to be made smaller. Where it has to grow, the commit says for what.
const PER_REQUEST: f64 = 25.0;

const REQUESTS: u32 = 2000;

#[test]
fn of_a_small_request() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("allocations");
    in_process::compile(&folder, env!("CARGO_BIN_EXE_orchestrator").as_ref());
    let mut client = Client::of_a_gateway(&folder);
    let _counting = Profiler::builder().testing().build();
    let before = HeapStats::get().total_blocks;
    client.requests(REQUESTS);
    let each = (HeapStats::get().total_blocks - before) as f64 / f64::from(REQUESTS);
    // The control thread looks around now and then.
    assert!((PER_REQUEST - 0.5..PER_REQUEST + 0.5).contains(&each), "{each:.2}, not {PER_REQUEST}");
}
