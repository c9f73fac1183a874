mod relayed;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, Method, Version};
use proptest::prelude::*;

use super::chunked::Chunked;
use super::{Error, HeadLimits, body::Framing, head, head::Said};

const LIMITS: HeadLimits = HeadLimits { bytes: 1024, fields: 8 };

fn parsed(text: &str) -> Result<Option<(Parts, Said)>, Error> {
    head::response(&mut BytesMut::from(text), &mut 0, LIMITS)
}

fn whole(text: &str) -> (Parts, Said) {
    parsed(text).expect("a head").expect("a whole one")
}

fn framing(text: &str, method: &Method) -> Result<Framing, Error> {
    let (head, said) = whole(text);
    said.response_framing(&head, method)
}

/// All that a decoder makes of these pieces, one read after the other.
fn decoded<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(Vec<u8>, Option<HeaderMap>, bool, Bytes), Error> {
    let (mut chunked, mut read) = (Chunked::default(), BytesMut::new());
    let (mut data, mut trailers, mut searched) = (Vec::new(), None, 0);
    for piece in pieces {
        read.extend_from_slice(piece);
        while let Some(frame) = chunked.decode(&mut read, &mut searched, LIMITS)? {
            match frame.into_data() {
                Ok(piece) => data.extend_from_slice(&piece),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
    }
    Ok((data, trailers, matches!(chunked, Chunked::Ended), read.freeze()))
}

fn decoded_at_once(body: &[u8]) -> Result<(Vec<u8>, Option<HeaderMap>, bool, Bytes), Error> {
    decoded([body])
}

#[test]
fn a_head_is_read_once_it_is_whole_and_what_follows_it_stays() {
    let text = "HTTP/1.1 200 OK\r\nServer: x\r\nSet-Cookie: a\r\nset-cookie: b\r\n\r\n";
    for end in 0..text.len() {
        let mut read = BytesMut::from(&text[..end]);
        let begun = head::response(&mut read, &mut 0, LIMITS).expect("nothing wrong so far");
        assert!(begun.is_none(), "{end}");
        assert_eq!(read.len(), end, "what is not whole stays");
    }
    // Byte by byte, each looked at once.
    let (mut read, mut searched) = (BytesMut::new(), 0);
    for byte in text.bytes() {
        assert!(head::response(&mut read, &mut searched, LIMITS).expect("nothing wrong").is_none());
        assert_eq!(searched, read.len());
        read.extend_from_slice(&[byte]);
    }
    assert!(head::response(&mut read, &mut searched, LIMITS).expect("nothing wrong").is_some());
    let (mut read, mut searched) = (BytesMut::from(&*format!("{text}rest")), 0);
    let (parts, _) =
        head::response(&mut read, &mut searched, LIMITS).expect("a head").expect("a whole one");
    assert_eq!(&read[..], b"rest");
    assert_eq!((parts.status.as_u16(), parts.version), (200, Version::HTTP_11));
    let cookies: Vec<_> = parts.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a", "b"]);
}

#[test]
fn a_head_has_limits() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(LIMITS.bytes));
    assert!(matches!(parsed(&long), Err(Error::HeadTooLarge)));
    let without_end = &long[..LIMITS.bytes];
    assert!(matches!(parsed(without_end), Err(Error::HeadTooLarge)));
    let fields = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(count));
    assert_eq!(whole(&fields(LIMITS.fields)).0.headers.len(), LIMITS.fields);
    assert!(matches!(parsed(&fields(LIMITS.fields + 1)), Err(Error::TooManyFields)));
    let limits = HeadLimits { bytes: 64 << 10, fields: 300 };
    let head = head::response(&mut BytesMut::from(&*fields(300)), &mut 0, limits);
    assert_eq!(head.expect("a head").expect("a whole one").0.headers.len(), 300);
}

#[test]
fn what_is_no_head_is_refused() {
    for text in [
        "\r\n\r\n",
        "220 mail ready\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na : c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\0c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
    ] {
        assert!(matches!(parsed(text), Err(Error::Malformed(_))), "{text:?}");
    }
}

