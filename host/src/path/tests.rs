use super::*;
use proptest::prelude::*;

fn settled(target: &str) -> Result<String, TargetError> {
    settled_strictly(target, false)
}

fn settled_strictly(target: &str, strict: bool) -> Result<String, TargetError> {
    let mut uri: Uri = target.parse().expect("http1.rs would refuse this before");
    settle(&mut uri, &Method::GET, strict)?;
    Ok(uri.to_string())
}

#[test]
fn an_ordinary_target_stays_as_it_is() {
    for target in [
        "/",
        "/a",
        "/a/b/",
        "/a.b/.well-known/..c/...",
        "/users/%40me;v=1,2/x:y@z!$&'()*+,=~-_",
        "/a%2Fb/%C3%A9%20%25",
        "/a?b=/../%zz//\\&%2e%00",
        "/?",
        "http://example.org:81/a?b",
    ] {
        assert_eq!(settled(target), Ok(target.to_owned()));
    }
    assert!(matches!(normal("/a/b.c/d%20e", false), Ok(Cow::Borrowed(_))), "nothing is copied");
}

#[test]
fn spellings_of_one_path_become_one() {
    for (sent, path) in [
        ("//", "/"),
        ("//admin", "/admin"),
        ("/a///b//", "/a/b/"),
        ("/%61dmin", "/admin"),
        ("/%7Euser/%2D%2e%5f%30", "/~user/-._0"),
        ("/%c3%a9%2f", "/%C3%A9%2F"),
        ("/é", "/%C3%A9"),
        ("/a|b\"{}^[]", "/a%7Cb%22%7B%7D%5E%5B%5D"),
        ("//a?b=//%61", "/a?b=//%61"),
        ("http://example.org//%61?x", "http://example.org/a?x"),
        ("http://example.org", "http://example.org/"),
    ] {
        assert_eq!(settled(sent), Ok(path.to_owned()), "{sent}");
    }
}

#[test]
fn what_servers_disagree_about_is_refused() {
    use TargetError::{Backslash, Control, DotSegment, Encoding};
    for (target, why) in [
        ("/a\\b", Backslash),
        ("/a%5cb", Backslash),
        ("/..%5C", Backslash),
        ("/a%00", Control),
        ("/a%0d%0aX:y", Control),
        ("/%1f", Control),
        ("/%7f", Control),
        ("/%", Encoding),
        ("/%4", Encoding),
        ("/%zz", Encoding),
        ("/%+1", Encoding),
        ("/a%2", Encoding),
        ("/%%41", Encoding),
        ("/.", DotSegment),
        ("/..", DotSegment),
        ("/./a", DotSegment),
        ("/a/../b", DotSegment),
        ("/a/..", DotSegment),
        ("//../b", DotSegment),
        ("/%2e/a", DotSegment),
        ("/%2E%2e/a", DotSegment),
        ("/.%2e", DotSegment),
        ("/a/..;x/b", DotSegment),
        ("/a/..;/b", DotSegment),
        ("/a/.;x=1", DotSegment),
        ("/a/..%3bx/b", DotSegment),
        ("/a%2f..%2fb", DotSegment),
        ("/a%2F%2e%2e", DotSegment),
        ("/..%2fb", DotSegment),
        ("http://example.org/../a", DotSegment),
    ] {
        assert_eq!(settled(target), Err(why), "{target}");
    }
}

#[test]
fn strictness_refuses_what_is_data_to_the_standards_and_a_separator_to_some_servers() {
    for target in ["/a;b", "/a%3Bb", "/a%2fb", "/a%2Fb", "/a%252fb", "/%25"] {
        assert_eq!(settled_strictly(target, true), Err(TargetError::Ambiguous), "{target}");
        assert!(settled(target).is_ok(), "{target}");
    }
    assert_eq!(settled_strictly("/a%20b?c;d%2f", true), Ok("/a%20b?c;d%2f".to_owned()));
}

