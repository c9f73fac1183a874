//! Requests' bodies: sent again from what was kept, limited in size and in slowness, and what becomes
//! of one that nobody wants to the end.

use std::time::{Duration, Instant};

use orchestrator_tests::{Answer, Client, Gate, Gateway, Request, Upstream, eventually, within};

/// A failed attempt costs no time, and does not open the circuit.
const AGAIN: &str = "policy.retry.config.delay = \"0s\"\nbreaker.failure_threshold = 100";

mod sent_again {
    use super::*;

    #[tokio::test]
    async fn whole_after_a_lost_connection_and_after_a_status() {
        let body: Vec<u8> = (0..60_000u32).map(|i| i as u8).collect();
        for failure in [Answer::close(), Answer::status(503), Answer::reset()] {
            let writer = Upstream::answering([failure, Answer::ok("second")]).await;
            let gateway = Gateway::before([&writer], AGAIN).await;
            let reply = gateway.call(Request::new("PUT", "/x").body(&body)).await;
            assert_eq!(reply.text(), "second");
            let requests = writer.requests();
            assert_eq!(requests.len(), 2);
            assert!(requests.iter().all(|request| request.body == body), "both had all of it");
        }
    }

    #[tokio::test]
    async fn in_chunks_where_it_came_in_chunks() {
        let writer = Upstream::answering([Answer::status(503), Answer::ok("second")]).await;
        let gateway = Gateway::before([&writer], AGAIN).await;
        let mut client = gateway.connect().await;
        client.send("PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for piece in ["one", "two", "three"] {
            client.send(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
        }
        client.send("0\r\n\r\n").await;
        assert_eq!(client.reply().await.text(), "second");
        assert!(writer.requests().iter().all(|request| request.body == b"onetwothree"));
    }

    #[tokio::test]
    async fn up_to_what_is_kept_and_no_more() {
        let lines = format!("{AGAIN}\nproxy.replay_body_max = \"1KiB\"");
        for (bytes, status) in [(1024, 200), (1025, 503)] {
            let writer = Upstream::answering([Answer::status(503), Answer::ok("")]).await;
            let gateway = Gateway::before([&writer], &lines).await;
            let reply = gateway.call(Request::new("PUT", "/x").body(vec![b'x'; bytes])).await;
            assert_eq!(reply.status(), status, "{bytes}");
        }
    }

    /// The service gives up on an upload that has only begun: the rest goes to the next attempt.
    #[tokio::test]
    async fn from_its_beginning_while_the_client_still_sends() {
        let writer =
            Upstream::answering([Answer::status(503).before_body(), Answer::ok("second")]).await;
        let gateway = Gateway::before([&writer], AGAIN).await;
        let mut client = gateway.connect().await;
        client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst").await;
        writer.received(|request| request.body == b"first").await;
        client.send("other").await;
        assert_eq!(client.reply().await.text(), "second");
        assert_eq!(writer.requests()[1].body, b"firstother");
    }

    /// While the next attempt is waited for, nobody reads what the client sends.
    #[tokio::test]
    async fn after_a_long_delay_that_is_not_held_against_the_client() {
        let writer =
            Upstream::answering([Answer::status(503).before_body(), Answer::ok("second")]).await;
        // Longer than the ten seconds after which a client's pace is looked at.
        let gateway = Gateway::before([&writer], "policy.retry.config.delay = \"11s\"").await;
        let mut client = gateway.connect().await;
        client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst").await;
        writer.received(|_| true).await;
        client.send("other").await;
        let head = tokio::time::timeout(Duration::from_secs(30), client.wire.head()).await;
        assert_eq!(head.expect("an answer").unwrap().unwrap().status(), 200);
        assert_eq!(writer.requests()[1].body, b"firstother");
    }

    #[tokio::test]
    async fn to_no_other_endpoint_where_the_method_says_no() {
        let writer = Upstream::answering([Answer::close(), Answer::ok("second")]).await;
        let gateway = Gateway::before([&writer], AGAIN).await;
        gateway.call(Request::post("/x", "once")).await.problem(503);
        assert_eq!(writer.count(), 1);
    }

    #[tokio::test]
    async fn never_once_the_response_has_begun() {
        let broken = Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").then_close();
        let writer = Upstream::answering([broken, Answer::ok("whole")]).await;
        let gateway = Gateway::before([&writer], AGAIN).await;
        let mut client = gateway.connect().await;
        client.begin(&Request::new("PUT", "/x").body("body")).await;
        let head = client.head().await;
        let (length, end) = client.rest(head.response_framing("PUT")).await;
        assert!(length == 4 && end.is_err(), "{length} {end:?}");
        assert_eq!(writer.count(), 1);
    }

    #[tokio::test]
    async fn never_once_the_response_has_begun_and_so_it_is_let_go_of() {
        const LENGTH: usize = 4 * 1024 * 1024;
        let begun = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        let writer = Upstream::answering([Answer::bytes(begun).then_hang()]).await;
        let gateway = Gateway::before([&writer], "proxy.replay_body_max = \"16MiB\"").await;
        let before = gateway.resident();
        let put = async || {
            let mut client = gateway.connect().await;
            client.begin(&Request::new("PUT", "/x").body(vec![b'x'; LENGTH])).await;
            assert_eq!(client.head().await.status(), 200);
            client
        };
        let mut streaming = Vec::new();
        for _ in 0..16 {
            streaming.push(put().await);
        }
        eventually("less to be held than a quarter of what was sent", async || {
            // The allocator gives memory back when it is used.
            drop(put().await);
            (gateway.resident() < before + 4 * LENGTH as u64).then_some(())
        })
        .await;
    }

    #[tokio::test]
    async fn over_a_new_connection_where_an_idle_one_had_died() {
        let writer =
            Upstream::answering([Answer::ok("first").then_close(), Answer::ok("second")]).await;
        let gateway = Gateway::before([&writer], "policy.retry.config.attempts = 1").await;
        let put = || Request::new("PUT", "/x").body("body");
        assert_eq!(gateway.call(put()).await.text(), "first");
        let reply = gateway.call(put()).await;
        assert_eq!(reply.text(), "second");
        assert_eq!(writer.requests()[1].body, b"body");
        assert_eq!(gateway.access_of(&reply).await["attempts"], 1);
    }
}

mod too_large {
    use super::*;

