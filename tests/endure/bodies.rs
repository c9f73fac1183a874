//! Bodies of 1 GiB, up and down, with a length and in chunks, every byte compared: the gateway's
//! memory stays what it was.

use std::net::SocketAddr;
use std::time::Instant;

use orchestrator_tests::Gateway;
use orchestrator_tests::wire::Wire;
use tokio::net::TcpStream;

use crate::endpoint::{Endpoint, send, send_chunked, service};
use crate::load::get;
use crate::pattern::Checker;
use crate::{Verdicts, figure};

const GIB: u64 = 1024 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;
const RESIDENT_MAX: u64 = 64 * MIB;

pub(crate) async fn run(verdicts: &mut Verdicts) {
    let endpoint = Endpoint::start("/dev/null").await;
    let gateway = Gateway::start(format!("{}\nserver.workers = 2\n", service(&[&endpoint]))).await;
    figure("resident before", mib(gateway.memory("VmHWM")));
    for (way, chunked) in [("up", false), ("up", true), ("down", false), ("down", true)] {
        let began = Instant::now();
        let result = match way {
            "up" => up(&gateway, chunked).await,
            _ if chunked => down(gateway.listen, &format!("/down/chunked?{GIB}"), GIB).await,
            _ => down(gateway.listen, &format!("/down?{GIB}"), GIB).await,
        };
        let framing = if chunked { "in chunks" } else { "with a length" };
        let speed = GIB as f64 / MIB as f64 / began.elapsed().as_secs_f64();
        let said = result.as_ref().map_or_else(Clone::clone, |()| format!("{speed:.0} MiB/s"));
        verdicts.verdict(result.is_ok(), &format!("1 GiB {way}, {framing}, every byte"), said);
        let peak = gateway.memory("VmHWM");
        verdicts.verdict(peak < RESIDENT_MAX, "the process stays under 64 MiB", mib(peak));
    }
}

async fn up(gateway: &Gateway, chunked: bool) -> Result<(), String> {
    let mut wire = Wire::new(TcpStream::connect(gateway.listen).await.unwrap());
    let framing = match chunked {
        true => "Transfer-Encoding: chunked".to_owned(),
        false => format!("Content-Length: {GIB}"),
    };
    let head = format!("PUT /up?{GIB} HTTP/1.1\r\nHost: gateway.test\r\n{framing}\r\n\r\n");
    let uploading = async {
        wire.send(head.as_bytes()).await?;
        match chunked {
            true => send_chunked(&mut wire, GIB).await?,
            false => send(&mut wire, GIB).await?,
        }
        wire.head().await
    };
    let head = uploading.await.map_err(|error| error.to_string())?.ok_or("no answer")?;
    let mut body = Vec::new();
    let framing = head.response_framing("PUT");
    let rest = wire.body(framing, |piece| body.extend_from_slice(piece)).await;
    rest.map_err(|error| error.to_string())?;
    if head.status() == 200 { Ok(()) } else { Err(String::from_utf8_lossy(&body).into_owned()) }
}

/// Gets a page that is this many bytes of the pattern.
pub(crate) async fn down(gateway: SocketAddr, target: &str, bytes: u64) -> Result<(), String> {
    let mut wire = Wire::new(TcpStream::connect(gateway).await.map_err(|error| error.to_string())?);
    let mut checker = Checker::default();
    let downloading = async {
        wire.send(&get(target)).await?;
        let head = wire.head().await?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        wire.body(head.response_framing("GET"), |piece| checker.see(piece)).await
    };
    downloading.await.map_err(|error| error.to_string())?;
    checker.is(bytes)
}

pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}
