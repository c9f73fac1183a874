//! A load of a fixed rate, whoever is slow: requests are due at fixed moments, are sent over the first
//! connection that is free, and their latency counts from the moment they were due. Prints one line of
//! JSON: requests, errors, and percentiles of the latency in microseconds.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

/// What is not answered so long after the last request was due is an error.
const PATIENCE: Duration = Duration::from_secs(5);

struct Connection {
    socket: TcpStream,
    /// Of the request that is under way: when it was due.
    due: Option<Instant>,
    received: Vec<u8>,
}

pub(crate) fn run(address: SocketAddr, target: &str, connections: u32, per_s: u32, seconds: u32) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes();
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let mut all: Vec<Connection> = (0..connections).map(|_| Connection::to(address)).collect();
    for (number, connection) in all.iter().enumerate() {
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&poll, connection.socket.as_fd(), data, epoll::EventFlags::IN).unwrap();
    }
    let mut free: VecDeque<usize> = (0..all.len()).collect();
    let period = Duration::from_secs(1) / per_s;
    let total = u64::from(per_s) * u64::from(seconds);
    let mut micros: Vec<u32> = Vec::with_capacity(usize::try_from(total).unwrap());
    let mut errors = 0;
    let began = Instant::now();
    let due = |number: u64| began + Duration::from_nanos(number * period.as_nanos() as u64);
    let mut next = 0;
    let mut events = Vec::with_capacity(1024);
    let over = due(total) + PATIENCE;
    while micros.len() as u64 + errors < total && Instant::now() < over {
        while next < total && due(next) <= Instant::now() && !free.is_empty() {
            let number = free.pop_front().expect("there is one");
            all[number].due = Some(due(next));
            all[number].socket.write_all(&request).expect("a small request fits");
            next += 1;
        }
        // Without a free connection an answer is what comes next.
        let wait = match free.is_empty() || next == total {
            true => Duration::from_millis(100),
            false => due(next).saturating_duration_since(Instant::now()),
        };
        events.clear();
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("epoll: {error}"),
        }
        for event in &events {
            let number = usize::try_from(event.data.u64()).unwrap();
            let connection = &mut all[number];
            let Some(ok) = connection.answered() else { continue };
            let due = connection.due.take().expect("it was asked");
            match ok {
                true => micros.push(due.elapsed().as_micros().try_into().unwrap_or(u32::MAX)),
                false => errors += 1,
            }
            free.push_back(number);
        }
    }
    errors += total - micros.len() as u64 - errors;
    micros.sort_unstable();
    let at = |part: f64| {
        let index = (micros.len() as f64 * part) as usize;
        micros.get(index.min(micros.len().saturating_sub(1))).copied().unwrap_or(0)
    };
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(at);
    let took = began.elapsed().as_secs_f64();
    println!(
        r#"{{"requests":{},"errors":{errors},"seconds":{took},"p50":{p50},"p99":{p99},"p999":{p999}}}"#,
        micros.len()
    );
}

impl Connection {
    fn to(address: SocketAddr) -> Connection {
        let socket = TcpStream::connect(address).expect("the proxy listens");
        socket.set_nodelay(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        Connection { socket, due: None, received: Vec::new() }
    }

    /// Reads what is there. Some: the answer is whole, and whether it is a 200.
    fn answered(&mut self) -> Option<bool> {
        let mut piece = [0; 4096];
        loop {
            match self.socket.read(&mut piece) {
                Ok(0) => panic!("the proxy closed a connection"),
                Ok(count) => self.received.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the proxy broke a connection: {error}"),
            }
        }
        let head_bytes = self.received.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.received[..head_bytes]).to_ascii_lowercase();
        // FastAPI's stand-in streams, and so may answer in chunks.
        let whole = match head.split("content-length: ").nth(1) {
            Some(rest) => {
                let length = rest.lines().next().and_then(|it| it.parse::<usize>().ok());
                self.received.len() >= head_bytes + length.expect("a length is a number")
            }
            None => self.received.ends_with(b"0\r\n\r\n"),
        };
        let ok = head.starts_with("http/1.1 200");
        whole.then(|| {
            self.received.clear();
            ok
        })
    }
}
