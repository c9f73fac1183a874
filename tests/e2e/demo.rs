//! The demo: what a newcomer is shown is what happens.

use std::time::{Duration, Instant};

use orchestrator_tests::{Client, Gateway, Reply, Request, eventually};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// Which ports are free is the same for all demos: each test has them to itself.
static PORTS: Mutex<()> = Mutex::const_new(());

/// The commands that it prints, without their expectations.
fn commands(gateway: &Gateway) -> Vec<String> {
    let lines = gateway.access.lines();
    let commands = lines.iter().filter_map(|line| line.trim().strip_prefix("curl "));
    commands.map(|line| line.split("  #").next().unwrap().trim().to_owned()).collect()
}

/// Does what `curl` would: of its options, those that the demo prints.
async fn curl(command: &str) -> Reply {
    // What is between quotes is one word.
    let words = command.split('\'').enumerate().flat_map(|(index, part)| match index % 2 {
        1 => vec![part],
        _ => part.split_whitespace().collect(),
    });
    let (mut method, mut body, mut url) = ("GET", "", "");
    let mut words = words.collect::<Vec<_>>().into_iter();
    while let Some(word) = words.next() {
        match word {
            "-i" => {}
            "-X" => method = words.next().unwrap(),
            "-d" => (method, body) = ("POST", words.next().unwrap()),
            _ => url = word,
        }
    }
    let rest = url.strip_prefix("http://").unwrap();
    let (address, path) = rest.split_at(rest.find('/').unwrap());
    let mut client = Client::connect(address.parse().unwrap()).await;
    client.call(Request::new(method, path).body(body)).await
}

/// Runs the first command whose URL ends like this.
async fn run(commands: &[String], end: &str) -> Reply {
    let command = commands.iter().find(|command| command.trim_end_matches('\'').ends_with(end));
    curl(command.unwrap_or_else(|| panic!("no command with {end}: {commands:?}"))).await
}

#[tokio::test]
async fn every_line_that_it_prints_does_what_it_says() {
    let _alone = PORTS.lock().await;
    let mut demo = Gateway::demo().await;
    let commands = commands(&demo);
    assert_eq!(commands.len(), 10, "{commands:?}");

    // A request, and one to another service.
    assert_eq!(run(&commands, "/notes/7").await.json()["service"], "writer");
    let enriched = run(&commands, "/api/enrich").await.json();
    assert_eq!((&enriched["service"], &enriched["body"]), (&"research".into(), &"a text".into()));

    // A retry that succeeds.
    let begun = Instant::now();
    let retried = run(&commands, "?fail=2").await;
    assert_eq!((retried.status(), &retried.json()["attempt"]), (200, &3.into()));
    assert!(begun.elapsed() > Duration::from_millis(1900), "after two delays of a second");

    // A circuit that opens, and closes.
    assert_eq!(run(&commands, "?status=503").await.status(), 503);
    let refused = run(&commands, "/notes/7").await;
    refused.problem(503);
    assert!(refused.head.has("retry-after"));
    let status = run(&commands, "/health/status/writer").await.json();
    assert_eq!(status["circuit_state"], "open");
    for state in ["half_open", "closed"] {
        demo.status_of("writer", |it| it["circuit_state"] == state).await;
    }
    assert_eq!(run(&commands, "/notes/7").await.status(), 200);

    // A service that goes away, and a slow one.
    assert_eq!(run(&commands, "_stand-in/down?for=15s").await.json()["down_for"], "15s");
    let health = run(&commands, "/health").await.json();
    let health =
        if health["overall"].is_null() { demo.get("/health").await.json() } else { health };
    assert_eq!(health["overall"], "degraded");
    assert_eq!(health["services"]["backend"]["status"], "unhealthy");
    let begun = Instant::now();
    assert_eq!(run(&commands, "?delay=2s").await.status(), 200);
    assert!(begun.elapsed() >= Duration::from_secs(2));

    // A policy that is replaced, and taken back.
    let lines = demo.access.lines();
    let token = lines.iter().find_map(|line| line.split_once("ORCHESTRATOR_TOKEN=")).unwrap().1;
    let folder = tempfile::TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let config = lines.iter().find_map(|line| line.split('\'').find(|it| it.starts_with('{')));
    let (token, config) = (file("token", token), file("retry.json", config.unwrap()));
    let dist = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/dist/retry.wasm");
    let admin = demo.admin.to_string();
    let with = ["--admin", &admin, "--token-file", &token];
    let push = ["policy", "push", dist, "--as", "retry", "--config", &config];
    let pushed = orchestrator_tests::run([&push[..], &with].concat()).await;
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);
    let begun = Instant::now();
    assert_eq!(
        curl(commands.iter().rfind(|it| it.contains("fail=2")).unwrap()).await.status(),
        200
    );
    assert!(begun.elapsed() < Duration::from_millis(1900), "after two delays of 20 ms");
    let back = [&["policy", "rollback", "retry"][..], &with].concat();
    assert_eq!(orchestrator_tests::run(back).await.code, 0);

    demo.interrupt();
    assert_eq!(demo.exit().await.code(), Some(0));
    assert!(!demo.access.lines().iter().any(|line| line.contains('\x1b')), "colours in a pipe");
}

#[tokio::test]
async fn a_service_that_went_away_comes_back() {
    let _alone = PORTS.lock().await;
    let demo = Gateway::demo().await;
    let down = Request::post("/api/writer/_stand-in/down?for=1s", "");
    assert_eq!(demo.call(down).await.status(), 200);
    eventually("the service to be gone", async || {
        (demo.get("/health").await.json()["services"]["writer"]["status"] == "unhealthy")
            .then_some(())
    })
    .await;
    eventually("the service to be back", async || {
        (demo.get("/health").await.json()["services"]["writer"]["status"] == "healthy")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn takes_other_ports_where_its_own_are_taken_and_says_so() {
    let _alone = PORTS.lock().await;
    let first = Gateway::demo().await;
    let mut second = Gateway::demo().await;
    assert_ne!(first.listen, second.listen);
    let said = second.access.lines();
    let notes: Vec<_> = said.iter().filter(|line| line.contains("is taken")).collect();
    assert_eq!(notes.len(), 5, "gateway, admin and three services: {said:?}");
    for gateway in [&first, &second] {
        let health = gateway.get("/health").await.json();
        assert_eq!(health["overall"], "healthy");
    }
    second.interrupt();
    assert_eq!(second.exit().await.code(), Some(0));
    // Nothing of it is left, and the other one is still there.
    assert!(TcpStream::connect(second.listen).await.is_err());
    assert_eq!(first.get("/").await.status(), 200);
}
