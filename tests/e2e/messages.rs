//! HTTP/1.1 to the letter: who a request comes from, trailers, old clients, and what is framed so
//! that two readers would disagree about it.

use std::net::IpAddr;

use orchestrator_tests::{
    Answer, Client, Gate, Gateway, Received, Reply, Request, Upstream, component, service,
    toml_path,
};

mod callers {
    use super::*;

    const TRUSTED: &str = r#"server.trusted_proxies = ["127.0.0.1", "10.0.0.0/8", "fd00::/8"]"#;

    /// The forwarding headers that reached the service: `X-Forwarded-For`, `-Proto`, `-Host` and
    /// `Forwarded`.
    fn told(received: &Received) -> [String; 4] {
        ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"]
            .map(|name| received.header(name).unwrap_or_default())
    }

    /// What a client that is nobody in particular is told of.
    fn peer_alone(address: &str) -> [String; 4] {
        let forwarded = format!("for={address};proto=http;host=gateway.test");
        [address.to_owned(), "http".to_owned(), "gateway.test".to_owned(), forwarded]
    }

    #[tokio::test]
    async fn are_the_peers_and_what_they_say_about_themselves_is_replaced() {
        let writer = Upstream::start().await;
        // Trusting others does not help.
        let lines = r#"server.trusted_proxies = ["10.0.0.0/8", "127.0.0.2"]"#;
        let gateway = Gateway::before([&writer], lines).await;
        let request = Request::get("/x")
            .header("X-Forwarded-For", "192.0.2.1")
            .header("X-Forwarded-Proto", "https")
            .header("X-Forwarded-Host", "evil.test")
            .header("X-Forwarded-Prefix", "/evil")
            .header("Forwarded", "for=192.0.2.1;proto=https;host=evil.test")
            .header("X-Real-Ip", "192.0.2.1")
            .header("X-Request-Id", "forged");
        let reply = gateway.call(request).await;
        let received = writer.request();
        assert_eq!(told(&received), peer_alone("127.0.0.1"));
        assert!(!received.head.has("x-real-ip") && !received.head.has("x-forwarded-prefix"));
        assert_ne!(reply.header("x-request-id").unwrap(), "forged");
        assert_eq!(gateway.access_of(&reply).await["client"], "127.0.0.1");
    }