    const LIMIT: &str = "limits.body_bytes = \"1KiB\"";

    #[tokio::test]
    async fn by_its_own_word_it_does_not_reach_the_service() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], LIMIT).await;
        let reply = gateway.call(Request::post("/x", vec![b'x'; 1025])).await;
        assert_eq!(reply.problem(413), "the request's body is larger than this gateway takes here");
        assert_eq!(gateway.access_of(&reply).await["why"], "body_too_large");
        assert_eq!(gateway.call(Request::post("/x", vec![b'x'; 1024])).await.status(), 200);
        assert_eq!(writer.count(), 1);
    }

    /// The answer comes before the body, and is not lost because the body comes all the same.
    #[tokio::test]
    async fn the_answer_is_seen_by_a_client_that_sends_on() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], LIMIT).await;
        let mut client = gateway.connect().await;
        client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n").await;
        gateway.access_line(|line| line["why"] == "body_too_large").await;
        client.send(vec![b'x'; 60_000]).await;
        let reply = client.reply().await;
        reply.problem(413);
        assert_eq!(reply.header("connection").as_deref(), Some("close"));
        client.ended().await;
        assert_eq!(writer.count(), 0);
    }

    #[tokio::test]
    async fn in_chunks_it_is_noticed_on_the_way_and_is_no_fault_of_the_service() {
        let writer = Upstream::start().await;
        let lines = format!("{LIMIT}\nbreaker.failure_threshold = 1");
        let gateway = Gateway::before([&writer], lines).await;
        let mut client = gateway.connect().await;
        client.send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for _ in 0..2 {
            client.send(format!("400\r\n{}\r\n", "x".repeat(0x400))).await;
        }
        client.reply().await.problem(413);
        assert!(writer.requests().iter().all(|request| !request.whole), "none arrived whole");
        assert_eq!(gateway.get("/x").await.status(), 200, "the circuit is closed");
    }
}

mod too_slow {
    use super::*;

    /// Sends the first bytes of a body, and then none.
    async fn dawdle(gateway: &Gateway) -> Client {
        let mut client = gateway.connect().await;
        client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx").await;
        client
    }

