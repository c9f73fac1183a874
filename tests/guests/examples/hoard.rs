//! Takes memory, touches it and keeps it, until there is no more.

use orchestrator_policy::{Decision, Request};

fn misbehave<'a>(_: &Request, service: &'a str) -> Decision<'a> {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    while kept.len() < 1 << 20 {
        kept.push(vec![1; 1 << 20]);
        std::hint::black_box(&kept);
    }
    Decision::forward(service)
}

orchestrator_guests::hostile_routing!(misbehave);
