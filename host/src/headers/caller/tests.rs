use super::*;
use proptest::prelude::*;

const PEER: &str = "10.0.0.9";

fn trusting(networks: &[&str]) -> Vec<IpNet> {
    networks.iter().map(|network| network.parse().unwrap()).collect()
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        headers.append(HeaderName::try_from(*name).unwrap(), value);
    }
    headers
}

/// The caller of a request with these headers from a peer that is trusted, as all of 10/8 is.
fn caller(lines: &[(&str, &str)]) -> Rc<Caller> {
    let proxies = trusting(&["10.0.0.0/8", "fd00::/8"]);
    Caller::peer(PEER.parse().unwrap(), true).of(&proxies, &headers(lines))
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap()
}

/// Address, scheme, `X-Forwarded-For` and `Forwarded`, for a request to `gw.test`.
#[track_caller]
fn check(lines: &[(&str, &str)], expected: [&str; 4]) {
    let caller = caller(lines);
    let forwarded = caller.forwarded(Some(&HeaderValue::from_static("gw.test")));
    let found = [text(&caller.text), caller.scheme, text(&caller.forwarded_for), text(&forwarded)];
    assert_eq!(found, expected, "{lines:?}");
    assert_eq!(text(&caller.text), caller.address.to_string());
}

#[test]
fn a_peer_that_is_not_trusted_speaks_for_itself() {
    let told = headers(&[("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1")]);
    let peer = Caller::peer("::ffff:198.51.100.7".parse().unwrap(), false);
    let caller = peer.of(&trusting(&["10.0.0.0/8"]), &told);
    assert!(Rc::ptr_eq(&peer, &caller), "nothing is made for each request");
    assert_eq!(text(&caller.forwarded_for), "198.51.100.7");
    assert_eq!(text(&caller.forwarded(None)), "for=198.51.100.7;proto=http");
}

