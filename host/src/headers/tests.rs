use super::*;
use proptest::prelude::*;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::try_from(*name).unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn lines(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut lines: Vec<_> =
        headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    lines.sort();
    lines
}

fn check_stripped(before: &[(&str, &str)], after: &[(&str, &str)]) {
    let mut stripped = headers(before);
    strip_hop_by_hop(&mut stripped);
    assert_eq!(lines(&stripped), lines(&headers(after)));
}

/// What [`to_upstream`] writes, read again.
fn written(client: &HeaderMap, hop: &Hop<'_>) -> HeaderMap {
    let mut head = Vec::new();
    let passing = to_upstream(&mut head, client, hop);
    if passing.has_length {
        put_field(&mut head, "content-length", &client[CONTENT_LENGTH]);
    }
    let text = String::from_utf8(head).unwrap();
    headers(&text.lines().map(|line| line.split_once(": ").unwrap()).collect::<Vec<_>>())
}

fn upstream(client: &[(&str, &str)]) -> HeaderMap {
    let hop = Hop {
        caller: &Caller::peer("192.0.2.7".parse().unwrap(), false),
        client_host: Some(&HeaderValue::from_static("example.org")),
        version: Version::HTTP_11,
        request_id: &HeaderValue::from_static("id-1"),
        host: &HeaderValue::from_static("localhost:8000"),
        edits: &[],
        upgrade: None,
        expects: false,
    };
    written(&headers(client), &hop)
}

const ADDED: [(&str, &str); 7] = [
    ("forwarded", "for=192.0.2.7;proto=http;host=example.org"),
    ("host", "localhost:8000"),
    ("via", "1.1 orchestrator"),
    ("x-forwarded-for", "192.0.2.7"),
    ("x-forwarded-host", "example.org"),
    ("x-forwarded-proto", "http"),
    ("x-request-id", "id-1"),
];

