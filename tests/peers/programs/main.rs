//! What `tests/peers/run` needs beside the peers themselves: the upstream behind all of them, the floor
//! (the least that a proxy made of hyper does) and a load of a fixed rate. One thread each.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program for one script, to which a panic says enough"
)]

mod floor;
mod pace;
mod upstream;

use std::net::{Ipv4Addr, SocketAddr};

/// The gateway's own, so that the floor is one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: peers upstream PORT | floor PORT UPSTREAM_PORT | \
                     pace PORT TARGET CONNECTIONS PER_SECOND SECONDS";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["upstream", port] => alone(upstream::serve(local(port))),
        ["floor", port, upstream] => alone(floor::serve(local(port), local(upstream))),
        ["pace", port, target, connections, per_s, seconds] => {
            let [connections, per_s, seconds] =
                [connections, per_s, seconds].map(|word| word.parse().expect(USAGE));
            pace::run(local(port), target, connections, per_s, seconds);
        }
        _ => panic!("{USAGE}"),
    }
}

fn local(port: &str) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port.parse::<u16>().expect(USAGE)).into()
}

fn alone(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future);
}

/// A listener whose queue holds what a thousand clients do at once.
fn listener(address: SocketAddr) -> tokio::net::TcpListener {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(4096).unwrap()
}