    #[tokio::test]
    async fn of_a_trusted_proxy_are_whom_it_names() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], TRUSTED).await;
        for (sent, client, expected) in [
            (
                &[
                    ("X-Forwarded-For", "6.6.6.6, 192.0.2.1, 10.0.0.1"),
                    ("X-Forwarded-Proto", "https"),
                ] as &[_],
                "192.0.2.1",
                [
                    "6.6.6.6, 192.0.2.1, 10.0.0.1, 127.0.0.1",
                    "https",
                    "gateway.test",
                    "for=6.6.6.6;proto=https, for=192.0.2.1, for=10.0.0.1, for=127.0.0.1;proto=http",
                ],
            ),
            (
                &[("Forwarded", r#"for="[2001:db8::1]:80";proto=https;host="shop.test:81""#)],
                "2001:db8::1",
                [
                    "2001:db8::1, 127.0.0.1",
                    "https",
                    "shop.test:81",
                    r#"for="[2001:db8::1]:80";proto=https;host="shop.test:81", for=127.0.0.1;proto=http"#,
                ],
            ),
            (
                &[
                    ("X-Forwarded-For", "192.0.2.1"),
                    ("Forwarded", "for=192.0.2.1;proto=http"),
                    ("X-Forwarded-Proto", "https"),
                    ("X-Forwarded-Host", "shop.test"),
                ],
                "192.0.2.1",
                [
                    "192.0.2.1, 127.0.0.1",
                    "https",
                    "shop.test",
                    "for=192.0.2.1;proto=http, for=127.0.0.1;proto=http",
                ],
            ),
        ] {
            let before = writer.count();
            let request = sent
                .iter()
                .fold(Request::get("/x"), |request, (name, value)| request.header(name, value));
            let reply = gateway.call(request).await;
            assert_eq!(told(&writer.requests()[before]), expected, "{sent:?}");
            assert_eq!(gateway.access_of(&reply).await["client"], client, "{sent:?}");
        }
    }

    #[tokio::test]
    async fn of_a_trusted_proxy_that_is_not_understood_are_the_proxy() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], TRUSTED).await;
        for sent in [
            &[("Forwarded", "for=\"192.0.2.1")] as &[(&str, &str)],
            &[("Forwarded", "nonsense")],
            &[("X-Forwarded-For", "\u{e9}")],
            &[("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.66")],
        ] {
            let before = writer.count();
            let request = Request::get("/x").header("X-Forwarded-Proto", "https");
            let request =
                sent.iter().fold(request, |request, (name, value)| request.header(name, value));
            let reply = gateway.call(request).await;
            assert_eq!(told(&writer.requests()[before]), peer_alone("127.0.0.1"), "{sent:?}");
            assert_eq!(gateway.access_of(&reply).await["client"], "127.0.0.1", "{sent:?}");
        }
    }

    #[tokio::test]
    async fn are_judged_by_the_connection_that_they_come_over() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], TRUSTED).await;
        for (own, client) in [("127.0.0.2", "127.0.0.2"), ("127.0.0.1", "192.0.2.1")] {
            let own: IpAddr = own.parse().unwrap();
            let mut connection = Client::connect_from(own, gateway.listen).await;
            for _ in 0..2 {
                let request = Request::get("/x").header("X-Forwarded-For", "192.0.2.1");
                let reply = connection.call(request).await;
                assert_eq!(gateway.access_of(&reply).await["client"], client);
            }
        }
    }

    #[tokio::test]
    async fn are_what_policies_are_told() {
        let writer = Upstream::start().await;
        let gateway = Gateway::start(format!(
            "{}\n{TRUSTED}\npolicy.routing.component = {}",
            service("writer", [&writer]),
            toml_path(&component("echo"))
        ))
        .await;
        let request = Request::get("/x")
            .header("X-Forwarded-For", "192.0.2.1, 10.1.2.3")
            .header("X-Forwarded-Proto", "https");
        let told = gateway.call(request.clone()).await.text();
        assert!(told.contains("client 192.0.2.1\n") && told.contains("scheme https\n"), "{told}");
        let mut stranger = Client::connect_from("127.0.0.2".parse().unwrap(), gateway.listen).await;
        let told = stranger.call(request).await.text();
        assert!(told.contains("client 127.0.0.2\n") && told.contains("scheme http\n"), "{told}");
    }

    #[tokio::test]
    async fn name_their_request_if_they_are_trusted_and_the_name_is_fit() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], TRUSTED).await;
        let long = "x".repeat(129);
        for (id, fit) in [("7f3a-1:b", true), ("a b", false), ("a\"b", false), (&long, false)] {
            let before = writer.count();
            let reply = gateway.call(Request::get("/x").header("X-Request-Id", id)).await;
            let own = reply.header("x-request-id").unwrap();
            assert_eq!(own == id, fit, "{id}: {own}");
            assert!(!own.is_empty());
            assert_eq!(writer.requests()[before].header("x-request-id").unwrap(), own);
            assert_eq!(gateway.access_of(&reply).await["request_id"], own.as_str());
        }
    }

    #[tokio::test]
    async fn keep_what_else_a_trusted_proxy_says_but_never_in_another_spelling() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], TRUSTED).await;
        let request = Request::get("/x")
            .header("X-Forwarded-For", "192.0.2.1")
            .header("X-Forwarded-Port", "443")
            .header("X-Real-Ip", "192.0.2.1")
            .header("X_Forwarded_For", "6.6.6.6")
            .header("X_Real_Ip", "6.6.6.6");
        gateway.call(request).await;
        let received = writer.request();
        assert_eq!(received.header("x-forwarded-port").unwrap(), "443");
        assert_eq!(received.header("x-real-ip").unwrap(), "192.0.2.1");
        assert!(!received.head.has("x_forwarded_for") && !received.head.has("x_real_ip"));
    }
}

mod headers {
    use super::*;

