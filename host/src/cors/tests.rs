use super::*;
use std::time::Duration;

const APP: HeaderValue = HeaderValue::from_static("https://app.example");
const EVIL: HeaderValue = HeaderValue::from_static("https://evil.example");

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

fn config(origins: &[&str]) -> config::Cors {
    config::Cors {
        allow_origins: strings(origins),
        allow_methods: strings(&["GET", "PUT"]),
        allow_headers: strings(&["*"]),
        expose_headers: Vec::new(),
        max_age: Duration::from_secs(600),
        allow_credentials: false,
    }
}

fn cors(origins: &[&str]) -> Cors {
    Cors::new(&config(origins))
}

fn preflight_from(origin: &HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([
        (ORIGIN, origin.clone()),
        (ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT")),
        (ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("authorization,x-a")),
    ])
}

fn applied(
    cors: &Cors,
    origin: Option<&HeaderValue>,
    service: &[(&'static str, &str)],
) -> HeaderMap {
    let mut response = HeaderMap::new();
    for &(name, value) in service {
        response.append(name, HeaderValue::try_from(value).unwrap());
    }
    cors.apply(origin, &mut response);
    response
}

fn check(headers: &HeaderMap, expected: &[(&str, &str)]) {
    let mut found: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    found.sort_unstable();
    assert_eq!(found, expected);
}

const PREFLIGHT_VARY: (&str, &str) =
    ("vary", "origin, access-control-request-method, access-control-request-headers");

#[test]
fn a_preflight_is_answered_with_what_is_allowed() {
    let answer = cors(&["https://app.example"]).preflight(&Method::OPTIONS, &preflight_from(&APP));
    check(
        &answer.expect("a preflight"),
        &[
            ("access-control-allow-headers", "authorization,x-a"),
            ("access-control-allow-methods", "GET, PUT"),
            ("access-control-allow-origin", "https://app.example"),
            ("access-control-max-age", "600"),
            PREFLIGHT_VARY,
        ],
    );
}

#[test]
fn a_preflight_of_another_origin_is_answered_without_leave() {
    let cors = cors(&["https://app.example"]);
    for origin in [EVIL, HeaderValue::from_static("https://app.example.evil.example")] {
        let answer = cors.preflight(&Method::OPTIONS, &preflight_from(&origin));
        check(&answer.expect("a preflight"), &[PREFLIGHT_VARY]);
    }
}

#[test]
fn what_is_no_preflight_goes_to_the_service() {
    let cors = cors(&["*"]);
    assert!(cors.preflight(&Method::GET, &preflight_from(&APP)).is_none());
    for missing in [ORIGIN, ACCESS_CONTROL_REQUEST_METHOD] {
        let mut request = preflight_from(&APP);
        request.remove(missing);
        assert!(cors.preflight(&Method::OPTIONS, &request).is_none());
    }
}

#[test]
fn listed_headers_are_answered_as_listed_and_empty_lists_not_at_all() {
    let mut config = config(&["*"]);
    config.allow_headers = strings(&["x-a", "x-b"]);
    config.allow_methods = Vec::new();
    let answer = Cors::new(&config).preflight(&Method::OPTIONS, &preflight_from(&APP));
    check(
        &answer.expect("a preflight"),
        &[
            ("access-control-allow-headers", "x-a, x-b"),
            ("access-control-allow-origin", "*"),
            ("access-control-max-age", "600"),
            PREFLIGHT_VARY,
        ],
    );
}

#[test]
fn any_origin_is_answered_with_a_star_whoever_asks() {
    let cors = cors(&["*"]);
    for origin in [None, Some(&APP), Some(&EVIL)] {
        let response = applied(&cors, origin, &[("vary", "accept")]);
        check(&response, &[("access-control-allow-origin", "*"), ("vary", "accept")]);
    }
}

#[test]
fn a_listed_origin_is_named_and_the_answer_varies_by_it() {
    let cors = cors(&["https://other.example", "https://app.example"]);
    let response = applied(&cors, Some(&APP), &[]);
    check(&response, &[("access-control-allow-origin", "https://app.example"), ("vary", "origin")]);
    for origin in [None, Some(&EVIL)] {
        check(&applied(&cors, origin, &[]), &[("vary", "origin")]);
    }
}

#[test]
fn vary_is_not_said_twice() {
    let cors = cors(&["https://app.example"]);
    for said in ["Origin", "accept , ORIGIN", "*"] {
        check(&applied(&cors, None, &[("vary", said)]), &[("vary", said)]);
    }
    let response = applied(&cors, None, &[("vary", "x-origin")]);
    check(&response, &[("vary", "origin"), ("vary", "x-origin")]);
}

#[test]
fn the_services_own_answer_is_replaced_and_never_doubled() {
    let own = [
        ("access-control-allow-origin", "https://evil.example"),
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "x-secret"),
    ];
    check(&applied(&cors(&["*"]), Some(&EVIL), &own), &[("access-control-allow-origin", "*")]);
    check(&applied(&cors(&["https://app.example"]), Some(&EVIL), &own), &[("vary", "origin")]);
}

#[test]
fn without_origins_the_services_speak_for_themselves() {
    let own = [("access-control-allow-origin", "https://app.example")];
    let cors = cors(&[]);
    check(&applied(&cors, Some(&APP), &own), &own);
    assert!(cors.preflight(&Method::OPTIONS, &preflight_from(&APP)).is_none());
}

#[test]
fn credentials_and_exposed_headers_are_for_listed_origins() {
    let mut config = config(&["https://app.example"]);
    config.allow_credentials = true;
    config.expose_headers = strings(&["x-a", "x-b"]);
    let cors = Cors::new(&config);
    check(
        &applied(&cors, Some(&APP), &[]),
        &[
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-origin", "https://app.example"),
            ("access-control-expose-headers", "x-a, x-b"),
            ("vary", "origin"),
        ],
    );
    check(&applied(&cors, Some(&EVIL), &[]), &[("vary", "origin")]);
}

#[test]
fn credentials_never_go_with_any_origin() {
    let mut config = config(&["*"]);
    config.allow_credentials = true;
    let cors = Cors::new(&config);
    check(&applied(&cors, Some(&EVIL), &[]), &[("access-control-allow-origin", "*")]);
    let answer = cors.preflight(&Method::OPTIONS, &preflight_from(&EVIL)).expect("a preflight");
    assert!(!answer.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
}
