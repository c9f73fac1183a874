//! Slow clients by the thousand, made by slowhttptest: heads that never end, bodies that trickle,
//! readers that hardly read. Meanwhile others are served, memory is bounded, and the slow ones are
//! shed when their time is over.

use std::process::Stdio;
use std::time::{Duration, Instant};

use orchestrator_tests::Gateway;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::watch;

use crate::endpoint::{Endpoint, service};
use crate::load::{Caller, Tally, get, pace};
use crate::process::connections;
use crate::{Verdicts, figure};

/// Clients of the other traffic, and the requests a second that they make together.
const OTHERS: u32 = 8;
const OTHERS_PER_S: u32 = 400;

/// How many there are; fewer in a quick run.
const COUNT: usize = 2_000;

/// What each client's connection may cost, together with that to the service where one is made for it, in bytes.
const RESIDENT_MAX: u64 = 24 * 1024;
const RESIDENT_ONCE: u64 = 512 * 1024;

/// Connections that slowhttptest makes in a second.
const RATE: usize = 1_000;

/// From the moment that a limit is over to the moment that the last connection is gone: a busy machine.
const SLACK: Duration = Duration::from_secs(5);

/// Nothing here lasts longer.
const LONGEST: Duration = Duration::from_secs(40);

struct Attack {
    name: &'static str,
    /// slowhttptest's own words.
    arguments: &'static str,
    /// How long the gateway lets one of them go on.
    allowed: Duration,
}

/// The gateway's limits have their defaults.
const ATTACKS: [Attack; 3] = [
    Attack {
        name: "slow heads",
        arguments: "-H -i 3 -x 24",
        // `header_timeout`
        allowed: Duration::from_secs(10),
    },
    Attack {
        name: "slow bodies",
        arguments: "-B -i 3 -x 10 -s 8192",
        // `body_rate_min`, over 10 s
        allowed: Duration::from_secs(10),
    },
    Attack {
        name: "slow readers",
        arguments: "-X -n 3 -z 8 -w 8 -y 16",
        // `body_rate_min`, over 10 s
        allowed: Duration::from_secs(10),
    },
];

pub(crate) async fn run(quick: bool, verdicts: &mut Verdicts) {
    let count = if quick { COUNT / 4 } else { COUNT };
    for attack in ATTACKS {
        under(&attack, count, verdicts).await;
    }
}

/// What was seen while an attack went on.
#[derive(Debug, Default)]
struct Seen {
    /// The most connections at once, but for those of the others.
    most: usize,
    /// The most sockets that there were, and what they cost while all were there: the median, in bytes.
    sockets: usize,
    resident: u64,
    /// From the moment that all were there to the moment that the last was gone.
    shed_after: Option<Duration>,
}

async fn under(attack: &Attack, count: usize, verdicts: &mut Verdicts) {
    println!("  {count} {}", attack.name);
    let folder = TempDir::new().unwrap();
    let access = folder.path().join("access.log");
    let endpoint = Endpoint::start("/dev/null").await;
    let service = service(&[&endpoint]);
    let gateway =
        Gateway::start(format!("{service}\nserver.workers = 2\nlog.access = {access:?}\n")).await;

    // The others come first and go last: what they cost belongs to the baseline.
    let (stop, stopped) = watch::channel(false);
    let others: Vec<_> =
        (0..OTHERS).map(|_| tokio::spawn(other(gateway.listen, stopped.clone()))).collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = (gateway.resident(), gateway.sockets());

    let target = format!("http://{}/down?1048576", gateway.listen);
    let mut command = Command::new("slowhttptest");
    command.args(attack.arguments.split(' ')).args(["-u", &target]);
    command.args(["-c", &count.to_string(), "-r", &RATE.to_string(), "-p", "5"]);
    command.args(["-l", &LONGEST.as_secs().to_string()]);
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut slow = command.spawn().expect("slowhttptest: tests/endure/run installs it");
    let seen = watch_it(&gateway, count, before).await;
    slow.kill().await.unwrap();
    stop.send_replace(true);
    let mut tally = Tally::default();
    for other in others {
        tally.add(other.await.unwrap());
    }

    figure("others", tally.durations());
    verdicts.verdict(tally.errors == 0, "the others are served without an error", tally.said());
    verdicts.verdict(
        seen.most >= count,
        "all are held at once",
        format!("{} of {count}", seen.most),
    );
    let each = seen.resident as f64 / 1024.0 / count as f64;
    let said = format!("{each:.1} KiB, {} sockets", seen.sockets);
    // Few clients share what the process needs once.
    let once = if count < COUNT { RESIDENT_ONCE } else { 0 };
    let criterion = "at most 24 KiB resident for each client, its service's connection included";
    let most = RESIDENT_MAX * count as u64 + once;
    verdicts.verdict(seen.resident <= most, criterion, said);
    let in_time = seen.shed_after.is_some_and(|after| after <= attack.allowed + SLACK);
    let said = match seen.shed_after {
        Some(after) => format!("{after:.1?} after the last came"),
        None => "some were still there in the end".into(),
    };
    let criterion = format!("all are shed within {:?} and {SLACK:?} of slack", attack.allowed);
    verdicts.verdict(in_time, &criterion, said);
}

async fn watch_it(gateway: &Gateway, count: usize, before: (u64, usize)) -> Seen {
    let mut seen = Seen::default();
    let began = Instant::now();
    let mut all_there = None;
    let mut resident = Vec::new();
    while began.elapsed() < LONGEST {
        let held = connections(gateway).saturating_sub(OTHERS as usize);
        seen.most = seen.most.max(held);
        if held >= count {
            // Apart, for memory comes back later than sockets close.
            seen.sockets = seen.sockets.max(gateway.sockets().saturating_sub(before.1));
            resident.push(gateway.resident().saturating_sub(before.0));
            all_there.get_or_insert_with(Instant::now);
        }
        if held == 0 && seen.most > 0 {
            seen.shed_after = all_there.map(|since| since.elapsed());
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    resident.sort_unstable();
    seen.resident = resident.get(resident.len() / 2).copied().unwrap_or_default();
    seen
}

/// A client of the usual kind, until it is told to stop.
async fn other(gateway: std::net::SocketAddr, stopped: watch::Receiver<bool>) -> Tally {
    let mut tally = Tally::default();
    let mut caller = Caller::new(gateway);
    let mut ticks = pace(OTHERS_PER_S, OTHERS);
    while !*stopped.borrow() {
        ticks.tick().await;
        let at = Instant::now();
        tally.count(200, at, &caller.call(&get("/answer")).await);
    }
    tally
}