    #[tokio::test]
    async fn that_look_like_the_gateways_own_do_not_reach_the_service() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let names = [
            "X_Forwarded_For",
            "X-Forwarded_For",
            "X_FORWARDED_PROTO",
            "X_Forwarded_Host",
            "X_Real_IP",
            "X_Request_Id",
            "Client-IP",
            "Client_IP",
            "True-Client-IP",
            "X-Client-IP",
            "Proxy",
            "CF-Connecting-IP",
            "X-Cluster-Client-Ip",
            "Fastly-Client-IP",
            "X-Original-URL",
            "X-Rewrite-Url",
            "X_Original_Url",
            "Transfer_Encoding",
            "Content_Length",
            "Proxy-Connection",
            "Proxy_Authorization",
        ];
        let request = names
            .iter()
            .fold(Request::post("/x", "body"), |request, name| request.header(name, "forged"));
        let request = request.header("X_Api_Key", "kept").header("Content_Type", "kept");
        assert_eq!(gateway.call(request).await.status(), 200);
        let received = writer.request();
        let head = String::from_utf8_lossy(&received.head.bytes).into_owned();
        assert!(!head.contains("forged"), "{head}");
        assert_eq!(received.header("x_api_key").unwrap(), "kept");
        assert_eq!(received.header("content_type").unwrap(), "kept");
        assert_eq!(received.body, b"body");
    }

    #[tokio::test]
    async fn that_connection_names_are_stripped_but_never_those_that_frame_route_or_tell() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let listed = "X-Forwarded-For, Forwarded, X-Forwarded-Host, X-Forwarded-Proto, Host, \
                      Content-Length, Transfer-Encoding, X-Request-Id, Via, TE, Trailer, Date, X-Own, \
                      Connection, close";
        let mut client = gateway.connect().await;
        let head = format!("POST /x HTTP/1.1\r\nHost: a\r\nConnection: {listed}\r\nX-Own: 1\r\n");
        client.send(format!("{head}Content-Length: 4\r\n\r\nbody")).await;
        assert_eq!(client.reply().await.status(), 200);
        let mut client = gateway.connect().await;
        client
            .send(format!("{head}Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"))
            .await;
        assert_eq!(client.reply().await.status(), 200);
        for received in writer.requests() {
            for name in ["x-forwarded-for", "forwarded", "x-forwarded-host", "x-forwarded-proto"] {
                assert!(received.head.has(name), "{name}: {received:?}");
            }
            for name in ["host", "x-request-id", "via"] {
                assert!(received.head.has(name), "{name}: {received:?}");
            }
            assert!(!received.head.has("x-own") && !received.head.has("connection"));
            assert_eq!(received.body, b"body");
        }
    }

    /// W3C Trace Context: a gateway that makes no spans passes it on as it came.
    #[tokio::test]
    async fn of_a_trace_are_relayed() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let request = Request::get("/x")
            .header("traceparent", parent)
            .header("tracestate", "a=1")
            .header("tracestate", "b=2")
            .header("baggage", "c=3");
        gateway.call(request).await;
        let received = writer.request();
        assert_eq!(received.header("traceparent").unwrap(), parent);
        assert_eq!(received.head.values("tracestate"), [b"a=1", b"b=2"]);
        assert_eq!(received.header("baggage").unwrap(), "c=3");
    }

    #[tokio::test]
    async fn that_name_no_host_or_several_or_half_of_one_are_refused() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        for fields in [
            "",
            "Host: a\r\nHost: a\r\n",
            "Host: a\r\nhost: b\r\n",
            "Host:\r\n",
            "Host: user@a\r\n",
            "Host: a:b\r\n",
            "Host: a:0\r\n",
            "Host: a:70000\r\n",
            "Host: a b\r\n",
            "Host: a/b\r\n",
            "Host: a,b\r\n",
            "Host: [::1\r\n",
            "Host: a%41\r\n",
        ] {
            let mut client = gateway.connect().await;
            client.send(format!("GET /x HTTP/1.1\r\n{fields}\r\n")).await;
            client.reply().await.problem(400);
            client.ended().await;
        }
        assert_eq!(writer.count(), 0);
    }
}

mod sizes {
    use super::*;

    /// A request whose head has so many bytes, with this body.
    fn sized(head_bytes: usize, body: &str) -> String {
        let length = body.len();
        let head = |filler: &str| {
            format!(
                "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nX-Filler: {filler}\r\n\r\n"
            )
        };
        let filler = "y".repeat(head_bytes - head("").len());
        head(&filler) + body
    }

    /// 4 KiB are read at first, and 64 KiB of a body behind them.
    #[tokio::test]
    async fn of_heads_and_bodies_around_what_is_read_at_once_are_all_the_same() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        let mut sent = Vec::new();
        for head_bytes in [4095, 4096, 4097, 8192] {
            for body_bytes in [0, 1, 4096, (64 << 10) - 1, 64 << 10, 200_000] {
                // Behind the first comes a second at once.
                let bodies = ["b".repeat(body_bytes), format!("{head_bytes} {body_bytes}")];
                client.send(sized(head_bytes, &bodies[0]) + &sized(100, &bodies[1])).await;
                assert_eq!(client.reply().await.status(), 200, "{head_bytes} {body_bytes}");
                assert_eq!(client.reply().await.status(), 200, "{head_bytes} {body_bytes}");
                sent.extend(bodies);
            }
        }
        let received = writer.requests();
        let bodies: Vec<_> = received.iter().map(|it| String::from_utf8_lossy(&it.body)).collect();
        assert!(bodies == sent, "some body is another one");
        assert!(received.iter().all(|it| it.whole && it.head.has("x-filler")));
    }

    #[tokio::test]
    async fn of_pieces_of_a_chunked_body_are_all_the_same() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        let head = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for size in [1, 4096, 5000, 64 << 10, 150_000] {
            client.send(head).await;
            for piece in ["a", "b"].map(|it| it.repeat(size)) {
                client.send(format!("{size:x}\r\n{piece}\r\n")).await;
            }
            client.send("0\r\n\r\n").await;
            assert_eq!(client.reply().await.status(), 200, "{size}");
            let received = writer.requests().pop().expect("it came");
            assert!(received.body == ["a", "b"].map(|it| it.repeat(size)).concat().as_bytes());
        }
    }
}

