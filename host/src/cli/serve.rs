//! `orchestrator serve`: starts the gateway and waits for a signal.

use std::path::Path;
use std::process::ExitCode;

use orchestrator::gateway::{Gateway, Stamp};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::{Asked, Stop, load, on_control_thread, refuse, start_log};

pub(super) fn run(path: Option<&Path>) -> anyhow::Result<ExitCode> {
    // Before it is read: what changes from here on is noticed.
    let stamp = path.map(Stamp::of);
    let (config, source) = match load(path) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            return refuse(orchestrator::gateway::StartError::Refused(diagnostics));
        }
    };
    let _log = start_log(config.log.level);
    raise_descriptor_limit();
    on_control_thread(async {
        let mut stop = Stop::listen()?;
        let started = tokio::select! {
            started = Gateway::start(config, &source) => started,
            // Nothing is served yet: nothing is to be drained.
            () = stop.ended() => return Ok(ExitCode::FAILURE),
        };
        let mut gateway = match started {
            Ok(gateway) => gateway,
            Err(error) => return refuse(error),
        };
        tracing::info!(listen = %gateway.listen(), admin = %gateway.admin(), "ready");
        gateway.watch(path.zip(stamp));
        while stop.next().await == Asked::Reload {
            tokio::select! {
                () = gateway.reload(path) => {}
                // A version may take its time: what is under way is tried again at the next start.
                () = stop.ended() => break,
            }
        }
        tracing::info!("draining; a second signal ends at once");
        tokio::select! {
            () = gateway.shutdown() => {}
            () = stop.ended() => return Ok(ExitCode::FAILURE),
        }
        tracing::info!("drained");
        Ok(ExitCode::SUCCESS)
    })?
}

/// As many descriptors as the system lets this process have: each request may need two.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
