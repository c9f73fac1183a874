//! A request's way through: what is passed on, what is changed, when it streams, when it ends.

use std::time::{Duration, Instant};

use orchestrator_tests::wire::{Framing, Head};
use orchestrator_tests::{Answer, Gate, Gateway, Request, Upstream, eventually};

const MIB: u64 = 1024 * 1024;

mod messages {
    use super::*;

    #[tokio::test]
    async fn a_request_arrives_as_it_was_sent() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let body: Vec<u8> = (0..=255).collect();
        let request = Request::new("PATCH", "/a/b%20c?d=e&f")
            .header("Content-Type", "application/octet-stream")
            .header("X-Twice", "one")
            .header("X-Twice", "two")
            .header("X-Empty", "")
            .header("X-Not-Utf-8", b"\xfc\xff")
            .body(&body);
        assert_eq!(gateway.call(request).await.status(), 200);
        let received = writer.request();
        assert_eq!(received.line(), "PATCH /a/b%20c?d=e&f");
        assert_eq!(received.body, body);
        assert_eq!(received.head.values("x-twice"), [b"one", b"two"]);
        assert_eq!(received.head.values("x-empty"), [b""]);
        assert_eq!(received.head.values("x-not-utf-8"), [b"\xfc\xff"]);
        assert_eq!(received.header("content-type").unwrap(), "application/octet-stream");
        assert_eq!(received.header("content-length").unwrap(), "256");
    }

    #[tokio::test]
    async fn a_response_arrives_as_it_was_sent() {
        let answer = b"HTTP/1.1 418 I'm a teapot\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
            X-Bytes: \xfc\r\nServer: kettle\r\nContent-Length: 3\r\n\r\n\x00\xff\n";
        let writer = Upstream::answering([Answer::bytes(answer)]).await;
        let gateway = Gateway::before([&writer], "").await;
        let reply = gateway.get("/tea").await;
        assert_eq!(reply.status(), 418);
        assert_eq!(reply.head.values("set-cookie"), [b"a=1", b"b=2"]);
        assert_eq!(reply.head.values("x-bytes"), [b"\xfc"]);
        assert_eq!(reply.header("server").unwrap(), "kettle");
        assert_eq!(reply.body, b"\x00\xff\n");
    }

    #[tokio::test]
    async fn chunked_bodies_pass_in_both_directions() {
        let answer =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
        let writer = Upstream::answering([Answer::bytes(answer)]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client.send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        client.send("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").await;
        assert_eq!(client.reply().await.body, b"hello");
        assert_eq!(writer.request().body, b"abcde");
        assert_eq!(writer.request().header("transfer-encoding").unwrap(), "chunked");
        assert!(!writer.request().head.has("content-length"));
    }

    #[tokio::test]
    async fn a_response_that_ends_with_its_connection_arrives_whole() {
        let answer = Answer::bytes("HTTP/1.1 200 OK\r\n\r\nto the end").then_close();
        let writer = Upstream::answering([answer]).await;
        let gateway = Gateway::before([&writer], "").await;
        assert_eq!(gateway.get("/x").await.body, b"to the end");
        assert_eq!(gateway.get("/x").await.body, b"to the end");
    }

    #[tokio::test]
    async fn responses_without_a_body_leave_the_connection_in_step() {
        let writer = Upstream::with(|head| match head.target() {
            "/204" => Answer::bytes("HTTP/1.1 204 No Content\r\n\r\n"),
            "/304" => Answer::bytes(
                "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 7\r\n\r\n",
            ),
            _ if head.method() == "HEAD" => {
                Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
            }
            _ => Answer::ok("in step"),
        })
        .await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        assert_eq!(client.call(Request::get("/204")).await.status(), 204);
        let not_modified = client.call(Request::get("/304")).await;
        assert_eq!(
            (not_modified.status(), not_modified.header("etag")),
            (304, Some("\"a\"".into()))
        );
        let head = client.call(Request::new("HEAD", "/head")).await;
        assert_eq!(head.header("content-length").unwrap(), "1234");
        assert_eq!(client.call(Request::get("/x")).await.text(), "in step");
        assert!(writer.requests().windows(2).all(|pair| pair[0].connection == pair[1].connection));
    }

    #[tokio::test]
    async fn an_informational_response_is_not_the_answer() {
        let answer = Answer::bytes("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
            .then_send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nafter");
        let writer = Upstream::answering([answer]).await;
        let gateway = Gateway::before([&writer], "").await;
        assert_eq!(gateway.get("/x").await.text(), "after");
    }
}

mod connections {
    use super::*;

    #[tokio::test]
    async fn are_kept_on_both_sides() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        for _ in 0..5 {
            assert_eq!(client.call(Request::get("/x")).await.status(), 200);
        }
        let used: Vec<_> = writer.requests().iter().map(|request| request.connection).collect();
        assert_eq!(used, [used[0]; 5]);
    }

    #[tokio::test]
    async fn to_a_service_are_shared_by_clients_one_request_at_a_time() {
        let gate = Gate::new();
        let writer =
            Upstream::answering([Answer::ok("first").behind(&gate), Answer::ok("next")]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut waiting = gateway.connect().await;
        waiting.begin(&Request::get("/slow")).await;
        let slow = writer.received(|_| true).await;
        for _ in 0..3 {
            assert_eq!(gateway.get("/x").await.text(), "next");
        }
        gate.open();
        assert_eq!(waiting.reply().await.text(), "first");
        let others: Vec<_> = writer.requests()[1..].iter().map(|it| it.connection).collect();
        assert_eq!(others, [others[0]; 3]);
        assert_ne!(others[0], slow.connection);
    }

    #[tokio::test]
    async fn close_when_the_client_says_so() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        let reply = client.call(Request::get("/x").header("Connection", "close")).await;
        assert_eq!((reply.status(), reply.header("connection").as_deref()), (200, Some("close")));
        client.ended().await;
        // The service's connection is none of that client's business.
        gateway.get("/x").await;
        let [first, second] = <[_; 2]>::try_from(writer.requests()).unwrap();
        assert_eq!(first.connection, second.connection);
        assert!(!first.head.has("connection"));
    }

    #[tokio::test]
    async fn close_when_the_service_says_so_and_the_next_request_takes_another() {
        let answer = Answer::new(200, &[("Connection", "close")], "bye").then_close();
        let writer = Upstream::answering([answer]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        for _ in 0..2 {
            let reply = client.call(Request::get("/x")).await;
            assert_eq!((reply.status(), reply.text().as_str()), (200, "bye"));
            assert!(!reply.head.has("connection"), "{:?}", reply.head);
        }
    }

    #[tokio::test]
    async fn an_http_1_0_client_is_served_and_closed() {
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        let writer = Upstream::answering([Answer::bytes(answer)]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client.send("GET /x HTTP/1.0\r\nHost: a\r\n\r\n").await;
        let reply = client.reply().await;
        assert_eq!(reply.text(), "hello");
        assert!(!reply.head.has("transfer-encoding"), "{:?}", reply.head);
        client.ended().await;
        assert!(writer.request().head.start_line.ends_with("HTTP/1.1"));
    }

    #[tokio::test]
    async fn pipelined_requests_are_answered_in_order() {
        let writer = Upstream::with(|head| Answer::ok(head.target())).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.reply().await.text(), "/1");
        assert_eq!(client.reply().await.text(), "/2");
    }

    #[tokio::test]
    async fn an_idle_one_that_died_is_replaced_without_counting_as_an_attempt() {
        // The service closes a moment after each answer, as services do that are restarted.
        let writer = Upstream::answering([Answer::ok("hello").then_close()]).await;
        let gateway = Gateway::before([&writer], "policy.retry.config.attempts = 1").await;
        for _ in 0..10 {
            let reply = gateway.get("/x").await;
            assert_eq!(reply.status(), 200);
            assert_eq!(gateway.access_of(&reply).await["attempts"], 1);
        }
        let reply = gateway.call(Request::post("/x", "unsent until the connection stands")).await;
        assert_eq!(reply.status(), 200);
    }

    #[tokio::test]
    async fn one_that_dies_as_it_is_used_again_is_replaced_where_that_is_safe() {
        // The first connection answers once and closes on reading its second request.
        let writer = Upstream::answering([Answer::ok("1"), Answer::close(), Answer::ok("3")]).await;
        let gateway = Gateway::before([&writer], "policy.retry.config.attempts = 1").await;
        assert_eq!(gateway.get("/x").await.text(), "1");
        let reply = gateway.get("/x").await;
        assert_eq!(reply.text(), "3");
        assert_eq!(gateway.access_of(&reply).await["attempts"], 1);

        writer.answer([Answer::close(), Answer::ok("again")]);
        let reply = gateway.call(Request::post("/x", "may have taken effect")).await;
        assert!(reply.problem(503).contains("service unavailable"));
        assert_eq!(writer.count(), 4, "the POST was not sent again");
    }
}

mod headers {
    use super::*;

    #[tokio::test]
    async fn say_who_asked_and_through_whom() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        gateway.call(Request::get("/x").header("Host", "shop.test:8003")).await;
        let received = writer.request();
        assert_eq!(received.header("x-forwarded-for").unwrap(), "127.0.0.1");
        assert_eq!(received.header("x-forwarded-proto").unwrap(), "http");
        assert_eq!(received.header("x-forwarded-host").unwrap(), "shop.test:8003");
        assert_eq!(received.header("host").unwrap(), writer.authority());
        let via = received.header("via").unwrap();
        assert!(via.starts_with("1.1 "), "{via}");
    }

    #[tokio::test]
    async fn that_forward_are_not_the_clients_to_say() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let request = Request::get("/x")
            .header("X-Forwarded-For", "10.0.0.1")
            .header("X-Forwarded-For", "10.0.0.2")
            .header("X-Forwarded-Proto", "https")
            .header("X-Forwarded-Host", "evil.test")
            .header("X-Request-Id", "forged")
            .header("Via", "1.0 before");
        gateway.call(request).await;
        let received = writer.request();
        assert_eq!(received.header("x-forwarded-for").unwrap(), "127.0.0.1");
        assert_eq!(received.header("x-forwarded-proto").unwrap(), "http");
        assert_eq!(received.header("x-forwarded-host").unwrap(), "gateway.test");
        assert_ne!(received.header("x-request-id").unwrap(), "forged");
        // Via is a list that grows: who stood before stays in it.
        let via = received.head.values("via").join(b", ".as_slice());
        let via = String::from_utf8(via).unwrap();
        assert!(via.starts_with("1.0 before, 1.1 "), "{via}");
    }

    #[tokio::test]
    async fn of_one_connection_are_not_passed_to_the_next() {
        let answer = Answer::new(
            200,
            &[
                ("Connection", "X-Private, keep-alive"),
                ("X-Private", "1"),
                ("Keep-Alive", "timeout=5"),
                ("Proxy-Connection", "keep-alive"),
                ("X-Public", "2"),
            ],
            "",
        );
        let writer = Upstream::answering([answer]).await;
        let gateway = Gateway::before([&writer], "").await;
        let request = Request::get("/x")
            .header("Connection", "keep-alive, X-Private , TE")
            .header("X-Private", "1")
            .header("Keep-Alive", "timeout=5")
            .header("Proxy-Connection", "keep-alive")
            .header("TE", "trailers")
            .header("X-Public", "2");
        let reply = gateway.call(request).await;
        let received = writer.request();
        for (side, head) in [("request", &received.head), ("response", &reply.head)] {
            for name in ["x-private", "keep-alive", "proxy-connection"] {
                assert!(!head.has(name), "{name} in the {side}: {head:?}");
            }
            assert_eq!(head.get("x-public").as_deref(), Some("2"), "{side}");
        }
        // The gateway's own connection to the service has these two.
        let own = ["connection", "te"].map(|name| received.header(name));
        assert_eq!(own, [Some("te".into()), Some("trailers".into())]);
        assert!(!reply.head.has("connection") && !reply.head.has("te"), "{:?}", reply.head);
    }

    #[tokio::test]
    async fn that_the_gateway_adds_cannot_be_listed_away() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let listed = "close, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, X-Request-Id, \
                      Via, Host, Content-Length";
        gateway.call(Request::post("/x", "body").header("Connection", listed)).await;
        let received = writer.request();
        for name in [
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-request-id",
            "via",
            "host",
        ] {
            assert!(received.head.has(name), "{name} is missing: {:?}", received.head);
        }
        assert_eq!(received.body, b"body");
    }

    #[tokio::test]
    async fn name_the_request_on_every_response_and_to_the_service() {
        let answer = Answer::new(200, &[("X-Request-Id", "the upstream's")], "");
        let writer = Upstream::answering([answer]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut seen = std::collections::HashSet::new();
        for path in ["/x", "/", "/health/status/nobody", "/x"] {
            let reply = gateway.get(path).await;
            let id = reply.header("x-request-id").unwrap();
            assert_eq!(gateway.access_of(&reply).await["path"], path);
            assert!(seen.insert(id), "an id came twice");
        }
        for received in writer.requests() {
            assert!(seen.contains(&received.header("x-request-id").unwrap()));
        }
    }
}