#[test]
fn hop_by_hop_headers_are_stripped_and_end_to_end_ones_are_not() {
    check_stripped(
        &[
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authorization", "Basic eDp5"),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("trailer", "x-checksum"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
            ("authorization", "Basic eDp5"),
            ("content-length", "3"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ],
        &[
            ("accept", "*/*"),
            ("authorization", "Basic eDp5"),
            ("content-length", "3"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ],
    );
}

#[test]
fn what_connection_names_is_stripped_in_any_case_and_from_any_line() {
    check_stripped(
        &[
            ("connection", "close, X-Hop ,, x-other"),
            ("connection", "X-Third"),
            ("x-hop", "1"),
            ("x-hop", "2"),
            ("x-other", "3"),
            ("x-third", "4"),
            ("x-fourth", "5"),
        ],
        &[("x-fourth", "5")],
    );
}

#[test]
fn connection_can_take_away_neither_length_nor_host_and_its_nonsense_is_ignored() {
    check_stripped(
        &[
            ("connection", "content-length, host, a b, \u{e9}, \"x\", ="),
            ("content-length", "3"),
            ("host", "a"),
            ("accept", "*/*"),
        ],
        &[("content-length", "3"), ("host", "a"), ("accept", "*/*")],
    );
}

#[test]
fn a_length_beside_a_transfer_encoding_goes_with_it() {
    check_stripped(&[("transfer-encoding", "chunked"), ("content-length", "3")], &[]);
}

#[test]
fn the_endpoint_learns_who_asked_for_what() {
    let forwarded = upstream(&[("host", "example.org"), ("accept", "*/*")]);
    let mut expected = headers(&ADDED);
    expected.insert("accept", HeaderValue::from_static("*/*"));
    assert_eq!(lines(&forwarded), lines(&expected));
}

#[test]
fn what_a_client_says_about_forwarding_is_replaced() {
    let forwarded = upstream(&[
        ("host", "example.org"),
        ("forwarded", "for=10.0.0.1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-for", "10.0.0.2"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-prefix", "/admin"),
        ("x-request-id", "forged"),
        ("expect", "100-continue"),
    ]);
    assert_eq!(lines(&forwarded), lines(&headers(&ADDED)));
}

#[test]
fn so_is_what_services_take_for_it() {
    for name in [
        "cf-connecting-ip",
        "client-ip",
        "client_ip",
        "content_length",
        "fastly-client-ip",
        "proxy",
        "proxy_authorization",
        "transfer_encoding",
        "true-client-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-forwarded",
        "x-forwarded-by-a-name-that-is-longer-than-any-other",
        "x-forwarded_for",
        "x-original-url",
        "x-real-ip",
        "x-rewrite-url",
        "x_forwarded_by-a-name-that-is-longer-than-any-other",
        "x_forwarded_for",
        "x_forwarded_proto",
        "x_original_url",
        "x_real_ip",
        "x_request_id",
    ] {
        assert_eq!(lines(&upstream(&[(name, "forged")])), lines(&headers(&ADDED)), "{name}");
    }
    for name in ["client-id", "x_api_key", "x-forward", "forwarded-by", "_", "content_type"] {
        assert!(upstream(&[(name, "kept")]).contains_key(name), "{name}");
    }
}

#[test]
fn without_a_host_there_is_no_forwarded_host_and_via_tells_the_version() {
    let client = headers(&[("x-forwarded-host", "evil.example"), ("via", "1.1 edge")]);
    let hop = Hop {
        caller: &Caller::peer("::ffff:192.0.2.7".parse().unwrap(), false),
        client_host: None,
        version: Version::HTTP_10,
        request_id: &HeaderValue::from_static("id-1"),
        host: &HeaderValue::from_static("localhost:8000"),
        edits: &[],
        upgrade: None,
        expects: false,
    };
    let headers = written(&client, &hop);
    assert!(!headers.contains_key("x-forwarded-host"));
    assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
    assert_eq!(headers["forwarded"], "for=192.0.2.7;proto=http");
    let via: Vec<_> = headers.get_all(VIA).iter().collect();
    assert_eq!(via, ["1.1 edge", "1.0 orchestrator"]);
}

#[test]
fn the_client_gets_the_response_without_its_hop_by_hop_headers() {
    let mut response = headers(&[
        ("connection", "close, via, x-request-id"),
        ("content-length", "3"),
        ("x-request-id", "the service's own"),
        ("server", "uvicorn"),
    ]);
    to_client(&mut response, &HeaderValue::from_static("id-1"), Version::HTTP_11, true);
    let expected = [
        ("content-length", "3"),
        ("server", "uvicorn"),
        ("via", "1.1 orchestrator"),
        ("x-request-id", "id-1"),
    ];
    assert_eq!(lines(&response), lines(&headers(&expected)));
}

#[test]
fn chunks_are_announced_anew_and_so_are_the_trailers_that_may_follow() {
    let forwarded = upstream(&[
        ("connection", "te, trailer, transfer-encoding"),
        ("te", "deflate;q=0.5, Trailers"),
        ("trailer", "X-Checksum, Content-Length"),
        ("trailer", "x-sum, Authorization,, a b, x_request_id, X-Forwarded-For, Cf-Connecting-Ip"),
        ("transfer-encoding", "chunked"),
    ]);
    let mut expected = headers(&ADDED);
    for (name, value) in [
        ("connection", "te"),
        ("te", "trailers"),
        ("trailer", "x-checksum, x-sum"),
        ("transfer-encoding", "chunked"),
    ] {
        expected.insert(name, HeaderValue::from_static(value));
    }
    assert_eq!(lines(&forwarded), lines(&expected));
    // Without chunks no trailers can follow, and an empty list announces none.
    for (name, value) in [("trailer", "x-checksum"), ("te", "gzip"), ("te", "trailers;q=0")] {
        assert_eq!(lines(&upstream(&[(name, value)])), lines(&headers(&ADDED)), "{name}: {value}");
    }
    let no_names = upstream(&[("transfer-encoding", "chunked"), ("trailer", "host")]);
    assert!(!no_names.contains_key("trailer"), "{no_names:?}");
}

#[test]
fn a_client_that_takes_no_trailers_is_announced_none() {
    let chunked = [("transfer-encoding", "chunked"), ("trailer", "x-sum, set-cookie")];
    let plain = [("content-length", "3"), ("trailer", "x-sum")];
    for (response, takes, announced) in
        [(chunked, true, Some("x-sum")), (chunked, false, None), (plain, true, None)]
    {
        let mut response = headers(&response);
        to_client(&mut response, &HeaderValue::from_static("id-1"), Version::HTTP_11, takes);
        assert_eq!(response.get("trailer").map(|it| it.to_str().unwrap()), announced);
        assert!(!response.contains_key("transfer-encoding"), "http1.rs says it");
    }
}

#[test]
fn a_request_id_is_taken_over_where_it_can_harm_no_log() {
    let of = |lines: &[(&str, &str)]| request_id(&headers(lines)).map(HeaderValue::len);
    for id in ["a", "7f3a-1.B_~", "Root=1-67891233-abcdef:x/y+z@", &"x".repeat(128)] {
        assert_eq!(of(&[("x-request-id", id)]), Some(id.len()), "{id}");
    }
    for id in ["", " ", "a b", "a,b", "a\"", "a\\", "\u{e9}", &"x".repeat(129)] {
        assert_eq!(of(&[("x-request-id", id)]), None, "{id}");
    }
    assert_eq!(of(&[("x-request-id", "a"), ("x-request-id", "a")]), None);
    assert_eq!(of(&[]), None);
}

#[test]
fn the_hosts_own_headers_are_known_in_either_spelling() {
    let name = |name| HeaderName::from_static(name);
    for owned in [
        "connection",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-forwarded-anything",
        "x-real-ip",
        "x-request-id",
        "x_forwarded_for",
        "x_request_id",
        "content_length",
    ] {
        assert!(is_host_owned(&name(owned)), "{owned}");
    }
    for free in ["accept", "authorization", "content-type", "x-forward", "forwarded-by", "x-real"] {
        assert!(!is_host_owned(&name(free)), "{free}");
    }
}

fn host_of(version: Version, lines: &[(&str, &str)], uri: &str) -> Result<String, HostError> {
    valid_host(version, &headers(lines), &uri.parse().unwrap()).map(str::to_owned)
}

#[test]
fn a_host_is_a_name_or_an_address_with_an_optional_port() {
    for host in [
        "a",
        "example.org",
        "example.org.",
        "my_service:8000",
        "127.0.0.1",
        "127.0.0.1:65535",
        "[::1]",
        "[2001:db8::1]:80",
        "a:",
        "XN--BCHER-KVA.example",
    ] {
        assert_eq!(host_of(Version::HTTP_11, &[("host", host)], "/"), Ok(host.to_owned()));
    }
    for host in [
        "",
        " ",
        ".",
        "..",
        ".a",
        "a..b",
        "a b",
        "a,b",
        "user@a",
        "a:b",
        "a:0",
        "a:65536",
        "a:+80",
        "a:80:80",
        ":80",
        "[::1",
        "::1",
        "[::1]80",
        "[a]",
        "a/b",
        "a?b",
        "a#b",
        "a%41",
        "\u{e9}",
        "a\\b",
        "a\t",
        "[::1%25eth0]",
    ] {
        let refused = host_of(Version::HTTP_11, &[("host", host)], "/");
        assert_eq!(refused, Err(HostError::Malformed), "{host:?}");
    }
    let long = ["a"; 200].join(".");
    assert_eq!(host_of(Version::HTTP_11, &[("host", &long)], "/"), Err(HostError::Malformed));
}

#[test]
fn exactly_one_host_from_an_http_1_1_client_and_at_most_one_from_an_older_one() {
    let twice = [("host", "a"), ("host", "a")];
    assert_eq!(host_of(Version::HTTP_11, &[], "/"), Err(HostError::Missing));
    assert_eq!(host_of(Version::HTTP_11, &twice, "/"), Err(HostError::Duplicate));
    assert_eq!(host_of(Version::HTTP_10, &twice, "/"), Err(HostError::Duplicate));
    assert_eq!(host_of(Version::HTTP_10, &[], "/"), Ok(String::new()));
}

#[test]
fn the_target_in_absolute_form_counts_and_still_needs_a_host_header() {
    let host = [("host", "other")];
    let absolute = "http://example.org:81/x";
    assert_eq!(host_of(Version::HTTP_11, &host, absolute), Ok("example.org:81".to_owned()));
    assert_eq!(host_of(Version::HTTP_11, &[], absolute), Err(HostError::Missing));
    let user = host_of(Version::HTTP_11, &host, "http://user@example.org/");
    assert_eq!(user, Err(HostError::MalformedTarget));
}

proptest! {
    #[test]
    fn nothing_that_a_client_sends_can_touch_what_the_gateway_adds(
        names in prop::collection::vec(
            prop_oneof![
                prop::sample::select(ADDED.map(|(name, _)| name).to_vec()).prop_map(str::to_owned),
                "[a-z_-]{1,12}",
            ],
            0..12,
        ),
        connection in prop::collection::vec("[ -~]{0,20}", 0..3),
    ) {
        let named = names.join(", ");
        let mut client: Vec<_> = names.iter().map(|name| (name.as_str(), "forged")).collect();
        client.retain(|&(name, _)| name != "via");
        client.extend(connection.iter().map(|value| ("connection", value.as_str())));
        client.push(("connection", &named));
        let forwarded = upstream(&client);
        for (name, value) in ADDED {
            let values: Vec<_> = forwarded.get_all(name).iter().collect();
            prop_assert_eq!(values, [value]);
        }
        prop_assert!(!forwarded.contains_key(CONNECTION));
    }
}