mod trailers {
    use super::*;

    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";

    async fn behind(answer: Answer) -> (Upstream, Gateway) {
        let writer = Upstream::answering([answer]).await;
        let gateway = Gateway::before([&writer], "").await;
        (writer, gateway)
    }

    #[tokio::test]
    async fn of_a_response_reach_a_client_that_takes_them() {
        let answer = format!(
            "{CHUNKED}Trailer: X-Checksum, Server-Timing\r\n\r\n5\r\nhello\r\n0\r\n\
             X-Checksum: abc\r\nServer-Timing: total;dur=1\r\n\r\n"
        );
        let (writer, gateway) = behind(Answer::bytes(answer)).await;
        let mut client = gateway.connect().await;
        let request = Request::get("/x").header("TE", "trailers").header("Connection", "TE");
        for _ in 0..2 {
            let reply = client.call(request.clone()).await;
            assert_eq!(reply.text(), "hello");
            assert_eq!(reply.header("trailer").unwrap(), "x-checksum, server-timing");
            assert_eq!(reply.trailers, ["x-checksum: abc", "server-timing: total;dur=1"]);
            let line = gateway.access_of(&reply).await;
            assert_eq!((line["why"].as_str(), line["bytes_out"].as_u64()), (Some("done"), Some(5)));
        }
        let received = writer.requests();
        assert_eq!(received[0].header("te").unwrap(), "trailers");
        assert_eq!(received[0].header("connection").unwrap(), "te");
        assert_eq!(received[0].connection, received[1].connection, "the connection is kept");
    }

    #[tokio::test]
    async fn of_a_response_are_left_out_for_a_client_that_does_not_ask() {
        let answer =
            format!("{CHUNKED}Trailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: abc\r\n\r\n");
        let (writer, gateway) = behind(Answer::bytes(answer)).await;
        let mut client = gateway.connect().await;
        for te in [None, Some("gzip"), Some("gzip;q=0.5, deflate")] {
            let request = te.iter().fold(Request::get("/x"), |it, te| it.header("TE", te));
            let reply = client.call(request).await;
            assert_eq!((reply.text().as_str(), reply.trailers.len()), ("hello", 0), "{te:?}");
            assert!(!reply.head.has("trailer"), "{:?}", reply.head);
            assert_eq!(gateway.access_of(&reply).await["why"], "done");
        }
        assert!(writer.requests().iter().all(|received| !received.head.has("te")));
    }

    #[tokio::test]
    async fn of_a_request_reach_the_service() {
        let (writer, gateway) = behind(Answer::ok("fine")).await;
        let mut client = gateway.connect().await;
        for _ in 0..2 {
            client
                .send(
                    "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
                     Trailer: X-Checksum\r\n\r\n4\r\nbody\r\n0\r\nX-Checksum: abc\r\n\r\n",
                )
                .await;
            let reply = client.reply().await;
            assert_eq!(reply.text(), "fine");
            assert_eq!(gateway.access_of(&reply).await["why"], "done");
        }
        let all = writer.requests();
        for received in &all {
            assert_eq!(received.header("trailer").unwrap(), "x-checksum");
            assert_eq!((received.body.as_slice(), received.whole), (b"body".as_slice(), true));
            assert_eq!(received.trailers, ["x-checksum: abc"]);
            assert_eq!(received.connection, all[0].connection, "the connection is kept");
        }
    }

    #[tokio::test]
    async fn that_were_not_announced_or_may_not_be_any_are_dropped() {
        let forged = "Content-Length: 0\r\nHost: evil\r\nTransfer-Encoding: x\r\nX-Forwarded-For: 6.6.6.6\
            \r\nX_Request_Id: forged\r\nAuthorization: Basic eDp5\r\nSet-Cookie: a=1\r\n\
            Cache-Control: no-store\r\nIf-Match: a\r\nAccess-Control-Allow-Origin: x\r\n\
            Connection: close\r\nX-Hidden: 1\r\nX-Good: 2\r\n";
        let announced = "Trailer: Content-Length, Host, Transfer-Encoding, X-Forwarded-For, \
            X_Request_Id, Authorization, Set-Cookie, Cache-Control, If-Match, \
            Access-Control-Allow-Origin, Connection, X-Good\r\n";
        let answer = format!("{CHUNKED}{announced}\r\n5\r\nhello\r\n0\r\n{forged}\r\n");
        let (writer, gateway) = behind(Answer::bytes(answer)).await;
        let mut client = gateway.connect().await;
        client
            .send(format!(
                "PUT /x HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
                 {announced}\r\n4\r\nbody\r\n0\r\n{forged}\r\n"
            ))
            .await;
        let reply = client.reply().await;
        let received = writer.request();
        for (head, trailers) in
            [(&reply.head, &reply.trailers), (&received.head, &received.trailers)]
        {
            assert_eq!(head.get("trailer").unwrap(), "x-good");
            assert_eq!(*trailers, ["x-good: 2"]);
        }
    }

