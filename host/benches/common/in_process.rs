//! A gateway in this process, with one worker; a service behind it, and a client, that allocate nothing
//! per request. Over sockets of the loopback interface: what the kernel does is in no count.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use orchestrator::config::Config;
use orchestrator::gateway::Gateway;
use orchestrator::policy::{Engine, Kind, Sizing};

const REQUEST: &[u8] = b"GET /api/writer/notes/7?draft=1 HTTP/1.1\r\n\
    Host: gateway.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\
    Date: Thu, 26 Nov 2026 12:00:00 GMT\r\n\r\n\
    xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

/// The gateway's client.
pub(crate) struct Client {
    connection: TcpStream,
}

impl Client {
    /// Starts a gateway whose files are in `folder`, and sends it some requests, so that all of it has
    /// been used. It lives as long as the process.
    pub(crate) fn of_a_gateway(folder: &Path) -> Client {
        let service = TcpListener::bind("127.0.0.1:0").expect("a port");
        let config = config(folder, service.local_addr().expect("it is bound"));
        std::thread::spawn(move || serve(&service));
        let (started, address) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let runtime = crate::loading::runtime();
            runtime.block_on(async move {
                let (config, source) = Config::load(&config).expect("a good configuration");
                let gateway = Gateway::start(config, &source).await.expect("it starts");
                gateway.stop_clock(); // One of these may be counted, and takes long then.
                started.send(gateway.listen()).expect("somebody waits");
                std::future::pending::<()>().await;
            });
        });
        let address = address.recv().expect("the gateway starts");
        let connection = TcpStream::connect(address).expect("it listens");
        connection.set_nodelay(true).expect("it is open");
        let mut client = Client { connection };
        client.requests(100);
        client
    }

    /// Sends so many requests, one after the other.
    pub(crate) fn requests(&mut self, count: u32) {
        let mut answer = [0; 4096];
        for _ in 0..count {
            self.connection.write_all(REQUEST).expect("the gateway reads");
            read_to(&mut self.connection, &mut answer, ANSWER[ANSWER.len() - 100..].as_ref());
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        }
    }
}

/// One service for one connection after the other.
fn serve(service: &TcpListener) {
    for connection in service.incoming() {
        let mut connection = connection.expect("somebody connects");
        let mut request = [0; 4096];
        while read_to(&mut connection, &mut request, b"\r\n\r\n") > 0 {
            connection.write_all(ANSWER).expect("the gateway reads");
        }
    }
}

/// Reads until what was read ends like this: how many bytes, and none where the peer has closed.
fn read_to(connection: &mut TcpStream, buffer: &mut [u8], end: &[u8]) -> usize {
    let mut filled = 0;
    while !buffer[..filled].ends_with(end) {
        match connection.read(&mut buffer[filled..]).expect("the peer is there") {
            0 => return 0,
            count => filled += count,
        }
    }
    filled
}

/// Has the default policies compiled by this program, into where the gateway in this folder looks.
pub(crate) fn compile(folder: &Path, program: &Path) {
    let (config, runtime) = (load(folder), crate::loading::runtime());
    let engine = engine(&config, folder, program);
    for kind in Kind::ALL {
        crate::loading::load(&runtime, &engine, kind, config.policy(kind));
    }
}

/// An engine that compiles by this program and keeps what it compiled in this folder.
pub(crate) fn engine(config: &Config, folder: &Path, program: &Path) -> Engine {
    let sizing = Sizing::of(1, Kind::ALL.map(|kind| &config.policy(kind).limits));
    Engine::new(sizing, program.to_owned())
        .expect("the pool can be reserved")
        .with_cache(&folder.join("compiled"))
        .expect("the folder can be made")
}

/// The configuration of a gateway in this folder, which has no service.
pub(crate) fn load(folder: &Path) -> Config {
    let file = config(folder, ([127, 0, 0, 1], 1).into());
    Config::load(&file).expect("a good configuration").0
}

/// Writes a configuration file. Compiled policies are kept beside it.
fn config(folder: &Path, service: SocketAddr) -> PathBuf {
    let file = folder.join("gateway.toml");
    let text = format!(
        r#"
[server]
listen = "127.0.0.1:0"
workers = 1
cache_dir = "./compiled"
watch = false
[admin]
listen = "127.0.0.1:0"
[log]
level = "error"
access = "./access.log"
[health]
interval = "off"
[policy_limits]             # valgrind needs more of everything, but for address space
instances_max = 1
compile_memory_max = "16GiB"
compile_cpu = "10m"
compile_timeout = "10m"
configure_timeout = "1m"
decision_timeout = "1s"
wall_timeout = "10s"
[services.writer]
endpoints = ["http://{service}"]
[policy.routing]
component = "builtin:routing"
[[policy.routing.config.routes]]
path_prefix = "/api/writer"
rewrite_prefix = "/"
service = "writer"
"#
    );
    fs::create_dir_all(folder).expect("a folder");
    fs::write(&file, text).expect("a file");
    file
}
