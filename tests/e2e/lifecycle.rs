//! How the gateway starts, and how it ends without losing a request.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use orchestrator_tests::{
    Answer, Client, EVERYTHING_TO_WRITER, Gate, Gateway, Reply, Request, Upstream, eventually,
    service, within,
};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Waits until nobody listens there any more.
async fn until_refused(gateway: &Gateway) {
    eventually("the listener to be closed", async || {
        TcpStream::connect(gateway.listen).await.is_err().then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_idle_gateway_ends_at_once_with_0() {
    for workers in [1, 2] {
        let writer = Upstream::start().await;
        let mut gateway = Gateway::before([&writer], format!("server.workers = {workers}")).await;
        assert_eq!(gateway.get("/x").await.status(), 200);
        let begun = Instant::now();
        gateway.terminate();
        assert_eq!(gateway.exit().await.code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn sighup_ends_nothing() {
    let writer = Upstream::start().await;
    let mut gateway = Gateway::before([&writer], "").await;
    gateway.hang_up();
    gateway.hang_up();
    assert_eq!(gateway.get("/x").await.text(), "hello");
    gateway.terminate();
    assert!(gateway.exit().await.success());
}

/// The answer to a request that was under way when the gateway was told to end.
async fn answer_amid_the_drain(request: &str) -> Reply {
    let gate = Gate::new();
    let writer = Upstream::answering([Answer::ok("finished").behind(&gate)]).await;
    let mut gateway = Gateway::before([&writer], "").await;
    let mut client = gateway.connect().await;
    client.send(request).await;
    writer.received(|_| true).await;
    gateway.terminate();
    until_refused(&gateway).await;
    gate.open();
    let reply = client.reply().await;
    assert_eq!(reply.text(), "finished");
    client.ended().await;
    gateway.access_of(&reply).await;
    assert_eq!(gateway.exit().await.code(), Some(0));
    reply
}

#[tokio::test]
async fn sigterm_lets_a_request_under_way_finish() {
    let reply = answer_amid_the_drain("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(reply.header("connection").as_deref(), Some("close"));
}

/// In HTTP/1.0 nothing but their own wish keeps connections.
#[tokio::test]
async fn sigterm_has_answers_keep_no_connection_of_an_http_1_0_client() {
    let request = "GET /x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    let reply = answer_amid_the_drain(request).await;
    assert_ne!(reply.header("connection").as_deref(), Some("keep-alive"));
}

#[tokio::test]
async fn sigterm_lets_bodies_under_way_finish() {
    let gate = Gate::new();
    let download = Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        .then_wait(&gate)
        .then_send("more");
    let writer = Upstream::answering([download]).await;
    let mut gateway = Gateway::before([&writer], "").await;
    let mut client = gateway.connect().await;
    client.begin(&Request::get("/x")).await;
    client.head().await;
    gateway.terminate();
    until_refused(&gateway).await;
    gate.open();
    assert_eq!(client.wire.exactly(8).await.unwrap(), b"halfmore");
    assert_eq!(gateway.exit().await.code(), Some(0));
}

#[tokio::test]
async fn sigterm_closes_idle_connections() {
    let writer = Upstream::start().await;
    let mut gateway = Gateway::before([&writer], "").await;
    let mut idle: Vec<Client> = Vec::new();
    for _ in 0..5 {
        let mut client = gateway.connect().await;
        assert_eq!(client.call(Request::get("/x")).await.status(), 200);
        idle.push(client);
    }
    // And one that never asked for anything.
    idle.push(gateway.connect().await);
    gateway.terminate();
    for client in &mut idle {
        client.ended().await;
    }
    assert_eq!(gateway.exit().await.code(), Some(0));
}

#[tokio::test]
async fn draining_makes_it_not_ready_while_it_lives() {
    let gate = Gate::new();
    let writer = Upstream::answering([Answer::ok("finished").behind(&gate)]).await;
    let mut gateway = Gateway::before([&writer], "").await;
    assert_eq!(gateway.admin_get("/readyz").await.status(), 200);
    let mut client = gateway.connect().await;
    client.begin(&Request::get("/x")).await;
    writer.received(|_| true).await;
    gateway.terminate();
    until_refused(&gateway).await;
    assert_eq!(gateway.admin_get("/readyz").await.status(), 503);
    assert_eq!(gateway.admin_get("/livez").await.status(), 200);
    gate.open();
    client.reply().await;
    assert_eq!(gateway.exit().await.code(), Some(0));
}

/// So that a load balancer in front of it has time to see that.
#[tokio::test]
async fn before_a_drain_it_serves_for_a_while_as_if_nothing_were() {
    let writer = Upstream::start().await;
    let mut gateway = Gateway::before([&writer], "server.drain_delay = \"3s\"").await;
    let mut client = gateway.connect().await;
    let begun = Instant::now();
    gateway.terminate();
    eventually("the gateway not to be ready", async || {
        (gateway.admin_get("/readyz").await.status() == 503).then_some(())
    })
    .await;
    for reply in [client.call(Request::get("/x")).await, gateway.get("/x").await] {
        assert_eq!(reply.text(), "hello");
        assert!(!reply.head.has("connection"), "{:?}", reply.head);
    }
    assert_eq!(gateway.admin_get("/livez").await.status(), 200);
    client.ended().await;
    until_refused(&gateway).await;
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(gateway.exit().await.code(), Some(0));
}

/// Those whom the kernel has let in, and whom the gateway has not seen yet.
#[tokio::test]
async fn a_drain_serves_those_who_wait_to_be_accepted() {
    for workers in [1, 2] {
        let writer = Upstream::start().await;
        let mut gateway = Gateway::before([&writer], format!("server.workers = {workers}")).await;
        gateway.halt();
        gateway.terminate();
        let mut waiting = Vec::new();
        for _ in 0..100 {
            let mut client = gateway.connect().await;
            client.begin(&Request::get("/x")).await;
            waiting.push(client);
        }
        gateway.go_on();
        for client in &mut waiting {
            assert_eq!(client.reply().await.text(), "hello");
        }
        assert_eq!(gateway.exit().await.code(), Some(0));
        assert_eq!(writer.count(), 100);
    }
}

#[tokio::test]
async fn the_drain_ends_with_its_timeout() {
    let writer = Upstream::answering([Answer::hang()]).await;
    let mut gateway = Gateway::before([&writer], r#"server.drain_timeout = "300ms""#).await;
    let mut client = gateway.connect().await;
    client.begin(&Request::get("/x")).await;
    let id = writer.received(|_| true).await.header("x-request-id").unwrap();
    let begun = Instant::now();
    gateway.terminate();
    assert_eq!(gateway.exit().await.code(), Some(0));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
    // The client sees an end, not a response that was never made; and the log has the request.
    assert!(!matches!(client.wire.head().await, Ok(Some(head)) if head.status() == 200));
    gateway.access_line(|line| line["request_id"] == id.as_str()).await;
}

#[tokio::test]
async fn a_second_signal_ends_the_drain() {
    let writer = Upstream::answering([Answer::hang()]).await;
    let mut gateway = Gateway::before([&writer], "").await;
    let mut client = gateway.connect().await;
    client.begin(&Request::get("/x")).await;
    writer.received(|_| true).await;
    gateway.terminate();
    until_refused(&gateway).await;
    gateway.terminate();
    assert_ne!(gateway.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_port_that_is_taken_is_not_shared_in_silence() {
    let writer = Upstream::start().await;
    let first = Gateway::before([&writer], "").await;
    for (key, address) in [("server.listen", first.listen), ("admin.listen", first.admin)] {
        let other = if key == "server.listen" { "admin.listen" } else { "server.listen" };
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("gateway.toml");
        let config = format!(
            "{key} = \"{address}\"\n{other} = \"127.0.0.1:0\"\n{}\n\
             policy.routing.config.routes = [{{ path_prefix = \"/\", service = \"writer\" }}]\n",
            service("writer", [&writer])
        );
        std::fs::write(&file, config).unwrap();
        let ran = orchestrator_tests::run(["serve", "--config", file.to_str().unwrap()]).await;
        assert_ne!(ran.code, 0);
        assert!(ran.stderr.contains(&address.to_string()), "{}", ran.stderr);
        assert!(ran.stderr.contains(key), "{}", ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    }
    for _ in 0..20 {
        assert_eq!(first.get("/x").await.status(), 200, "the first goes on alone");
    }
}

#[tokio::test]
async fn operators_are_met_at_a_socket_that_is_the_gateways_users_alone() {
    let writer = Upstream::start().await;
    let folder = tempfile::TempDir::new().unwrap();
    let socket = folder.path().join("admin.sock");
    let lines = format!("admin.listen = \"unix:{}\"", socket.display());
    let mut gateway = Gateway::before([&writer], &lines).await;
    gateway.log.line_with(&["ready", &format!("admin=unix:{}", socket.display())]).await;
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let ask = async || {
        let mut stream = UnixStream::connect(&socket).await?;
        let request = b"GET /readyz HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = String::new();
        within("an answer", stream.read_to_string(&mut answer)).await?;
        std::io::Result::Ok(answer)
    };
    let answer = ask().await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n"),
        "{answer}"
    );

    let file = folder.path().join("second.toml");
    let second = format!(
        "server.listen = \"127.0.0.1:0\"\nadmin.listen = \"unix:admin.sock\"\n{}\n{EVERYTHING_TO_WRITER}\n",
        service("writer", [&writer])
    );
    std::fs::write(&file, second).unwrap();
    let ran = orchestrator_tests::run(["serve", "--config", file.to_str().unwrap()]).await;
    assert_ne!(ran.code, 0);
    for part in [socket.to_str().unwrap(), "is another gateway running?", "admin.listen"] {
        assert!(ran.stderr.contains(part), "no {part:?} in {}", ran.stderr);
    }
    assert!(ask().await.is_ok(), "the first goes on");

    gateway.terminate();
    assert_eq!(gateway.exit().await.code(), Some(0));
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_gateway_whose_services_are_down_starts_and_waits_for_them() {
    let mut writer = Upstream::down();
    let gateway = Gateway::before([&writer], "breaker.open_for = \"100ms\"").await;
    gateway.get("/x").await.problem(503);
    writer.up();
    eventually("the service to be found", async || {
        (gateway.get("/x").await.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn several_workers_serve_one_port() {
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], "server.workers = 4").await;
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(gateway.connect().await);
    }
    for client in &mut clients {
        assert_eq!(client.call(Request::get("/x")).await.status(), 200);
    }
    // Each worker keeps its own idle connections, so that more than one was needed.
    let used: std::collections::HashSet<_> =
        writer.requests().iter().map(|request| request.connection).collect();
    assert!((2..=4).contains(&used.len()), "{} connections to the service", used.len());
}

/// Each request may need two descriptors: the soft limit is for programs that use `select`.
#[tokio::test]
async fn as_many_files_may_be_open_as_the_system_allows() {
    let mut limit = getrlimit(Resource::Nofile);
    // What this process may open itself, and hands on to the gateway, is less by one.
    limit.current = limit.maximum.map(|hard| hard - 1);
    setrlimit(Resource::Nofile, limit).unwrap();
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], "").await;
    let most = gateway.metrics().await.sum("process_max_fds", &[]);
    assert_eq!(most, limit.maximum.unwrap() as f64);
}