    #[tokio::test]
    async fn beyond_the_limits_break_the_body() {
        let (writer, gateway) = behind(Answer::ok("fine")).await;
        for trailers in ["X-A: 1\r\n".repeat(2000), format!("X-A: {}\r\n", "x".repeat(100_000))] {
            let mut client = gateway.connect().await;
            let head = "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            // The gateway may have answered and closed before all of it is sent.
            let _ = client
                .wire
                .send(format!("{head}4\r\nbody\r\n0\r\n{trailers}\r\n").as_bytes())
                .await;
            if let Ok(Some(head)) = client.wire.head().await {
                assert_eq!(head.status(), 400);
            }
        }
        assert!(writer.requests().iter().all(|received| !received.whole));
    }
}

mod old_clients {
    use super::*;

    /// A service that streams without a length.
    async fn streaming() -> (Upstream, Gateway) {
        let writer = Upstream::with(|head| match head.target() {
            "/length" => Answer::ok("hello"),
            _ => Answer::bytes(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n\
                 2\r\nhe\r\n3\r\nllo\r\n0\r\nX-A: 1\r\n\r\n",
            ),
        })
        .await;
        let gateway = Gateway::before([&writer], "").await;
        (writer, gateway)
    }

    #[tokio::test]
    async fn get_no_chunks_and_the_end_of_the_connection_instead() {
        let (writer, gateway) = streaming().await;
        for fields in ["", "Connection: keep-alive\r\n", "TE: trailers\r\n"] {
            let mut client = gateway.connect().await;
            client.send(format!("GET /chunks HTTP/1.0\r\n{fields}\r\n")).await;
            let reply = client.reply().await;
            assert_eq!((reply.status(), reply.text().as_str()), (200, "hello"));
            assert!(reply.head.start_line.starts_with("HTTP/1.0 "), "{:?}", reply.head);
            for name in ["transfer-encoding", "content-length", "trailer"] {
                assert!(!reply.head.has(name), "{name}: {:?}", reply.head);
            }
            client.ended().await;
        }
        for received in writer.requests() {
            assert!(received.head.start_line.ends_with(" HTTP/1.1"));
            assert_eq!(received.header("via").unwrap(), "1.0 orchestrator");
            assert!(!received.head.has("x-forwarded-host") && !received.head.has("te"));
            assert_eq!(received.header("forwarded").unwrap(), "for=127.0.0.1;proto=http");
        }
    }

    #[tokio::test]
    async fn keep_their_connection_where_they_ask_and_the_length_is_known() {
        let (_writer, gateway) = streaming().await;
        let mut client = gateway.connect().await;
        for _ in 0..3 {
            client.send("GET /length HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").await;
            let reply = client.reply().await;
            assert_eq!(reply.text(), "hello");
            assert_eq!(reply.header("connection").unwrap(), "keep-alive");
        }
        client.send("GET /length HTTP/1.0\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.reply().await.text(), "hello");
        client.ended().await;
    }

    #[tokio::test]
    async fn may_send_a_body_with_a_length() {
        let (writer, gateway) = streaming().await;
        let mut client = gateway.connect().await;
        client.send("POST /length HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody").await;
        assert_eq!(client.reply().await.text(), "hello");
        assert_eq!(writer.request().body, b"body");
    }
}

mod answers {
    use super::*;

    #[tokio::test]
    async fn to_pipelined_requests_come_in_order_whatever_they_are() {
        let gate = Gate::new();
        let first = Answer::ok("/slow").behind(&gate);
        let writer = Upstream::with(move |head| match head.target() {
            "/slow" => first.clone(),
            "/chunked" => Answer::bytes(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nc\r\n0\r\n\r\n",
            ),
            target => Answer::ok(target),
        })
        .await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        client
            .send(
                "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n\
                 POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody\
                 PUT /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n\
                 GET /health/status/nobody HTTP/1.1\r\nHost: a\r\n\r\n\
                 HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n\
                 GET /chunked HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n\
                 GET /never HTTP/1.1\r\nHost: a\r\n\r\n",
            )
            .await;
        writer.received(|received| received.head.target() == "/slow").await;
        gate.open();
        for expected in ["/slow", "/body", "/chunks"] {
            assert_eq!(client.reply().await.text(), expected);
        }
        assert_eq!(client.reply().await.status(), 404);
        assert_eq!(client.reply_to("HEAD").await.header("content-length").unwrap(), "5");
        assert_eq!(client.reply().await.text(), "c");
        client.ended().await;
        let received = writer.requests();
        let lines: Vec<String> = received.iter().map(Received::line).collect();
        assert_eq!(lines, ["GET /slow", "POST /body", "PUT /chunks", "HEAD /head", "GET /chunked"]);
        assert_eq!((&received[1].body[..], &received[2].body[..]), (&b"body"[..], &b"x"[..]));
    }

