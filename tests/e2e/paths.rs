//! The path rule (`host/README.md`): what is refused, what becomes one, and that own pages, policies
//! and services see the same bytes.

use orchestrator_tests::{Gateway, Request, Upstream, component, service, toml_path};

/// A gateway in front of two services: what is below `/admin` is for `vault` alone.
async fn guarded(vault: &Upstream, writer: &Upstream, lines: &str) -> Gateway {
    Gateway::start(format!(
        "{}\n{}\n{lines}\npolicy.routing.config.routes = [\
         {{ path_prefix = \"/admin\", service = \"vault\" }}, \
         {{ path_prefix = \"/\", service = \"writer\" }}]",
        service("vault", [vault]),
        service("writer", [writer]),
    ))
    .await
}

/// What a server may make of a path before it looks for what it serves: decoded once, what follows
/// `;` and NUL cut off, backslashes taken for slashes, slashes joined, dots resolved.
fn as_a_lax_server_reads(target: &str) -> String {
    let (path, _query) = target.split_once('?').unwrap_or((target, ""));
    let (mut decoded, mut rest) = (Vec::new(), path.as_bytes());
    while let [byte, behind @ ..] = rest {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) if *byte == b'%' => {
                decoded.push(value);
                rest = &behind[2..];
            }
            _ => {
                decoded.push(*byte);
                rest = behind;
            }
        }
    }
    let text = String::from_utf8_lossy(&decoded).replace('\\', "/");
    let text = text.split('\0').next().unwrap();
    let mut segments = Vec::new();
    for segment in text.split('/') {
        match segment.split(';').next().unwrap() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    format!("/{}", segments.join("/"))
}

/// Ways to write `/admin` that one server or another takes for it, and some that none does.
fn spellings_of_admin() -> Vec<String> {
    let before = [
        "/",
        "//",
        "///",
        "/./",
        "/%2e/",
        "/x/../",
        "/x/%2e%2e/",
        "/x/.%2E/",
        "/%2E%2E/",
        "/x/..;/",
        "/x/..;a=b/",
        "/x/..%3b/",
        "/;/",
        "/.;/",
        "\\",
        "/\\",
        "/%5c",
        "/x%5c..%5c",
        "/%2f",
        "/x%2f..%2f",
        "/%00/",
        "/x/%2e%2e%2f",
        "http://gateway.test/",
        "http://gateway.test//x/../",
    ];
    let names = ["admin", "%61dmin", "%61%64%6d%69%6e", "adm%69n", "ad%6Din"];
    let behind = [
        "",
        "/",
        "//",
        "/.",
        "/./",
        "/x/..",
        "/..;/admin",
        ";",
        ";x",
        "%3b",
        "%3Bx=1",
        "%00",
        "%00.css",
        "%0a",
        "%20",
        "\\",
        "%5c",
        "%2f",
        "%2F..%2fadmin",
        "/%2e",
        "?",
        "?x=/../y",
        "#",
        "%",
        "%6",
        "%zz",
    ];
    let mut all = Vec::new();
    for before in before {
        for name in names {
            all.extend(behind.iter().map(|behind| format!("{before}{name}{behind}")));
        }
    }
    all
}

/// Sends every spelling; gives back what reached whom.
async fn send_all(gateway: &Gateway, vault: &Upstream, writer: &Upstream) -> [Vec<String>; 2] {
    let mut client = gateway.connect().await;
    for target in spellings_of_admin() {
        client.begin(&Request::get(&target)).await;
        let reply = client.reply().await;
        assert!([200, 400].contains(&reply.status()), "{target}: {reply:?}");
        if reply.header("connection").as_deref() == Some("close") {
            client = gateway.connect().await;
        }
    }
    let targets = |upstream: &Upstream| {
        upstream.requests().iter().map(|request| request.head.target().to_owned()).collect()
    };
    [targets(vault), targets(writer)]
}

#[tokio::test]
async fn no_spelling_of_a_guarded_path_reaches_the_service_behind_another_route() {
    let (vault, writer) = (Upstream::start().await, Upstream::start().await);
    let gateway = guarded(&vault, &writer, "").await;
    let [to_vault, to_writer] = send_all(&gateway, &vault, &writer).await;
    assert!(to_vault.iter().any(|target| target == "/admin"), "{to_vault:?}");
    assert!(to_writer.iter().any(|target| target == "/admin%20"), "{to_writer:?}");
    for target in to_vault.iter().chain(&to_writer) {
        assert!(!target.contains("//") && !target.contains('\\'), "{target}");
    }
    for target in to_writer {
        // Data to the standards, separators to some servers: `server.strict_paths` is for those.
        if [";", "%3B", "%2F"].iter().any(|it| target.contains(it)) {
            continue;
        }
        let read = as_a_lax_server_reads(&target);
        assert!(read != "/admin" && !read.starts_with("/admin/"), "{target}");
    }
}

#[tokio::test]
async fn strict_paths_leave_no_spelling_even_to_the_laxest_service() {
    let (vault, writer) = (Upstream::start().await, Upstream::start().await);
    let gateway = guarded(&vault, &writer, "server.strict_paths = true").await;
    let [to_vault, to_writer] = send_all(&gateway, &vault, &writer).await;
    assert!(to_vault.iter().any(|target| target == "/admin"), "{to_vault:?}");
    for target in to_writer {
        let read = as_a_lax_server_reads(&target);
        assert!(read != "/admin" && !read.starts_with("/admin/"), "{target}");
    }
    for target in ["/a;b", "/a%2fb", "/a%252fb", "/%3b"] {
        let detail = gateway.get(target).await.problem(400);
        assert!(detail.contains("in different ways"), "{target}: {detail}");
    }
}

