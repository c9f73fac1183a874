//! Helpful: forwards to the first service, with a request header `x-version` that its configuration
//! says: `{"version": "a"}`. Where the configuration has a `memory`, its answers depend on more than
//! the request: `"counts"` the requests, `"remembers"` the last one's path, `"shuffles"` as std's maps
//! do, `"tires"`, so that there is no end to a decision after some.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::hint::black_box;

use orchestrator_policy::config::Document;
use orchestrator_policy::{ConfigError, Decision, Request, RoutingPolicy, Setup};

#[derive(Debug)]
pub struct Guest {
    service: String,
    version: String,
    memory: String,
    count: Cell<u64>,
    last: RefCell<String>,
}

orchestrator_policy::export_routing!(Guest);

impl RoutingPolicy for Guest {
    fn configure(setup: &Setup) -> Result<Self, Vec<ConfigError>> {
        let document = Document::parse(setup.config())?;
        let table = document.table(&["version", "memory"]);
        let text = |key: &str| {
            let node = table.get(key);
            node.as_ref().and_then(|node| node.text()).unwrap_or_default().to_owned()
        };
        let (version, memory) = (text("version"), text("memory"));
        document.finish(())?;
        let service = orchestrator_guests::first_service(setup)?;
        Ok(Guest { service, version, memory, count: Cell::default(), last: RefCell::default() })
    }

    fn route(&self, request: &Request) -> Decision<'_> {
        let decision = Decision::forward(&self.service).request_header("x-version", &*self.version);
        let remembered = match self.memory.as_str() {
            "counts" => self.count.replace(self.count.get() + 1).to_string(),
            "remembers" => self.last.replace(request.path()),
            "shuffles" => shuffled(),
            "tires" => {
                let count = self.count.replace(self.count.get() + 1);
                while black_box(count) >= 6 {}
                return decision;
            }
            _ => return decision,
        };
        decision.request_header("x-memory", remembered)
    }
}

/// In the order of a set whose hasher is another one each time.
fn shuffled() -> String {
    let numbers: HashSet<u32> = (0..32).collect();
    numbers.iter().map(|number| format!("{number} ")).collect()
}