    #[tokio::test]
    async fn without_a_body_have_none_whatever_the_service_claims() {
        let writer = Upstream::with(|head| {
            let status = match head.target() {
                "/204" => "204 No Content",
                "/304" => "304 Not Modified",
                _ => "200 OK",
            };
            Answer::bytes(match head.method() {
                "HEAD" => format!(
                    "HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n"
                ),
                _ if status.starts_with("200") => {
                    format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok")
                }
                _ => format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\n"),
            })
        })
        .await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        for (method, target, status) in [
            ("GET", "/204", 204),
            ("GET", "/304", 304),
            ("HEAD", "/204", 204),
            ("HEAD", "/304", 304),
            ("HEAD", "/x", 200),
            ("GET", "/x", 200),
        ] {
            let request = Request::new(method, target).header("TE", "trailers");
            let reply = client.call(request).await;
            assert_eq!(reply.status(), status, "{method} {target}");
            assert!(!reply.head.has("transfer-encoding"), "{method} {target}: {:?}", reply.head);
            if status == 204 {
                // RFC 9110 section 8.6.
                assert!(!reply.head.has("content-length"), "{method} {target}: {:?}", reply.head);
            }
        }
        assert_eq!(client.call(Request::get("/x")).await.text(), "ok");
    }

    #[tokio::test]
    async fn in_the_meantime_are_dropped_and_the_final_one_passes() {
        let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
            HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n\
            HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal";
        let writer = Upstream::answering([Answer::bytes(answer)]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        for _ in 0..2 {
            let reply = client.call(Request::get("/x")).await;
            assert_eq!((reply.status(), reply.text().as_str()), (200, "final"));
            assert!(!reply.head.has("link"));
        }
    }
}

/// Each hostile message is refused, or reaches the service as exactly one request, of which both
/// read the same.
mod hostile {
    use super::*;

    const NEXT: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

    /// What the gateway does with bytes that end in [`NEXT`], as part of a body or behind it.
    async fn send(gateway: &Gateway, bytes: &str) -> Option<Reply> {
        let mut client = gateway.connect().await;
        client.send(bytes).await;
        let head = orchestrator_tests::within("an answer or the end", client.wire.head()).await;
        let head = head.ok().flatten()?;
        let mut body = Vec::new();
        let framing = head.response_framing("GET");
        client.wire.body(framing, |piece| body.extend_from_slice(piece)).await.ok()?;
        if head.get("connection").as_deref() == Some("close") {
            client.ended().await;
        }
        Some(Reply { head, body, trailers: Vec::new() })
    }

