//! Bodies that go from socket to socket.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::super::body::Framing;
use super::super::head::Said;
use super::super::outgoing::Coding;
use super::super::{Connection, Failed, Incoming, Outgoing, Relay};
use crate::body::{AttemptBody, RequestBody, UploadLimits};
use crate::config::Config;
use crate::io::Socket;
use crate::io::tests::{client, fill, service};

/// A long body, of which a byte was copied so that the rest need not be.
async fn upload() -> (Rc<RequestBody>, AttemptBody, TcpStream) {
    let (socket, mut client) = client().await;
    let connection = Connection::new(socket, &Config::builtin().0.limits, &Rc::default());
    let incoming = Incoming::new(&connection, Framing::of_length(1 << 30), &Said::default());
    let limits = UploadLimits { replay_bytes_max: 0, rate_min: None };
    let body = RequestBody::new(incoming, Instant::now(), limits);
    let mut attempt = AttemptBody::of(&body);
    client.write_all(b"x").await.expect("a connection");
    let copied = poll_fn(|cx| Pin::new(&mut attempt).poll_frame(cx)).await;
    assert!(matches!(copied, Some(Ok(_))), "{copied:?}");
    (body, attempt, client)
}

#[tokio::test]
async fn what_a_service_does_not_take_has_come_from_the_client() {
    let (body, mut attempt, mut client) = upload().await;
    let (mut service, _peer) = service().await;
    fill(&service).await;
    let waits = poll_fn(|cx| Poll::Ready(attempt.poll_relay(&mut service, cx))).await;
    assert!(matches!(waits, Some(Poll::Pending)) && body.starved(), "{waits:?}");
    client.write_all(b"more").await.expect("a connection");
    let come = poll_fn(|cx| {
        let relayed = attempt.poll_relay(&mut service, cx);
        assert!(matches!(relayed, Some(Poll::Pending)), "{relayed:?}");
        if body.starved() { Poll::Pending } else { Poll::Ready(()) }
    });
    timeout(Duration::from_secs(5), come).await.expect("the service is what is waited for");
    assert_eq!(body.bytes(), 5);
}

/// A body that is there whenever it is asked for, for so many bytes.
#[derive(Debug)]
struct Ready(u64);

const PIECE: u64 = 256 << 10;

impl Body for Ready {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }
}

impl Relay for Ready {
    fn poll_relay(
        &mut self,
        _: &mut Socket,
        _: &mut Context<'_>,
    ) -> Option<Poll<Result<u64, Failed<Infallible>>>> {
        self.0 -= PIECE;
        Some(Poll::Ready(Ok(PIECE)))
    }
}

#[tokio::test]
async fn others_have_their_turn_after_each_mebibyte() {
    const MEBIBYTES: u64 = 16;
    let (mut socket, _peer) = service().await;
    let mut outgoing = Outgoing::new(Vec::new(), Some(Ready(MEBIBYTES << 20)), Coding::Plain);
    let mut turns = 0;
    let sent = poll_fn(|cx| {
        turns += 1;
        outgoing.poll_send(&mut socket, cx)
    });
    assert!(sent.await.is_ok());
    assert!((MEBIBYTES..=MEBIBYTES + 1).contains(&turns), "{turns}");
}
