//! `orchestrator demo`: the built-in configuration in front of three stand-in services, and what to
//! try with it. It differs from `serve` in addresses and in shorter clocks only.

mod guide;
mod stand_in;

use std::io::{IsTerminal, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use orchestrator::config::{AdminListen, AdminToken, Config, Endpoint, SourceMap, TokenSource};
use orchestrator::gateway::Gateway;

use super::{Stop, on_control_thread, refuse, start_log};
use stand_in::StandIn;

/// Nobody who tries things out wants to wait for a minute.
const OPEN_FOR: Duration = Duration::from_secs(5);
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

pub(super) fn run() -> anyhow::Result<ExitCode> {
    let (mut config, source) = Config::builtin();
    config.breaker.open_for = OPEN_FOR;
    config.health.interval = Some(CHECK_INTERVAL);
    let _log = start_log(config.log.level);
    on_control_thread(demonstrate(config, source))?
}

async fn demonstrate(mut config: Config, source: SourceMap) -> anyhow::Result<ExitCode> {
    let mut stop = Stop::listen()?;
    let mut notes = Vec::new();
    for service in &mut config.services {
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, service.endpoints[0].port));
        let listener = bind_or_any(wanted, &service.name, &mut notes)?;
        let address = listener.local_addr()?;
        StandIn::start(&service.name, listener)?;
        service.endpoints = vec![Endpoint {
            url: format!("http://{address}"),
            host: address.ip().to_string(),
            port: address.port(),
            authority: address.to_string(),
            weight: 1,
        }];
        service.health.interval = Some(CHECK_INTERVAL);
        service.breaker.open_for = OPEN_FOR;
    }
    // The gateway binds by itself; here its ports are only tried.
    let listen = &mut config.server.listen;
    *listen = bind_or_any(*listen, "gateway", &mut notes)?.local_addr()?;
    if let AdminListen::Tcp(listen) = &mut config.admin.listen {
        *listen = bind_or_any(*listen, "admin", &mut notes)?.local_addr()?;
    }

    // Whoever sees the demo's words may replace its policies.
    let mut secret = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
    let token = format!("{:032x}", u128::from_ne_bytes(secret));
    let mut token_file = tempfile::NamedTempFile::new()?;
    writeln!(token_file, "{token}")?;
    config.admin.tokens = vec![AdminToken {
        name: "demo".to_owned(),
        source: TokenSource::File(token_file.path().to_owned()),
    }];

    let told = config.clone();
    let gateway = match Gateway::start(config, &source).await {
        Ok(gateway) => gateway,
        Err(error) => return refuse(error),
    };
    let guide = guide::Guide {
        config: &told,
        listen: gateway.listen(),
        admin: gateway.admin(),
        token: &token,
        notes: &notes,
        coloured: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    write!(std::io::stdout().lock(), "{guide}")?;

    stop.ended().await;
    tracing::info!("draining; a second signal ends at once");
    tokio::select! {
        () = gateway.shutdown() => Ok(ExitCode::SUCCESS),
        () = stop.ended() => Ok(ExitCode::FAILURE),
    }
}

/// A listener at this address or, where somebody else has it, at any free port, and a note that
/// says so.
fn bind_or_any(
    wanted: SocketAddr,
    who: &str,
    notes: &mut Vec<String>,
) -> std::io::Result<TcpListener> {
    match TcpListener::bind(wanted) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let listener = TcpListener::bind((wanted.ip(), 0))?;
            let port = listener.local_addr()?.port();
            notes.push(format!("port {} is taken: {who} is on {port} instead", wanted.port()));
            Ok(listener)
        }
        bound => bound,
    }
}