    #[tokio::test]
    async fn it_is_cut_after_ten_seconds_and_others_are_not() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let (mut slow, mut fine) = (dawdle(&gateway).await, gateway.connect().await);
        fine.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 6000\r\n\r\n").await;
        let begun = Instant::now();
        let trickle = async {
            // 500 bytes a second, which is twice what is asked for.
            for _ in 0..60 {
                fine.send("x".repeat(100)).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            fine.reply().await.status()
        };
        let cut = async {
            let head = tokio::time::timeout(Duration::from_secs(20), slow.wire.head()).await;
            (head.expect("it is cut").unwrap().unwrap().status(), begun.elapsed())
        };
        let (fine, (status, after)) = tokio::join!(trickle, cut);
        assert_eq!((fine, status), (200, 408));
        assert!(after >= Duration::from_secs(9), "after {after:?}");
        gateway.access_line(|line| line["why"] == "client_slow").await;
        let slow = [("limit", "limits.body_rate_min"), ("effect", "client_sends_slowly")];
        assert_eq!(gateway.metrics().await.sum("orchestrator_limit_hits_total", &slow), 1.0);
    }

    /// The service has answered, and its answer depends on the rest of the request.
    #[tokio::test]
    async fn it_is_cut_also_when_the_response_has_begun() {
        let answer = Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx");
        let writer = Upstream::answering([answer.before_body().then_hang()]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut slow = dawdle(&gateway).await;
        let begun = Instant::now();
        assert_eq!(within("a head", slow.wire.head()).await.unwrap().unwrap().status(), 200);
        // A byte a second: it does not stand still.
        while gateway.access.lines().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it is not cut");
            slow.send("x").await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(begun.elapsed() >= Duration::from_secs(9), "after {:?}", begun.elapsed());
        let line = gateway.access_line(|line| line["path"] == "/x").await;
        assert_eq!((&line["status"], &line["why"]), (&200.into(), &"client_slow".into()));
        let slow = [("limit", "limits.body_rate_min"), ("effect", "client_sends_slowly")];
        assert_eq!(gateway.metrics().await.sum("orchestrator_limit_hits_total", &slow), 1.0);
    }

    #[tokio::test]
    async fn unless_that_is_off() {
        let writer = Upstream::start().await;
        let lines = "limits.body_rate_min = \"off\"\nproxy.idle_timeout = \"11s\"";
        let gateway = Gateway::before([&writer], lines).await;
        let begun = Instant::now();
        let mut client = dawdle(&gateway).await;
        let head = tokio::time::timeout(Duration::from_secs(20), client.wire.head()).await;
        assert_eq!(head.expect("it is cut").unwrap().unwrap().status(), 408);
        assert!(begun.elapsed() >= Duration::from_secs(11), "by `idle_timeout`");
        gateway.access_line(|line| line["why"] == "client_stalled").await;
    }

    /// A response that fits into the kernel's buffers is written at once, and read never.
    #[tokio::test]
    async fn a_reader_is_cut_too_when_all_of_its_response_is_written() {
        let writer = Upstream::answering([Answer::ok(vec![b'x'; 20_000])]).await;
        let gateway = Gateway::before([&writer], "proxy.idle_timeout = \"500ms\"").await;
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1024).unwrap();
        let stream = within("a connection", socket.connect(gateway.listen)).await.unwrap();
        let mut client = Client { wire: orchestrator_tests::wire::Wire::new(stream) };
        client.begin(&Request::get("/x")).await;
        let line = gateway.access_line(|line| line["path"] == "/x").await;
        assert_eq!(line["why"], "done", "all of it is written");
        let begun = Instant::now();
        let taken = [("limit", "proxy.idle_timeout"), ("effect", "client_took_nothing")];
        let cut = async {
            while gateway.metrics().await.sum("orchestrator_limit_hits_total", &taken) == 0.0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), cut).await.expect("it is cut");
        assert!(begun.elapsed() >= Duration::from_secs(9), "after {:?}", begun.elapsed());
    }
}

mod unwanted {
    use super::*;

    /// All but `/known` is 404, whose answer is the gateway's own and waits for no body.
    async fn knowing_one_path(writer: &Upstream) -> Gateway {
        let writer = orchestrator_tests::service("writer", [writer]);
        let route = r#"[{ path_prefix = "/known", service = "writer" }]"#;
        Gateway::start(format!("{writer}\npolicy.routing.config.routes = {route}")).await
    }

