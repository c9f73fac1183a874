use std::future::poll_fn;
use std::net::Ipv4Addr;

use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(5);

/// Both ends of a connection.
async fn ends() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.expect("one end"), far.expect("the other").0)
}

/// A service's connection, and the service.
pub(crate) async fn service() -> (Socket, TcpStream) {
    let (stream, service) = ends().await;
    (Socket::connected(stream).0, service)
}

/// A client's connection on which an exchange is under way, and the client.
pub(crate) async fn client() -> (Socket, TcpStream) {
    let (stream, client) = ends().await;
    let patience = Patience {
        keep_alive: SOON,
        header: SOON,
        write_stall: Duration::from_millis(100),
        rate_min: None,
        wakes: false,
    };
    let (socket, meter) = Socket::accepted(stream, patience);
    meter.exchange_begins();
    (socket, client)
}

/// Until the system takes no more.
pub(crate) async fn fill(socket: &Socket) {
    const A_WHILE: Duration = Duration::from_millis(50);
    while timeout(A_WHILE, socket.stream.writable()).await.is_ok() {
        let _ = socket.stream.try_write(&[0; 64 << 10]); // Ends when it fails for long enough.
    }
}

#[tokio::test]
async fn who_does_not_take_a_100_is_a_reader_that_stalls() {
    let (mut socket, _client) = client().await;
    fill(&socket).await;
    socket.meter.owe_continue();
    let sent = timeout(SOON, poll_fn(|cx| socket.poll_continue(cx))).await.expect("an end");
    assert_eq!(sent.expect_err("nothing is taken").kind(), io::ErrorKind::TimedOut);
    assert_eq!(socket.meter.cut(), Some(Cut::WriteStall));
}