#[test]
fn a_body_ends_as_its_head_says() {
    let of = |fields: &str| framing(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), &Method::GET);
    assert!(matches!(of(""), Ok(Framing::UntilClosed)));
    assert!(matches!(of("content-length: 5\r\n"), Ok(Framing::Length(5))));
    assert!(matches!(of("content-length: 0\r\n"), Ok(Framing::Ended)));
    assert!(matches!(of("content-length: 5, 5\r\nContent-Length: 5\r\n"), Ok(Framing::Length(5))));
    assert!(matches!(of("transfer-encoding: chunked\r\n"), Ok(Framing::Chunked(_))));
    let both = "content-length: 5\r\ntransfer-encoding: chunked\r\n";
    assert!(matches!(of(both), Ok(Framing::Chunked(_))));
    for wrong in ["5, 6", "+5", "-5", "", "5,", "0x5", "5 5", "99999999999999999999"] {
        let length = of(&format!("content-length: {wrong}\r\n"));
        assert!(matches!(length, Err(Error::Malformed(_))), "{wrong:?}");
    }
    let old = "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    assert!(matches!(framing(old, &Method::GET), Err(Error::Malformed(_))));
}

#[test]
fn some_responses_have_no_body_whatever_they_say() {
    let long = |status| format!("HTTP/1.1 {status} x\r\ncontent-length: 5\r\n\r\n");
    for status in [100, 101, 103, 204, 304] {
        assert!(matches!(framing(&long(status), &Method::GET), Ok(Framing::Ended)), "{status}");
    }
    assert!(matches!(framing(&long(200), &Method::HEAD), Ok(Framing::Ended)));
}

#[test]
fn a_connection_persists_where_nothing_speaks_against_it() {
    let persists = |text: &str| {
        let (head, said) = whole(text);
        said.persists(head.version)
    };
    assert!(persists("HTTP/1.1 200 OK\r\n\r\n"));
    assert!(persists("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n\r\n"));
    assert!(!persists("HTTP/1.1 200 OK\r\nconnection: x, Close\r\n\r\n"));
    assert!(!persists("HTTP/1.0 200 OK\r\n\r\n"));
    assert!(persists("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n"));
    let twice = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n";
    assert!(!persists(twice));
}

#[test]
fn chunks_are_put_together() {
    let body = b"5\r\nhello\r\n00A;name=\"x\"\r\n, world...\r\n0\r\n\r\nnext";
    let (data, trailers, ended, rest) = decoded_at_once(body).expect("a body");
    assert_eq!((&data[..], trailers, ended), (&b"hello, world..."[..], None, true));
    assert_eq!(&rest[..], b"next");
}

#[test]
fn trailers_come_behind_the_chunks() {
    let body = b"1 \r\nx\r\n0\r\nDigest: abc\r\nmore: y\r\n\r\n";
    let (data, trailers, ended, rest) = decoded_at_once(body).expect("a body");
    let trailers = trailers.expect("trailers");
    assert_eq!((&data[..], ended, rest.len()), (&b"x"[..], true, 0));
    assert_eq!(trailers["digest"], "abc");
    assert_eq!(trailers["more"], "y");
}

#[test]
fn what_is_no_chunk_is_refused() {
    for body in [
        "x\r\n",
        "\r\n",
        " 5\r\nhello",
        "+5\r\nhello",
        "0x5\r\nhello",
        "-1\r\n",
        "5\nhello\r\n",
        "5 5\r\nhello",
        "10000000000000000\r\n",
        "5\r\nhello!\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\n\njunk\r\n\r\n",
        "5\r\r\nhello",
        "5\x0c\r\nhello",
    ] {
        let decoded = decoded_at_once(body.as_bytes());
        assert!(matches!(decoded, Err(Error::Malformed(_))), "{body:?}");
    }
    for endless in [
        "5;".to_owned() + &"x".repeat(4 << 10),
        "0\r\n".to_owned() + &"a: b\r\n".repeat(LIMITS.bytes / 6 + 1),
        "0\r\n".to_owned() + &"a: b\r\n".repeat(LIMITS.fields + 1) + "\r\n",
    ] {
        assert!(matches!(decoded_at_once(endless.as_bytes()), Err(Error::Malformed(_))));
    }
}

/// Where a text is cut in two, or three, or more.
fn cut<'a>(text: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = places.iter().map(|place| place.index(text.len() + 1)).collect();
    places.sort_unstable();
    let mut pieces = Vec::new();
    let mut from = 0;
    for to in places.into_iter().chain([text.len()]) {
        pieces.push(&text[from..to]);
        from = to;
    }
    pieces
}