    /// A client that sends all before it reads must not find its connection reset.
    #[tokio::test]
    async fn the_answer_that_came_early_is_seen_by_a_client_that_still_sends() {
        let writer = Upstream::with(|_| Answer::status(401).before_body().then_close()).await;
        let gateway = Gateway::before([&writer], "").await;
        for length in [20_000, 60_000] {
            let mut client = gateway.connect().await;
            client
                .send(format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"))
                .await;
            writer.received(|_| true).await;
            client.send(vec![b'x'; length]).await;
            let reply = client.reply().await;
            assert_eq!((reply.status(), reply.text().as_str()), (401, "401 by the upstream"));
        }
    }

    #[tokio::test]
    async fn a_short_rest_leaves_the_connection_usable() {
        let writer = Upstream::start().await;
        let gateway = knowing_one_path(&writer).await;
        let mut client = gateway.connect().await;
        for _ in 0..2 {
            client.send("POST /unknown HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n").await;
            assert_eq!(client.reply().await.status(), 404);
            client.send("x".repeat(3000)).await;
        }
        assert_eq!(client.call(Request::get("/known")).await.text(), "hello");
    }

    #[tokio::test]
    async fn a_rest_that_is_too_long_has_the_answer_say_that_the_connection_ends() {
        let writer = Upstream::start().await;
        let gateway = knowing_one_path(&writer).await;
        for (length, close) in [(65_536, None), (65_537, Some("close".to_owned()))] {
            let mut client = gateway.connect().await;
            client
                .send(format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"))
                .await;
            let reply = client.reply().await;
            assert_eq!((reply.status(), reply.header("connection")), (404, close), "{length}");
        }
    }

    #[tokio::test]
    async fn what_comes_behind_the_last_request_costs_nobody_the_answer() {
        let writer = Upstream::start().await;
        let gateway = knowing_one_path(&writer).await;
        // Of more than 4 KiB the gateway reads the rest later, or not at all.
        for (path, head_bytes) in [("/known", 200), ("/unknown", 200), ("/unknown", 4096)] {
            let mut client = gateway.connect().await;
            let mut request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: ");
            request += &"x".repeat(head_bytes - request.len() - 4);
            client.send(format!("{request}\r\n\r\n{}", "x".repeat(20_000))).await;
            let status = if path == "/known" { 200 } else { 404 };
            assert_eq!(client.reply().await.status(), status);
            let end = within("the end", client.wire.some(1)).await;
            assert_eq!(end.expect("no reset"), b"", "{path} {head_bytes}");
        }
    }

    #[tokio::test]
    async fn a_short_rest_is_not_taken_for_the_next_request() {
        let writer = Upstream::with(|_| Answer::status(401).before_body()).await;
        let lines = "limits.header_timeout = \"100ms\"\nlimits.keep_alive_timeout = \"5s\"";
        let gateway = Gateway::before([&writer], lines).await;
        let mut client = gateway.connect().await;
        client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n").await;
        assert_eq!(client.reply().await.status(), 401);
        client.send("x".repeat(3000)).await;
        // The clock of this test: another connection, whose head takes too long, three times.
        for _ in 0..3 {
            let mut dawdling = gateway.connect().await;
            dawdling.send("GET /x HTTP/1.1\r\n").await;
            dawdling.ended().await;
        }
        assert_eq!(client.call(Request::get("/x")).await.status(), 401, "it waits for the next");
    }

    #[tokio::test]
    async fn a_long_rest_is_not_read_in_small_pieces_either() {
        let writer = Upstream::with(|_| Answer::status(413).before_body()).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1099511627776\r\n\r\n").await;
        assert_eq!(client.reply().await.status(), 413);
        let (piece, mut sent) = (vec![b'x'; 8 << 10], 0);
        while tokio::time::timeout(Duration::from_millis(2), client.wire.closed()).await.is_err() {
            client.send(&piece).await;
            sent += piece.len();
        }
        // It is 64 KiB, and what was on its way meanwhile; in a second it would be some 4 MiB.
        assert!(sent < 1 << 20, "{sent} bytes");
    }

    #[tokio::test]
    async fn one_that_goes_on_and_on_is_closed_after_a_second_without_a_reset() {
        let writer = Upstream::with(|_| Answer::status(413).before_body()).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").await;
        let reply = client.reply().await;
        assert_eq!(reply.status(), 413);
        // A few bytes a while later: they are read, and then the end is an orderly one.
        let begun = Instant::now();
        let ended = async {
            loop {
                if client.wire.send(b"x").await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        within("the gateway to close", ended).await;
        assert!(begun.elapsed() > Duration::from_millis(500), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_service_may_answer_while_it_reads_to_the_end() {
        let gate = Gate::new();
        let both = Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
            .before_body()
            .then_wait(&gate)
            .then_send("rest");
        let writer = Upstream::answering([both]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab").await;
        let head = client.head().await;
        client.send("cd").await;
        gate.open();
        let (length, end) = client.rest(head.response_framing("POST")).await;
        assert!(length == 8 && end.is_ok(), "{length} {end:?}");
    }
}

/// They go from socket to socket through pipes, of which a worker has no more than 128.
mod long {
    use super::*;

    /// Bytes of which no two pieces are alike.
    fn bytes(count: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_u32;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        };
        (0..count).map(|_| next()).collect()
    }

    #[tokio::test]
    async fn both_ways_whole_on_a_connection_that_goes_on() {
        let sizes = [(32 << 10) - 1, 32 << 10, 70_000, (1 << 20) - 7];
        let answers = sizes.map(|size| Answer::ok(bytes(size)));
        let writer = Upstream::answering(answers).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        for size in sizes {
            let reply = client.call(Request::new("PUT", "/x").body(bytes(size))).await;
            assert!(reply.body == bytes(size), "{size} down");
            let up = writer.requests().last().unwrap().body.clone();
            let differs = up.iter().zip(&bytes(size)).position(|(one, other)| one != other);
            assert_eq!((up.len(), differs), (size, None), "up");
        }
        let mut over: Vec<_> = writer.requests().iter().map(|it| it.connection).collect();
        over.dedup();
        assert_eq!(over.len(), 1, "on one connection to the service, too");
        let line = gateway.access_line(|line| line["bytes_out"] == sizes[3]).await;
        assert_eq!(line["bytes_in"], sizes[3]);
    }

    #[tokio::test]
    async fn also_where_more_wait_for_their_readers_than_there_are_pipes() {
        const READERS: usize = 150;
        let body = bytes(1 << 20);
        let writer = Upstream::answering(std::iter::repeat_n(Answer::ok(&body), READERS)).await;
        let gateway = Gateway::before([&writer], "server.workers = 1").await;
        let mut clients = Vec::new();
        for _ in 0..READERS {
            let mut client = gateway.connect().await;
            client.begin(&Request::get("/x")).await;
            clients.push(client);
        }
        eventually("all to be answered", async || (writer.count() == READERS).then_some(())).await;
        for client in &mut clients {
            assert!(client.reply().await.body == body);
        }
    }

    #[tokio::test]
    async fn that_were_copied_leave_no_large_buffers_to_connections_that_wait() {
        const WAITING: usize = 100;
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let chunk = [b"100000\r\n".as_slice(), &bytes(1 << 20), b"\r\n0\r\n\r\n"].concat();
        let upload = Request::new("PUT", "/x").header("Transfer-Encoding", "chunked").bytes();
        let put = async || {
            let mut client = gateway.connect().await;
            client.send(&upload).await;
            client.send(&chunk).await;
            assert_eq!(client.reply().await.status(), 200);
            client
        };
        drop(put().await);
        let before = gateway.resident();
        let mut waiting = Vec::new();
        for _ in 0..WAITING {
            waiting.push(put().await);
        }
        let each = gateway.resident().saturating_sub(before) / WAITING as u64;
        assert!(each < 64 << 10, "{each} bytes each");
    }

    #[tokio::test]
    async fn one_that_breaks_off_is_not_passed_for_the_whole() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
        let half = bytes(500_000);
        let broken = [head.as_bytes(), &half].concat();
        let writer = Upstream::answering([Answer::bytes(broken).then_close()]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client.begin(&Request::get("/x")).await;
        let head = client.head().await;
        let (came, ended) = client.rest(head.response_framing("GET")).await;
        assert_eq!(came, 500_000, "all that the service has sent");
        assert!(ended.is_err(), "and the connection has ended");
        let line = gateway.access_line(|line| line["why"] == "upstream_lost").await;
        assert_eq!(line["bytes_out"], 500_000);
    }
}
