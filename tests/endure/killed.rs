//! Two endpoints, one of them killed with -9 every 2 s, under load.
//!
//! Each POST carries an id of its own, which an endpoint writes down before it answers. A POST that
//! was under way when its endpoint died may fail, for nobody knows whether it took effect; but no id
//! may ever be written twice, and none may be missing that was answered 200. No GET may fail.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use orchestrator_tests::Gateway;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::endpoint::{Endpoint, service};
use crate::load::{Caller, Tally, get, pace, post};
use crate::{Verdicts, figure};

const CLIENTS: u32 = 32;

/// GETs a second, and as many POSTs.
const EACH_PER_S: u32 = 2_000;

/// From one request of a client to its next.
const PERIOD_MS: u64 = 1000 * CLIENTS as u64 / EACH_PER_S as u64;

const KILL_EVERY: Duration = Duration::from_secs(2);
const DOWN_FOR: Duration = Duration::from_millis(600);

pub(crate) async fn run(quick: bool, verdicts: &mut Verdicts) {
    let (time, posts_wanted) = match quick {
        true => (Duration::from_secs(10), 10_000),
        false => (Duration::from_secs(60), 100_000),
    };
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("processed");
    let record = record.to_str().unwrap();
    let mut endpoints = [Endpoint::start(record).await, Endpoint::start(record).await];
    let service = service(&[&endpoints[0], &endpoints[1]]);
    let access = folder.path().join("access.log");
    let gateway = Gateway::start(format!(
        "{service}\nbreaker.open_for = \"1s\"\nserver.workers = 2\nlog.access = {access:?}\n"
    ))
    .await;

    let began = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(gateway.listen, number, time, posts_wanted / u64::from(CLIENTS)));
    }
    let mut kills = 0_usize;
    let mut ticks = tokio::time::interval(KILL_EVERY);
    let (mut gets, mut posts, mut answered) = (Tally::default(), Tally::default(), Vec::new());
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let victim = &mut endpoints[kills % 2];
                kills += 1;
                // The clients have the same clock and send at its ticks: not always just before them.
                tokio::time::sleep(Duration::from_millis(kills as u64 * 3 % PERIOD_MS)).await;
                victim.kill().await;
                tokio::time::sleep(DOWN_FOR).await;
                victim.up().await;
            }
            ended = clients.join_next() => match ended {
                Some(ended) => {
                    let (its_gets, its_posts, its_answered) = ended.unwrap();
                    gets.add(its_gets);
                    posts.add(its_posts);
                    answered.extend(its_answered);
                }
                None => break,
            },
        }
    }
    let took = began.elapsed();

    let mut processed: HashMap<&str, u32> = HashMap::new();
    let lines = fs::read_to_string(record).unwrap();
    for id in lines.lines() {
        *processed.entry(id).or_default() += 1;
    }
    let twice: Vec<_> = processed.iter().filter(|(_, times)| **times > 1).take(5).collect();
    let lost = answered.iter().filter(|id| !processed.contains_key(id.as_str())).count();
    let per_s = (gets.requests + posts.requests) as f64 / took.as_secs_f64();
    figure("load", format!("{took:.1?}, {per_s:.0} requests/s, {kills} kills"));
    figure("GET", gets.durations());
    figure("POST", posts.durations());
    figure("POSTs that failed with their endpoint", posts.said());
    verdicts.verdict(gets.errors == 0, "no GET fails", gets.said());
    if gets.errors > 0 {
        let log = fs::read_to_string(&access).unwrap();
        let failed = |line: &&str| line.contains("\"GET\"") && !line.contains("\"status\":200");
        log.lines().filter(failed).take(5).for_each(|line| figure("its line", line));
        let metrics = gateway.metrics().await.0;
        metrics
            .lines()
            .filter(|line| line.contains("retr"))
            .for_each(|line| figure("metric", line));
    }
    let enough = posts.requests >= posts_wanted && took < time * 3;
    verdicts.verdict(enough, &format!("{posts_wanted} POSTs are sent"), posts.requests);
    let many = format!("{} processed, twice: {twice:?}", processed.len());
    verdicts.verdict(twice.is_empty(), "no POST is processed twice", many);
    verdicts.verdict(
        lost == 0,
        "each POST that was answered 200 was processed",
        format!("{lost} not"),
    );
    // What fails may fail only with the endpoint: those under way at a kill, not those that follow.
    let most = kills as u64 * u64::from(CLIENTS);
    let failed = format!("{} of at most {most}", posts.errors);
    verdicts.verdict(posts.errors <= most, "POSTs fail only while under way at a kill", failed);
}

/// Sends a GET and a POST in turn, for this time and until it has sent so many POSTs.
async fn client(
    gateway: SocketAddr,
    number: u32,
    time: Duration,
    posts_wanted: u64,
) -> (Tally, Tally, Vec<String>) {
    let (mut gets, mut posts, mut answered) = (Tally::default(), Tally::default(), Vec::new());
    let mut caller = Caller::new(gateway);
    let mut ticks = pace(EACH_PER_S, CLIENTS);
    let began = Instant::now();
    while began.elapsed() < time || (posts.requests <= posts_wanted && began.elapsed() < 3 * time) {
        ticks.tick().await;
        let at = Instant::now();
        gets.count(200, at, &caller.call(&get("/answer")).await);
        let id = format!("{number}-{}", posts.requests);
        let at = Instant::now();
        if posts.count(200, at, &caller.call(&post("/record", &id)).await) {
            answered.push(id);
        }
    }
    (gets, posts, answered)
}