#[test]
fn an_ipv6_address_and_a_host_with_a_port_stand_in_quotes() {
    let peer = Caller::peer("2001:db8::1".parse().unwrap(), false);
    assert_eq!(text(&peer.forwarded_for), "2001:db8::1");
    for (host, expected) in [
        ("a.test:81", r#"for="[2001:db8::1]";proto=http;host="a.test:81""#),
        ("b.test", r#"for="[2001:db8::1]";proto=http;host=b.test"#),
        ("a.test:81", r#"for="[2001:db8::1]";proto=http;host="a.test:81""#),
    ] {
        let host = HeaderValue::from_static(host);
        for _ in 0..2 {
            assert_eq!(text(&peer.forwarded(Some(&host))), expected);
        }
    }
}

#[test]
fn a_trusted_proxy_speaks_for_its_client() {
    check(
        &[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")],
        [
            "192.0.2.1",
            "https",
            "192.0.2.1, 10.0.0.9",
            "for=192.0.2.1;proto=https, for=10.0.0.9;proto=http",
        ],
    );
    check(
        &[("forwarded", r#"for="[2001:db8::7]:4711";Proto=HTTPS;host=shop.test;by=_x"#)],
        [
            "2001:db8::7",
            "https",
            "2001:db8::7, 10.0.0.9",
            r#"for="[2001:db8::7]:4711";Proto=HTTPS;host=shop.test;by=_x, for=10.0.0.9;proto=http"#,
        ],
    );
}

#[test]
fn a_trusted_proxy_that_names_nobody_is_the_client() {
    let itself = ["10.0.0.9", "http", "10.0.0.9", "for=10.0.0.9;proto=http;host=gw.test"];
    check(&[], itself);
    check(&[("x-forwarded-for", "")], itself);
    check(
        &[("x-forwarded-proto", "wss"), ("x-forwarded-host", "shop.test:81")],
        ["10.0.0.9", "https", "10.0.0.9", r#"for=10.0.0.9;proto=https;host="shop.test:81""#],
    );
}

#[test]
fn a_chain_is_walked_from_the_right_and_what_a_client_made_up_does_not_count() {
    for (chain, address) in [
        ("192.0.2.1, 10.0.0.1", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1, 10.0.0.1,10.0.0.2", "192.0.2.1"),
        ("<script>, 192.0.2.1, 10.0.0.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db8::1]:80, fd00::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        // All of them are ours: the outermost.
        ("10.0.0.3, 10.0.0.4", "10.0.0.3"),
        // Nothing is known beyond the last proxy that was named.
        ("unknown, 10.0.0.4", "10.0.0.4"),
        ("192.0.2.1, unknown", PEER),
        ("192.0.2.1, 10.0.0", PEER),
        ("192.0.2.1 10.0.0.1", PEER),
    ] {
        assert_eq!(text(&caller(&[("x-forwarded-for", chain)]).text), address, "{chain}");
    }
    let lines = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "10.0.0.1")];
    assert_eq!(text(&caller(&lines).text), "192.0.2.1");
}

#[test]
fn where_both_spellings_came_they_must_agree_about_the_last_hop() {
    let agreed = caller(&[
        ("x-forwarded-for", "6.6.6.6, 192.0.2.1"),
        ("forwarded", "for=192.0.2.1;proto=https"),
    ]);
    assert_eq!((text(&agreed.text), agreed.scheme), ("192.0.2.1", "https"));
    // A proxy that knows one of them passes on what its client made up as the other.
    for (x, forwarded) in [
        ("192.0.2.1", "for=6.6.6.6"),
        ("192.0.2.1", "for=192.0.2.1, for=6.6.6.6"),
        ("192.0.2.1", "for=unknown"),
        ("unknown", "for=unknown"),
    ] {
        let caller = caller(&[
            ("x-forwarded-for", x),
            ("forwarded", forwarded),
            ("x-forwarded-proto", "https"),
        ]);
        assert_eq!((text(&caller.text), caller.scheme), (PEER, "http"), "{x} {forwarded}");
        assert_eq!(text(&caller.forwarded_for), PEER);
        assert!(!caller.vouched);
    }
    // `Forwarded` alone is what counts where it is the only chain.
    check(
        &[("forwarded", "for=192.0.2.1;proto=http"), ("x-forwarded-proto", "https")],
        [
            "192.0.2.1",
            "http",
            "192.0.2.1, 10.0.0.9",
            "for=192.0.2.1;proto=http, for=10.0.0.9;proto=http",
        ],
    );
}

#[test]
fn what_cannot_be_read_falls_back_to_the_peer() {
    let long = vec!["10.0.0.1"; HOPS_MAX + 1].join(", ");
    for (name, value) in [
        ("x-forwarded-for", "192.0.2.1, \u{e9}"),
        ("x-forwarded-for", &long),
        ("forwarded", "192.0.2.1"),
        ("forwarded", "for=\"192.0.2.1"),
        ("forwarded", "for=\"a\"b\""),
        ("forwarded", "for=a\"b\""),
        ("forwarded", "for=192.0.2.1;proto"),
        ("forwarded", "for=\"\\"),
    ] {
        let caller = caller(&[(name, value), ("x-forwarded-proto", "https")]);
        assert_eq!((text(&caller.text), caller.scheme), (PEER, "http"), "{name}: {value}");
        assert!(!caller.vouched, "{name}: {value}");
    }
}

#[test]
fn quoted_strings_hold_separators_and_escapes() {
    let forwarded = r#"for=6.6.6.6;x="a,b;for=7.7.7.7\"", For = "192.0.2\.1" ;; , "#;
    assert_eq!(text(&caller(&[("forwarded", forwarded)]).text), "192.0.2.1");
}

#[test]
fn only_a_good_host_and_a_known_scheme_are_taken_and_the_last_of_several() {
    let of = |scheme, host| {
        let caller = caller(&[
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", scheme),
            ("x-forwarded-host", host),
        ]);
        (caller.scheme, caller.host.as_ref().map(|host| text(host).to_owned()))
    };
    assert_eq!(of("http, HTTPS", "a.test, b.test:81"), ("https", Some("b.test:81".into())));
    assert_eq!(of("ftp", "user@a.test"), ("http", None));
    assert_eq!(of("", "a/b"), ("http", None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn no_chain_panics_and_no_client_chooses_its_address(
        forged in "[ -~]{0,40}",
        forged_forwarded in r#"([ -~]{0,20}|for=("?[\[\]0-9a-f:.]{0,20}"?)|;|,|proto=https|host=a){0,4}"#,
    ) {
        // The proxy appends the address that it sees to whatever its client sent.
        let x = format!("{forged}, 192.0.2.1");
        let both = caller(&[("x-forwarded-for", &x), ("forwarded", &forged_forwarded)]);
        let one = caller(&[("x-forwarded-for", &x)]);
        let forwarded = format!("{forged_forwarded}, for=192.0.2.1");
        let other = caller(&[("forwarded", &forwarded)]);
        prop_assert_eq!(text(&one.text), "192.0.2.1");
        for caller in [both, other] {
            prop_assert!(["192.0.2.1", PEER].contains(&text(&caller.text)), "{:?}", caller);
        }
    }
}
