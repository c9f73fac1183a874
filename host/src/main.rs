//! Arguments into one verb of `cli/`.

mod cli;

/// Many small, short-lived pieces a request: the system's allocator spends twice the time on them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Half a gateway is worse than a restart: a thread that panics ends the process.
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default_hook(panic);
        std::process::abort();
    }));
    cli::run()
}