#[test]
fn only_options_may_ask_for_everything_and_only_connect_for_a_host_alone() {
    for (method, target, good) in [
        (Method::OPTIONS, "*", true),
        (Method::GET, "*", false),
        (Method::CONNECT, "example.org:80", true),
        (Method::GET, "example.org:80", false),
        (Method::GET, "example.org", false),
        (Method::GET, "https://example.org/", true),
        (Method::GET, "ftp://example.org/", false),
    ] {
        let mut uri: Uri = target.parse().expect("http1.rs would refuse this before");
        let settled = settle(&mut uri, &method, false);
        assert_eq!(settled, if good { Ok(()) } else { Err(TargetError::Form) }, "{target}");
    }
}

#[test]
fn a_path_that_grows_beyond_what_a_request_line_holds_is_refused() {
    let path = format!("/{}", "é".repeat(30_000));
    assert_eq!(settled(&path), Err(TargetError::TooLong));
}

/// What a server may make of a path before it looks for what it serves: decoded once, parameters cut
/// off, slashes joined, dots resolved, backslashes taken for slashes; encoded slashes too, if it is
/// of that kind.
fn as_a_lax_server_reads(path: &str, decodes_slashes: bool) -> String {
    let mut decoded = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let pair: String = rest.clone().take(2).map(char::from).collect();
        match u8::from_str_radix(&pair, 16) {
            Ok(value) if byte == b'%' => {
                rest.nth(1);
                match value {
                    b'/' if !decodes_slashes => decoded.extend_from_slice(b"%2F"),
                    value => decoded.push(value),
                }
            }
            _ => decoded.push(byte),
        }
    }
    let text = String::from_utf8_lossy(&decoded).replace('\\', "/");
    let text = text.split('\0').next().unwrap_or_default();
    let mut segments = Vec::new();
    for segment in text.split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name.to_owned()),
        }
    }
    format!("/{}", segments.join("/"))
}

/// A piece of a path that is likely to mean something to somebody.
fn piece() -> impl Strategy<Value = String> {
    let known = [
        "/", "//", ".", "..", "%2e", "%2E", "%2f", "%2F", "%5c", "\\", "%00", ";", "%3b", "%",
        "%25", "%61", "%c0%af", "admin", "a", "x", "é", "?", "#", "%7f", "~", "%7E", "\"",
    ];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,3}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn whatever_arrives_is_refused_or_comes_out_in_normal_form(
        pieces in prop::collection::vec(piece(), 0..12),
        strict in any::<bool>(),
    ) {
        // http1.rs has refused what is no URI at all.
        let Ok(mut uri) = format!("/{}", pieces.concat()).parse::<Uri>() else { return Ok(()) };
        let query = uri.query().map(str::to_owned);
        let sent = uri.path().to_owned();
        if settle(&mut uri, &Method::GET, strict).is_err() {
            return Ok(());
        }
        let path = uri.path();
        prop_assert_eq!(uri.query(), query.as_deref(), "the query is as it was");
        prop_assert!(path.starts_with('/') && !path.contains("//"), "{}", path);
        prop_assert!(path.bytes().all(|byte| byte == b'%' || is_path_byte(byte)), "{}", path);
        prop_assert!(matches!(normal(path, strict), Ok(Cow::Borrowed(_))), "not idempotent: {}", path);
        for decodes_slashes in [false, true] {
            let read = |path| as_a_lax_server_reads(path, decodes_slashes);
            prop_assert_eq!(read(path), read(&sent), "{}", sent);
        }
    }

    /// Where a policy guards `/admin`, the laxest server does not find it under another name.
    #[test]
    fn a_server_that_decodes_and_resolves_finds_the_path_that_the_policy_saw(
        pieces in prop::collection::vec(piece(), 0..12),
        strict in any::<bool>(),
    ) {
        let Ok(mut uri) = format!("/{}", pieces.concat()).parse::<Uri>() else { return Ok(()) };
        if settle(&mut uri, &Method::GET, strict).is_err() {
            return Ok(());
        }
        // What only strictness refuses is said in `host/README.md`: parameters and encoded slashes.
        let parameters = uri.path().contains(';') || uri.path().contains("%3B");
        if as_a_lax_server_reads(uri.path(), strict) == "/admin" && (strict || !parameters) {
            prop_assert!(matches!(uri.path(), "/admin" | "/admin/"), "{}", uri);
        }
    }
}