    #[tokio::test]
    async fn heads_are_refused() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let post = "POST /x HTTP/1.1\r\nHost: a\r\n";
        for head in [
            // Lengths that some read as numbers.
            format!("{post}Content-Length: +4\r\n\r\n"),
            format!("{post}Content-Length: -4\r\n\r\n"),
            format!("{post}Content-Length: 0x4\r\n\r\n"),
            format!("{post}Content-Length: 4,4\r\n\r\n"),
            format!("{post}Content-Length: 4 4\r\n\r\n"),
            format!("{post}Content-Length: \r\n\r\n"),
            format!("{post}Content-Length: 4;\r\n\r\n"),
            format!("{post}Content-Length: 4.0\r\n\r\n"),
            format!("{post}Content-Length: 18446744073709551616\r\n\r\n"),
            format!("{post}Content-Length: 18446744073709551615\r\n\r\n"),
            format!("{post}Content-Length: 4\r\nContent-Length: 5\r\n\r\n"),
            format!("{post}Content-Length: 5\r\nContent-Length: 4\r\n\r\n"),
            format!("{post}Content-Length : 4\r\n\r\n"),
            format!("{post}Content-Length\r\n\r\n"),
            // Transfer codings that are none, or that the gateway cannot undo.
            format!("{post}Transfer-Encoding: identity\r\n\r\n"),
            format!("{post}Transfer-Encoding: xchunked\r\n\r\n"),
            format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n"),
            format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"),
            format!(
                "{post}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            format!("{post}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
            format!(
                "{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            format!("{post}Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
            format!("{post}Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
            format!("{post}Transfer-Encoding:\r\n\r\n0\r\n\r\n"),
            format!("{post}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
            format!("{post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
            format!("{post}Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"),
            format!("{post} Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            "POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            // Fields that end or begin where others see no end.
            format!("{post}X-A: b\r\n folded\r\n\r\n"),
            format!("{post}X-A: b\r\n\tfolded\r\n\r\n"),
            format!("{post}X-A: b\rX-B: c\r\n\r\n"),
            format!("{post}X-A: b\r\r\n\r\n"),
            format!("{post}X-A: b\0c\r\n\r\n"),
            format!("{post}X-\0A: b\r\n\r\n"),
            format!("{post}X A: b\r\n\r\n"),
            format!("{post}X(A): b\r\n\r\n"),
            format!("{post}: b\r\n\r\n"),
            format!("{post}X-\u{e9}: b\r\n\r\n"),
            format!("{post}no colon\r\n\r\n"),
            // Request lines.
            "GET  /x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "GET /x  HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "GET /x y HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "GET\t/x\tHTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "GET /x HTTP/1.1 \r\nHost: a\r\n\r\n".to_owned(),
            "GET /x HTTP/1.1x\r\nHost: a\r\n\r\n".to_owned(),
            "GET /x HTTP/1.2\r\nHost: a\r\n\r\n".to_owned(),
            "GET /x HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(),
            "GET /x http/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "GET /x\r\nHost: a\r\n\r\n".to_owned(),
            "GET /x\0 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "G@T /x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            " GET /x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        ] {
            let reply = send(&gateway, &format!("{head}{NEXT}")).await;
            let Some(reply) = reply else {
                assert!(head.starts_with("PRI "), "no answer to {head:?}");
                continue; // Who begins with the preface of HTTP/2 could not read one.
            };
            // A length beyond what can be counted is too large, says hyper.
            assert!([400, 431].contains(&reply.status()), "{head:?}: {reply:?}");
            assert_eq!(reply.header("connection").unwrap(), "close", "{head:?}");
        }
        assert_eq!(gateway.get("/good").await.status(), 200);
        assert_eq!(writer.request().line(), "GET /good", "nothing else reached the service");
    }

    #[tokio::test]
    async fn bodies_that_are_framed_badly_end_their_request_and_the_connection() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let long = "x".repeat(64 * 1024);
        for chunks in [
            "0x4\r\nbody\r\n0\r\n\r\n",
            "+4\r\nbody\r\n0\r\n\r\n",
            "-4\r\nbody\r\n0\r\n\r\n",
            " 4\r\nbody\r\n0\r\n\r\n",
            "4 4\r\nbody\r\n0\r\n\r\n",
            "\r\nbody\r\n0\r\n\r\n",
            "g\r\nbody\r\n0\r\n\r\n",
            "4\nbody\r\n0\r\n\r\n",
            "4\rbody\r\n0\r\n\r\n",
            "4\r\nbody0\r\n\r\n",
            "4\r\nbody\n0\r\n\r\n",
            "4\r\nbodyX\r\n0\r\n\r\n",
            "3\r\nbody\r\n0\r\n\r\n",
            "10000000000000000\r\nbody\r\n0\r\n\r\n",
            "fffffffffffffffff\r\nbody\r\n0\r\n\r\n",
            "4;a=\nb\r\nbody\r\n0\r\n\r\n",
            "4\r\nbody\r\n0\r\nX : y\r\n\r\n",
            "4\r\nbody\r\n0\r\nno colon\r\n\r\n",
            "4\r\nbody\r\n0\r\n folded: y\r\n\r\n",
            "4\r\nbody\r\n0\n\n",
            &format!("4;{long}\r\nbody\r\n0\r\n\r\n"),
        ] {
            let before = writer.count();
            let head = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            if let Some(reply) = send(&gateway, &format!("{head}{chunks}{NEXT}")).await {
                assert_eq!(reply.status(), 400, "{chunks:?}");
                assert_eq!(reply.header("connection").unwrap(), "close", "{chunks:?}");
            }
            assert_eq!(gateway.get("/good").await.status(), 200);
            let received = writer.requests().split_off(before);
            let (good, bad) = received.split_last().unwrap();
            assert_eq!(good.line(), "GET /good", "{chunks:?}");
            assert!(bad.len() <= 1, "{chunks:?}: {bad:?}");
            assert!(
                bad.iter().all(|it| it.line() == "POST /x" && !it.whole),
                "{chunks:?}: {bad:?}"
            );
        }
    }

    #[tokio::test]
    async fn bodies_that_are_only_odd_reach_the_service_as_one_request_framed_anew() {
        let writer = Upstream::start().await;
        let gateway = Gateway::before([&writer], "").await;
        let inner = format!("{NEXT}!");
        let length = inner.len();
        let chunked = "Transfer-Encoding: chunked\r\n\r\n";
        for (message, body) in [
            // A request within a body is a body.
            (format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{inner}"), &*inner),
            (format!("GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{inner}"), &inner),
            (
                format!("POST /x HTTP/1.1\r\nHost: a\r\n{chunked}{length:x}\r\n{inner}\r\n0\r\n\r\n"),
                &inner,
            ),
            (
                format!("GET /x HTTP/1.1\r\nHost: a\r\n{chunked}{length:x}\r\n{inner}\r\n0\r\n\r\n"),
                &inner,
            ),
            (
                format!("DELETE /x HTTP/1.1\r\nHost: a\r\n{chunked}4\r\nbody\r\n00000\r\n\r\n"),
                "body",
            ),
            // The same length twice is one length.
            (
                "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody".into(),
                "body",
            ),
            ("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length:  0004 \r\n\r\nbody".into(), "body"),
            // What only looks like framing is none, and does not reach the service.
            (
                "POST /x HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nContent_Length: 9\r\n\
                 Content-Length: 4\r\n\r\nbody"
                    .into(),
                "body",
            ),
            // Lines that end with LF alone (RFC 9112 section 2.2) are written anew.
            ("POST /x HTTP/1.1\nHost: a\nContent-Length: 4\n\nbody".into(), "body"),
            ("\r\n\r\nPOST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody".into(), "body"),
            // Extensions of chunks are for this connection, and go no further.
            (
                format!(
                    "POST /x HTTP/1.1\r\nHost: a\r\n{chunked}4;a=\"b\r\nbody\r\n0;c\r\n\r\n"
                ),
                "body",
            ),
            (format!("POST /x HTTP/1.1\r\nHost: a\r\n{chunked}4 \t\r\nbody\r\n0\r\n\r\n"), "body"),
            ("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n".into(), ""),
            ("POST /x HTTP/1.1\r\nHost: a\r\n\r\n".into(), ""),
        ] {
            let before = writer.count();
            let mut client = gateway.connect().await;
            client.send(format!("{message}GET /next HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            for _ in 0..2 {
                assert_eq!(client.reply().await.status(), 200, "{message:?}");
            }
            let received = writer.requests().split_off(before);
            let targets: Vec<&str> = received.iter().map(|it| it.head.target()).collect();
            assert_eq!(targets, ["/x", "/next"], "{message:?}");
            let received = &received[0];
            assert_eq!(String::from_utf8_lossy(&received.body), body, "{message:?}");
            let framings = ["content-length", "transfer-encoding"].map(|it| received.head.has(it));
            assert!(framings != [true, true], "{message:?}: {received:?}");
            let head = String::from_utf8_lossy(&received.head.bytes).into_owned();
            assert!(!head.contains("_encoding") && !head.contains("_length"), "{head}");
            assert_eq!(head.matches('\n').count(), head.matches("\r\n").count(), "{head}");
        }
    }

    #[tokio::test]
    async fn answers_that_are_framed_twice_are_framed_once() {
        let answer = Answer::bytes(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\n\r\n",
        );
        let writer = Upstream::answering([answer]).await;
        let gateway = Gateway::before([&writer], "").await;
        let mut client = gateway.connect().await;
        for _ in 0..2 {
            let reply = client.call(Request::get("/x")).await;
            assert_eq!(reply.text(), "hello");
            assert!(!reply.head.has("content-length"), "{:?}", reply.head);
        }
    }

    /// To GET and HEAD, which the client must be able to read alike.
    #[tokio::test]
    async fn answers_say_their_length_once_and_in_digits() {
        for (lengths, passed) in [
            ("Content-Length: 2\r\nContent-Length: 2", Some("2")),
            ("Content-Length: 2, 2", Some("2")),
            ("Content-Length: 2\r\nContent-Length: 3", None),
            ("Content-Length: +2", None),
            ("Content-Length: two", None),
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\n");
            let writer = Upstream::with(move |request| {
                let body = if request.method() == "HEAD" { "" } else { "ok" };
                Answer::bytes(format!("{head}{body}"))
            })
            .await;
            let gateway = Gateway::before([&writer], "policy.retry.config.attempts = 1").await;
            let reply = gateway.call(Request::new("HEAD", "/x")).await;
            assert_eq!(reply.status(), 200, "{lengths:?}");
            assert_eq!(reply.header("content-length").as_deref(), passed, "{lengths:?}");
            let reply = gateway.get("/x").await;
            match passed {
                Some(length) => {
                    assert_eq!(reply.text(), "ok", "{lengths:?}");
                    assert_eq!(reply.header("content-length").as_deref(), Some(length));
                }
                None => drop(reply.problem(503)),
            }
        }
    }

    #[tokio::test]
    async fn answers_that_cannot_be_read_are_a_lost_connection() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "nonsense\r\n\r\n",
        ] {
            let writer = Upstream::answering([Answer::bytes(answer)]).await;
            let gateway = Gateway::before([&writer], "policy.retry.config.attempts = 1").await;
            let detail = gateway.get("/x").await.problem(503);
            assert_eq!(detail, "writer service unavailable: connection lost", "{answer:?}");
        }
    }
}