#[tokio::test]
async fn what_reaches_the_service_is_in_normal_form_and_the_log_has_what_was_sent() {
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], "").await;
    for (sent, received) in [
        ("/a//b///c/", "/a/b/c/"),
        ("/%61%2d%2E%5f%7eb", "/a-._~b"),
        ("/%c3%a9%2f%3b%25%20", "/%C3%A9%2F%3B%25%20"),
        ("/users/a%2Fb;v=1/x:y@z!$&'()*+,=", "/users/a%2Fb;v=1/x:y@z!$&'()*+,="),
        ("/a[0]|{x}^\"", "/a%5B0%5D%7C%7Bx%7D%5E%22"),
        ("/caf\u{e9}", "/caf%C3%A9"),
        ("/.well-known/..a/...", "/.well-known/..a/..."),
        ("/a?q=//%61/../\\%00;%zz", "/a?q=//%61/../\\%00;%zz"),
        ("//a?", "/a?"),
    ] {
        let before = writer.count();
        let reply = gateway.get(sent).await;
        assert_eq!(reply.status(), 200, "{sent}");
        assert_eq!(writer.requests()[before].head.target(), received, "{sent}");
        let line = gateway.access_of(&reply).await;
        assert_eq!(line["path"], sent.split('?').next().unwrap());
    }
}

#[tokio::test]
async fn what_servers_read_in_different_ways_is_refused_and_the_answer_says_why() {
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], "").await;
    for (target, why) in [
        ("/a/../b", "segment `.` or `..`"),
        ("/./a", "segment `.` or `..`"),
        ("/a/..", "segment `.` or `..`"),
        ("/%2e%2E/a", "segment `.` or `..`"),
        ("/a/..;x/b", "segment `.` or `..`"),
        ("/a%2f..%2fb", "segment `.` or `..`"),
        ("/a\\b", "backslash"),
        ("/a%5Cb", "backslash"),
        ("/a%00", "control character"),
        ("/a%0d%0aX-Injected:1", "control character"),
        ("/a%7f", "control character"),
        ("/100%", "hexadecimal digits"),
        ("/%4g", "hexadecimal digits"),
        ("*", "neither a path"),
        ("example.org:80", "neither a path"),
        ("ftp://example.org/", "neither a path"),
        // Where one of the gateway's own pages would be, too.
        ("/health/../health", "segment `.` or `..`"),
    ] {
        let mut client = gateway.connect().await;
        client.begin(&Request::get(target)).await;
        let reply = client.reply().await;
        let detail = reply.problem(400);
        assert!(detail.contains(why), "{target}: {detail}");
        assert_eq!(gateway.access_of(&reply).await["status"], 400);
        client.ended().await;
    }
    assert_eq!(writer.count(), 0);
}

#[tokio::test]
async fn a_preflight_is_no_way_round() {
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], "").await;
    let preflight = Request::new("OPTIONS", "/a/%2e%2e/b")
        .header("Origin", "https://page.test")
        .header("Access-Control-Request-Method", "GET");
    gateway.call(preflight).await.problem(400);
}

#[tokio::test]
async fn the_gateways_own_pages_are_found_under_every_spelling() {
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], "").await;
    for target in ["//health//status", "/%68ealth/%73tatus", "http://gateway.test//health/status"] {
        assert!(gateway.get(target).await.json()["monitoring"].is_object(), "{target}");
    }
    assert_eq!(writer.count(), 0);
}

#[tokio::test]
async fn the_policy_sees_the_bytes_that_the_service_gets() {
    let writer = Upstream::start().await;
    let echo = Gateway::start(format!(
        "{}\npolicy.routing.component = {}",
        service("writer", [&writer]),
        toml_path(&component("echo"))
    ))
    .await;
    let through = Gateway::before([&writer], "").await;
    for sent in ["//%61%2fb//c;d?//%61", "/é/%7e", "/plain", "http://a.test/%41//?x"] {
        let told = echo.get(sent).await.text();
        let line = |name: &str| {
            let line = told.lines().find_map(|line| line.strip_prefix(name));
            line.map(|line| line.trim().to_owned())
        };
        let query = line("query").map(|query| format!("?{query}")).unwrap_or_default();
        let seen = line("path").unwrap() + &query;
        let before = writer.count();
        assert_eq!(through.get(sent).await.status(), 200);
        assert_eq!(writer.requests()[before].head.target(), seen, "{sent}");
    }
}

#[tokio::test]
async fn a_target_in_absolute_form_is_a_path_with_its_host() {
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], "server.pages = false").await;
    for (target, path) in [
        ("http://shop.test:81//a%61?b", "/aa?b"),
        ("http://shop.test:81", "/"),
        ("https://shop.test:81/?", "/?"),
        ("HTTP://shop.test:81/x", "/x"),
    ] {
        let before = writer.count();
        let request = Request::get(target).header("Host", "other.test");
        assert_eq!(gateway.call(request).await.status(), 200, "{target}");
        let received = &writer.requests()[before];
        assert_eq!(received.head.target(), path, "{target}");
        assert_eq!(received.header("host").unwrap(), writer.authority());
        assert_eq!(received.header("x-forwarded-host").unwrap(), "shop.test:81");
        assert_eq!(received.header("x-forwarded-proto").unwrap(), "http");
    }
    for target in ["http://user@shop.test/", "http://shop.test:0/", "http://shop.test:99999/"] {
        let reply = gateway.get(target).await;
        assert_eq!(reply.status(), 400, "{target}");
    }
}

#[tokio::test]
async fn options_may_ask_about_the_whole_server_and_no_route_leads_there() {
    let writer = Upstream::start().await;
    let gateway = Gateway::before([&writer], "").await;
    gateway.call(Request::new("OPTIONS", "*")).await.problem(404);
    assert_eq!(writer.count(), 0);
}