mod streaming {
    use super::*;

    #[tokio::test]
    async fn a_request_body_reaches_the_service_while_the_client_still_sends() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf").await;
        writer.received(|request| request.body == b"half").await;
        client.send("more").await;
        assert_eq!(client.reply().await.status(), 200);
        assert_eq!(writer.request().body, b"halfmore");
    }

    #[tokio::test]
    async fn a_response_body_reaches_the_client_while_the_service_still_sends() {
        let gate = Gate::new();
        let answer = Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
            .then_wait(&gate)
            .then_send("more");
        let writer = Upstream::answering([answer]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client.begin(&Request::get("/x")).await;
        client.head().await;
        assert_eq!(client.wire.exactly(4).await.unwrap(), b"half");
        gate.open();
        assert_eq!(client.wire.exactly(4).await.unwrap(), b"more");
    }

    #[tokio::test]
    async fn a_response_may_begin_before_the_request_has_ended() {
        let answer = Answer::status(200).before_body();
        let writer = Upstream::answering([answer]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nbegun").await;
        assert_eq!(client.head().await.status(), 200);
    }

    #[tokio::test]
    async fn an_upload_waits_for_a_service_that_does_not_read() {
        let answer = Answer::hang().before_body();
        let writer = Upstream::answering([answer]).await;
        let gateway = Gateway::before([&writer], "").await;
        let before = gateway.resident();
        let mut client = gateway.connect().await;
        let total = 1024 * MIB;
        client
            .send(format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {total}\r\n\r\n"))
            .await;
        let sent = client.send_until_stuck(total).await;
        assert!(sent < 64 * MIB, "{sent} bytes went somewhere");
        let grown = gateway.resident().saturating_sub(before);
        assert!(grown < 8 * MIB, "the gateway grew by {grown} bytes");
    }

    #[tokio::test]
    async fn a_download_waits_for_a_client_that_does_not_read() {
        let answer = Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n");
        let writer = Upstream::answering([answer.then_flood()]).await;
        let gateway = Gateway::before([&writer], "").await;
        let before = gateway.resident();
        let mut client = gateway.connect().await;
        client.begin(&Request::get("/x")).await;
        client.head().await;
        let mut last = 0;
        eventually("the flood to stop", async || {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = writer.flooded();
            (std::mem::replace(&mut last, now) == now).then_some(())
        })
        .await;
        assert!(last < 64 * MIB, "{last} bytes went somewhere");
        let grown = gateway.resident().saturating_sub(before);
        assert!(grown < 8 * MIB, "the gateway grew by {grown} bytes");
        // Once the client reads, it flows again.
        let (mut read, wanted) = (0, last + 4 * MIB);
        while read < wanted {
            read += client.wire.some(1024 * 1024).await.unwrap().len() as u64;
        }
    }

    #[tokio::test]
    async fn large_bodies_arrive_whole_in_both_directions() {
        let large = vec![b'x'; 16 * MIB as usize];
        let writer = Upstream::answering([Answer::ok(&large)]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client
            .send(format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", large.len()))
            .await;
        client.send(&large).await;
        assert_eq!(client.reply().await.body.len(), large.len());
        assert_eq!(writer.request().body_bytes, large.len() as u64);
    }
}

mod ends {
    use super::*;

    #[tokio::test]
    async fn a_response_that_is_cut_short_never_looks_whole() {
        let writer = Upstream::with(|head| {
            let begun = match head.target() {
                "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
                _ => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            };
            if head.target() == "/reset" {
                Answer::bytes(begun).then_reset()
            } else {
                Answer::bytes(begun).then_close()
            }
        })
        .await;
        let gateway = Gateway::before([&writer], "").await;
        for path in ["/length", "/chunked", "/reset"] {
            let mut client = gateway.connect().await;
            client.begin(&Request::get(path)).await;
            let head = client.head().await;
            let (_, end) = client.rest(head.response_framing("GET")).await;
            assert!(end.is_err(), "{path} ended as if it were whole");
            let line = gateway.access_line(|line| line["path"] == path).await;
            assert_eq!(line["status"], 200);
            assert_ne!(line["why"], serde_json::Value::Null, "{line}");
        }
        assert_eq!(writer.count(), 3, "what the client saw begin is not asked for again");
    }

    #[tokio::test]
    async fn a_client_that_leaves_takes_its_request_back_from_the_service() {
        let writer = Upstream::answering([Answer::hang()]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client.begin(&Request::get("/x")).await;
        let received = writer.received(|_| true).await;
        let open = writer.connections().1;
        drop(client);
        eventually("the service's connection to close", async || {
            (writer.connections().1 < open).then_some(())
        })
        .await;
        let id = received.header("x-request-id").unwrap();
        let line = gateway.access_line(|line| line["request_id"] == id.as_str()).await;
        assert_eq!(line["attempts"], 1);
    }

    #[tokio::test]
    async fn a_client_that_leaves_amid_the_response_ends_it_at_the_service() {
        let answer = Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n");
        let writer = Upstream::answering([answer.then_flood()]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client.begin(&Request::get("/x")).await;
        client.head().await;
        let open = writer.connections().1;
        client.reset();
        eventually("the service's connection to close", async || {
            (writer.connections().1 < open).then_some(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_response_body_that_stalls_is_cut_after_the_idle_timeout() {
        let answer =
            Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").then_hang();
        let writer = Upstream::answering([answer]).await;
        let gateway = Gateway::before([&writer], r#"proxy.idle_timeout = "200ms""#).await;
        let mut client = gateway.connect().await;
        client.begin(&Request::get("/x")).await;
        client.head().await;
        let (length, end) = client.rest(Framing::Length(100)).await;
        assert_eq!(length, 4);
        assert!(end.is_err());
    }

    #[tokio::test]
    async fn a_request_body_that_stalls_is_cut_after_the_idle_timeout() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], r#"proxy.idle_timeout = "200ms""#).await;
        let mut client = gateway.connect().await;
        client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf").await;
        let head = client.head().await;
        assert_eq!(head.status(), 408);
        let begun = writer.received(|_| true).await;
        assert!(!begun.whole);
    }

    #[tokio::test]
    async fn a_body_that_keeps_moving_outlives_every_timeout() {
        let writer = Upstream::start().await;
        let lines = "proxy.idle_timeout = \"500ms\"\nproxy.request_timeout = \"500ms\"";
        let gateway = Gateway::before([&writer], lines).await;
        let mut client = gateway.connect().await;
        client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n").await;
        // Ten times a fifth of the timeouts: two seconds of upload.
        for _ in 0..10 {
            client.send("x").await;
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        assert_eq!(client.reply().await.status(), 200);
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_after_the_keep_alive_timeout() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], r#"limits.keep_alive_timeout = "200ms""#).await;
        // After an answer of a service, after one of the gateway, and without having asked at all.
        for path in [Some("/x"), Some("/"), None] {
            let mut client = gateway.connect().await;
            if let Some(path) = path {
                assert_eq!(client.call(Request::get(path)).await.status(), 200);
            }
            let idle_since = Instant::now();
            client.ended().await;
            let idle = idle_since.elapsed();
            assert!(idle < Duration::from_secs(2), "{idle:?} after {path:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_whose_response_is_not_out_yet_is_not_idle() {
        let flood = |head: &Head| {
            let length = head.target().trim_start_matches('/');
            Answer::bytes(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))
                .then_flood()
        };
        let writer = Upstream::with(flood).await;
        let gateway = Gateway::before([&writer], r#"limits.keep_alive_timeout = "1s""#).await;
        // Some of these end where the kernel takes no more, and a last piece waits in the gateway.
        let mut clients = Vec::new();
        for length in (40_000..700_000).step_by(4_000) {
            let mut client = gateway.connect().await;
            client.begin(&Request::get(&format!("/{length}"))).await;
            clients.push(client);
        }
        // The clock of this test is another connection, which is closed for being idle.
        for _ in 0..2 {
            gateway.connect().await.ended().await;
        }
        for client in &mut clients {
            client.reply().await; // Whole, or the test fails.
        }
    }

    #[tokio::test]
    async fn a_head_that_dawdles_is_cut_after_the_header_timeout() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], r#"limits.header_timeout = "200ms""#).await;
        let mut client = gateway.connect().await;
        client.send("GET /x HTTP/1.1\r\nHost:").await;
        let bytes = client.wire.some(1024).await.unwrap_or_default();
        let said = String::from_utf8_lossy(&bytes).into_owned();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
        assert_eq!(writer.count(), 0);
    }
}

mod refused {
    use super::*;

    /// The status of the answer to these bytes, after which the gateway closes.
    async fn answer_to(gateway: &Gateway, bytes: &str) -> u16 {
        let mut client = gateway.connect().await;
        client.send(bytes).await;
        let reply = client.reply().await;
        client.ended().await;
        reply.status()
    }

    #[tokio::test]
    async fn what_could_be_read_in_two_ways() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        for (bytes, why) in [
            ("GET /x HTTP/1.1\r\n\r\n", "no Host"),
            ("GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "two Hosts"),
            (
                "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
                "a framing that does not end",
            ),
            (
                "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
                "two lengths",
            ),
            ("GET /x HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n", "a blank before the colon"),
            ("GET /x HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n", "a folded line"),
            ("nonsense\r\n\r\n", "not HTTP"),
        ] {
            assert_eq!(answer_to(&gateway, bytes).await, 400, "{why}");
        }
        assert_eq!(writer.count(), 0);
    }

    /// RFC 9112 section 6.3: a gateway may read such a request as chunked alone, if it forwards no
    /// other framing and reads nothing behind it.
    #[tokio::test]
    async fn what_is_framed_twice_is_forwarded_once_and_nothing_behind_it() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        for fields in [
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 4",
        ] {
            let before = writer.count();
            let request = format!("POST /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\n");
            let both = format!("{request}GET /b HTTP/1.1\r\nHost: a\r\n\r\n");
            let status = answer_to(&gateway, &both).await;
            assert!([200, 400].contains(&status), "{fields}: {status}");
            let requests = writer.requests().split_off(before);
            assert!(requests.iter().all(|it| it.head.target() == "/x"), "{requests:?}");
            assert!(requests.iter().all(|it| !it.head.has("content-length")), "{requests:?}");
        }
    }

    #[tokio::test]
    async fn a_service_that_switches_protocols_unasked() {
        let switching =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw";
        let writer = Upstream::answering([Answer::bytes(switching)]).await;
        let gateway = Gateway::before([&writer], "policy.retry.config.attempts = 1").await;
        let reply = gateway.get("/x").await;
        assert_eq!(reply.status(), 503);
        assert_eq!(reply.json()["detail"], "writer service unavailable: connection lost");
    }

    #[tokio::test]
    async fn heads_beyond_the_limits() {
        let writer = Upstream::start().await;
        let lines = "limits.header_bytes = \"8KiB\"\nlimits.header_count = 10";
        let gateway = Gateway::before([&writer], lines).await;
        let large =
            format!("GET /x HTTP/1.1\r\nHost: a\r\nX-Large: {}\r\n\r\n", "x".repeat(16 * 1024));
        assert_eq!(answer_to(&gateway, &large).await, 431);
        // Below what hyper's buffer holds, and above the limit: this one says why.
        let mut client = gateway.connect().await;
        client
            .send(format!("GET /x HTTP/1.1\r\nHost: a\r\nX-Large: {}\r\n\r\n", "x".repeat(8192)))
            .await;
        let reply = client.reply().await;
        assert_eq!(reply.status(), 431);
        assert!(reply.text().is_empty() || reply.json()["detail"].is_string(), "{}", reply.text());
        let many: String = (0..20).map(|index| format!("X-{index}: x\r\n")).collect();
        assert_eq!(
            answer_to(&gateway, &format!("GET /x HTTP/1.1\r\nHost: a\r\n{many}\r\n")).await,
            431
        );
        let few: String = (0..5).map(|index| format!("X-{index}: x\r\n")).collect();
        let mut client = gateway.connect().await;
        client.send(format!("GET /x HTTP/1.1\r\nHost: a\r\n{few}\r\n")).await;
        assert_eq!(client.reply().await.status(), 200);
    }

    #[tokio::test]
    async fn methods_that_would_turn_the_gateway_into_a_tunnel_or_a_mirror() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client.send("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n").await;
        let status = client.head().await.status();
        assert!((400..=501).contains(&status), "{status}");
        assert_eq!(writer.count(), 0);
    }

    #[tokio::test]
    async fn connections_beyond_the_limit() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "limits.connections = 2").await;
        let mut first = gateway.connect().await;
        let mut second = gateway.connect().await;
        for client in [&mut first, &mut second] {
            assert_eq!(client.call(Request::get("/x")).await.status(), 200);
        }
        // It is told at once, without having been read, and told when to come back.
        let mut third = gateway.connect().await;
        let reply = third.reply().await;
        assert_eq!(reply.problem(503), "too many connections");
        assert_eq!(reply.header("retry-after").as_deref(), Some("1"));
        assert_eq!(reply.header("connection").as_deref(), Some("close"));
        third.ended().await;
        assert_eq!(first.call(Request::get("/x")).await.status(), 200);
        // Whoever leaves makes room.
        drop(first);
        eventually("a place to be free", async || {
            let mut client = gateway.connect().await;
            client.begin(&Request::get("/x")).await;
            (client.reply().await.status() == 200).then_some(())
        })
        .await;
        assert_eq!(second.call(Request::get("/x")).await.status(), 200);
    }
}
