//! Requests on good and on evil paths, as many of the one as of the other, at a pace and over kept
//! connections.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at};

use super::table::{Behaviour, End, Kind};
use crate::load::{Caller, Tally, get};

/// Requests a second, both halves together.
const PER_S: u32 = 400;

/// Connections that ask for good and evil in turn.
const CLIENTS: u32 = 12;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traffic {
    kind: Kind,
    at_once: u32,
    never_answered: bool,
    /// What may come of an evil request.
    evil: &'static [u16],
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Halves {
    pub(crate) good: Tally,
    pub(crate) evil: Tally,
}

impl Halves {
    pub(crate) fn add(&mut self, other: Halves) {
        self.good.add(other.good);
        self.evil.add(other.evil);
    }
}

impl Traffic {
    /// To a gateway whose policy behaves, or where one that does decides for it.
    pub(crate) fn decided_well(kind: Kind, behaviour: &Behaviour) -> Traffic {
        let evil: &[u16] = if behaviour.never_answered { &[503] } else { &[200] };
        let Behaviour { at_once, never_answered, .. } = *behaviour;
        Traffic { kind, at_once, never_answered, evil }
    }

    /// To one whose policy misbehaves, and that has no other. A fault of routing is answered 503; where
    /// the judge fails the client gets what the service said, which is 503 too.
    pub(crate) fn misdecided(kind: Kind, behaviour: &Behaviour) -> Traffic {
        let well = Traffic::decided_well(kind, behaviour);
        let evil: &[u16] = match behaviour.end {
            End::Fault(_) => &[503],
            End::HalfFault(_) | End::SomeFault(_) => &[200, 503],
            End::Allowed => well.evil,
        };
        Traffic { evil, ..well }
    }

    /// Sends for this time.
    pub(crate) async fn send(self, gateway: SocketAddr, time: Duration) -> Halves {
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let paths = if self.at_once > 0 { &[GOOD][..] } else { &[GOOD, EVIL][..] };
            let per_s = PER_S / if self.at_once > 0 { 2 } else { 1 };
            // Not all at the same moment, and not all the same path.
            let period = Duration::from_secs(1) * CLIENTS / per_s;
            let turn = Turn { period, first: period * number / CLIENTS, skip: number as usize };
            clients.spawn(self.client(gateway, time, paths, turn));
        }
        if self.at_once > 0 {
            let period = Duration::from_secs(2) * self.at_once / PER_S;
            for _ in 0..self.at_once {
                let turn = Turn { period, first: Duration::ZERO, skip: 0 };
                clients.spawn(self.client(gateway, time, &[EVIL], turn));
            }
        }
        let mut halves = Halves::default();
        while let Some(client) = clients.join_next().await {
            halves.add(client.unwrap());
        }
        halves
    }

    async fn client(
        self,
        gateway: SocketAddr,
        time: Duration,
        paths: &'static [&'static str],
        turn: Turn,
    ) -> Halves {
        let mut halves = Halves::default();
        let mut caller = Caller::new(gateway);
        let began = Instant::now();
        let mut ticks = interval_at((began + turn.first).into(), turn.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for path in paths.iter().cycle().skip(turn.skip) {
            ticks.tick().await;
            if began.elapsed() >= time {
                break;
            }
            let request = get(&format!("{path}?{}", self.query(path)));
            let at = Instant::now();
            let answer = caller.call(&request).await;
            if *path == GOOD {
                halves.good.count(200, at, &answer);
            } else {
                let status = answer.as_ref().map_or(0, |(status, _)| *status);
                let wanted = if self.evil.contains(&status) { status } else { self.evil[0] };
                halves.evil.count(wanted, at, &answer);
            }
        }
        halves
    }

    /// What the service is to do; each request has a number of its own.
    fn query(self, path: &str) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        match self.kind {
            Kind::Routing => format!("at-once={number}"),
            Kind::Retry if self.never_answered && path == EVIL => format!("never={number}"),
            // A judge is asked about failures alone.
            Kind::Retry => format!("second={number}"),
        }
    }
}

const GOOD: &str = "/good";
const EVIL: &str = "/evil";

/// When one client sends.
#[derive(Debug, Clone, Copy)]
struct Turn {
    period: Duration,
    first: Duration,
    /// How many paths of the cycle the client skips at first.
    skip: usize,
}