proptest! {
    /// A coder that is not the one under test: sizes and data as the RFC has them.
    #[test]
    fn any_body_comes_out_as_it_went_in(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
        with_trailers in any::<bool>(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(if with_trailers { b"0\r\na: b\r\n\r\n" } else { b"0\r\n\r\n" });
        let (data, trailers, ended, rest) = decoded(cut(&body, &places)).expect("a body");
        prop_assert_eq!(data, chunks.concat());
        prop_assert_eq!(trailers.is_some(), with_trailers);
        prop_assert!(ended && rest.is_empty());
    }

    #[test]
    fn no_bytes_reach_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        digits in "[0-9a-f]{0,17}(;x)?\r\n",
    ) {
        let _ = head::response(&mut BytesMut::from(&bytes[..]), &mut 0, LIMITS);
        let request = [b"GET / HTTP/1.1\r\n", &bytes[..], b"\r\n\r\n"].concat();
        for request in [&bytes[..], &request] {
            let read = head::request(&mut BytesMut::from(request), &mut 0, LIMITS);
            let _ = read.map(|read| read.map(|(head, said)| said.request_framing(head.version).is_ok()));
        }
        let _ = decoded_at_once(&bytes);
        let _ = decoded_at_once(&[digits.as_bytes(), &bytes].concat());
        let head = [b"HTTP/1.1 200 OK\r\n", &bytes[..], b"\r\n\r\n"].concat();
        if let Ok(Some((parts, said))) = head::response(&mut BytesMut::from(&head[..]), &mut 0, LIMITS) {
            let _ = (said.response_framing(&parts, &Method::GET), said.persists(parts.version));
        }
    }
}

fn request(text: &str) -> Result<Option<(http::request::Parts, Said)>, Error> {
    head::request(&mut BytesMut::from(text), &mut 0, LIMITS)
}

#[test]
fn a_request_s_head_is_read_once_it_is_whole() {
    let text = "PUT /a?b=c HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a: 2\r\n\r\n";
    for end in 0..text.len() {
        assert!(request(&text[..end]).expect("nothing wrong so far").is_none(), "{end}");
    }
    let (head, _) = request(text).expect("a head").expect("a whole one");
    assert_eq!((head.method, head.version), (Method::PUT, Version::HTTP_11));
    assert_eq!(head.uri, "/a?b=c");
    assert_eq!(head.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
}

#[test]
fn what_is_too_much_of_a_request_is_told_apart() {
    let with = |target: &str, fields: &str| {
        let limits = HeadLimits { bytes: 1 << 20, fields: 8 };
        let text = format!("GET {target} HTTP/1.1\r\n{fields}\r\n");
        head::request(&mut BytesMut::from(&*text), &mut 0, limits)
    };
    let long = format!("/{}", "a".repeat(usize::from(u16::MAX)));
    assert!(matches!(with(&long, ""), Err(Error::TargetTooLong)));
    assert!(matches!(with("/", &"a: b\r\n".repeat(9)), Err(Error::TooManyFields)));
    assert!(matches!(request(&format!("GET /{long} HTTP/1.1\r\n\r\n")), Err(Error::HeadTooLarge)));
    assert!(matches!(with("/", "a b\r\n"), Err(Error::Malformed(_))));
}

#[test]
fn a_request_is_framed_in_one_way_or_not_at_all() {
    let framing = |fields: &str| {
        let head = request(&format!("POST / HTTP/1.1\r\n{fields}\r\n"));
        let (head, said) = head.expect("a head").expect("a whole one");
        said.request_framing(head.version)
    };
    assert!(matches!(framing(""), Ok(Framing::Ended)));
    assert!(matches!(framing("content-length: 0\r\n"), Ok(Framing::Ended)));
    assert!(matches!(
        framing("content-length: 3\r\ncontent-length: 3\r\n"),
        Ok(Framing::Length(3))
    ));
    assert!(matches!(framing("transfer-encoding: chunked\r\n"), Ok(Framing::Chunked(_))));
    for wrong in ["3, 3", "+3", "", "3 3", "9223372036854775808", "18446744073709551615"] {
        let framing = framing(&format!("content-length: {wrong}\r\n"));
        assert!(matches!(framing, Err(Error::Malformed(_))), "{wrong:?}");
    }
}

#[test]
fn chunked_once_is_the_only_transfer_coding_that_is_taken() {
    let of = |codings: &[&str]| {
        let lines: String =
            codings.iter().map(|it| format!("transfer-encoding: {it}\r\n")).collect();
        let (_, said) = whole(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n"));
        !said.is_coded_otherwise()
    };
    for good in [&[] as &[_], &["chunked"], &["Chunked"]] {
        assert!(of(good), "{good:?}");
    }
    for bad in [
        &["gzip, chunked"] as &[_],
        &["chunked, chunked"],
        &["chunked", "chunked"],
        &["gzip", "chunked"],
        &["chunked;q=1"],
        &[""],
        &[",chunked"],
    ] {
        assert!(!of(bad), "{bad:?}");
    }
}
