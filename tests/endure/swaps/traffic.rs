//! Requests at a pace, and which versions decided them.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::load::{Caller, Tally, get, in_turn};
use crate::versions::{judged, kind_of, tried_again};

/// Connections of plain requests.
const CLIENTS: u32 = 32;

/// Connections of requests whose first attempts fail, and how many of these they make in a second.
const RETRYING: u32 = 8;
const RETRIED_PER_S: u32 = 100;

/// A request that was answered.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) attempts: usize,
    /// The number of the routing version, and of the retry version whether it is even, where that shows.
    pub(crate) routing: u32,
    pub(crate) retry: Option<u32>,
}

#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) plain: Tally,
    pub(crate) retried: Tally,
    pub(crate) seen: Vec<Seen>,
    /// Requests that saw two versions, in words.
    pub(crate) mixed: Vec<String>,
}

impl Found {
    pub(crate) fn add(&mut self, other: Found) {
        self.plain.add(other.plain);
        self.retried.add(other.retried);
        self.seen.extend(other.seen);
        self.mixed.extend(other.mixed);
    }

    /// The body of an answer is the version of each attempt.
    fn versions(&mut self, began: Instant, body: &[u8], retry: Option<u32>) {
        let text = String::from_utf8_lossy(body);
        let versions: Vec<&str> = text.split(' ').collect();
        let first = versions[0];
        match first.parse() {
            Ok(routing) if versions.iter().all(|version| *version == first) => {
                let attempts = versions.len();
                self.seen.push(Seen { began, ended: Instant::now(), attempts, routing, retry });
            }
            _ => self.mixed.push(format!("routing versions {text}")),
        }
    }
}

/// Requests a second that are answered where each client sends the next one at once.
pub(crate) async fn saturation(gateway: SocketAddr, time: Duration) -> f64 {
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(async move {
            let mut caller = Caller::new(gateway);
            let mut answered = 0_u64;
            while began.elapsed() < time {
                answered += u64::from(caller.call(&get("/version")).await.is_ok());
            }
            answered
        });
    }
    let answered: u64 = clients.join_all().await.into_iter().sum();
    answered as f64 / began.elapsed().as_secs_f64()
}

/// All traffic but the flows, for this time.
pub(crate) async fn send(gateway: SocketAddr, per_s: u32, time: Duration) -> Found {
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(plain(gateway, per_s, number, time));
    }
    for number in 0..RETRYING {
        clients.spawn(retried(gateway, number, time));
    }
    let mut found = Found::default();
    while let Some(client) = clients.join_next().await {
        found.add(client.unwrap());
    }
    found
}

async fn plain(gateway: SocketAddr, per_s: u32, number: u32, time: Duration) -> Found {
    let mut found = Found::default();
    let mut caller = Caller::new(gateway);
    let mut ticks = in_turn(per_s, CLIENTS, number);
    let began = Instant::now();
    while began.elapsed() < time {
        let ready = Instant::now();
        let due = ticks.tick().await.into_std();
        let sent = Instant::now();
        // What had to wait for a slow one is slow too; that the clock has ticked late is not its fault.
        let began = if due < ready { due } else { sent };
        let answer = caller.call(&get("/version")).await;
        if found.plain.count(200, began, &answer)
            && let Ok((_, body)) = answer
        {
            found.versions(sent, &body, None);
        }
    }
    found
}

async fn retried(gateway: SocketAddr, number: u32, time: Duration) -> Found {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut found = Found::default();
    let mut caller = Caller::new(gateway);
    let mut ticks = in_turn(RETRIED_PER_S, RETRYING, number);
    let began = Instant::now();
    while began.elapsed() < time {
        ticks.tick().await;
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let sent = Instant::now();
        if id.is_multiple_of(2) {
            let answer = caller.call(&get(&tried_again(id))).await;
            if found.retried.count(200, sent, &answer)
                && let Ok((_, body)) = answer
            {
                found.versions(sent, &body, None);
            }
        } else {
            let answer = caller.call(&get(&judged(id))).await;
            found.judged(sent, answer);
        }
    }
    found
}

impl Found {
    fn judged(&mut self, sent: Instant, answer: io::Result<(u16, Vec<u8>)>) {
        let attempts = |body: &[u8]| body.split(|byte| *byte == b' ').count();
        let kind = answer.as_ref().ok().map(|(status, body)| kind_of(*status, attempts(body)));
        match (kind, answer) {
            (Some(Ok(kind)), Ok((status, body))) => {
                self.retried.count(status, sent, &Ok((status, Vec::new())));
                self.versions(sent, &body, Some(kind));
            }
            // The service's own answer, to an attempt that should not have been.
            (Some(Err(mixed)), Ok((status @ 200, _))) => {
                self.retried.count(status, sent, &Ok((status, Vec::new())));
                self.mixed.push(mixed);
            }
            (_, answer) => drop(self.retried.count(200, sent, &answer)),
        }
    }
}
