//! Where operators connect: an address and port, or a unix socket that is the gateway's user's alone.

#[cfg(test)]
mod tests;

use std::fs::{File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::Instant;

use crate::config::AdminListen;
use crate::gateway;
use crate::io::LazyTimer;

/// Connections that may wait to be accepted at a unix socket.
const BACKLOG: i32 = 128;

/// For the lock of the socket's folder: so often it is tried, so long apart.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// The admin listener. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Listener {
    address: AdminListen,
    socket: Bound,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// Of the socket's file: removed with the listener.
        _file: SocketFile,
    },
}

/// One connection of an operator.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixSocket),
}

impl Listener {
    /// Listens; nobody has connected before.
    ///
    /// # Errors
    /// `AddrInUse` where somebody else listens there; `AlreadyExists` where a file is in the way that
    /// is no socket; and what else the system says.
    pub(crate) fn bind(listen: &AdminListen) -> io::Result<Listener> {
        match listen {
            AdminListen::Tcp(address) => {
                let listener = TcpListener::from_std(gateway::bind(*address, false)?.into())?;
                let address = AdminListen::Tcp(listener.local_addr()?);
                Ok(Listener { address, socket: Bound::Tcp(listener) })
            }
            AdminListen::Unix(path) => {
                let (socket, file) = bind_unix(path)?;
                let listener = UnixListener::from_std(socket.into())?;
                let socket = Bound::Unix { listener, _file: file };
                Ok(Listener { address: listen.clone(), socket })
            }
        }
    }

    /// Where it listens: with the port that it was given, where any would do.
    pub(crate) fn address(&self) -> &AdminListen {
        &self.address
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Bound::Tcp(listener) => Ok(Stream::Tcp(listener.accept().await?.0)),
            Bound::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok(Stream::Unix(UnixSocket::new(stream, super::PATIENCE.write_stall)))
            }
        }
    }
}

fn bind_unix(path: &Path) -> io::Result<(Socket, SocketFile)> {
    // Two gateways that start together must not take each other's new socket for a stale one: they
    // look and bind one after the other.
    let folder = File::open(path.parent().unwrap_or(Path::new("/")))?;
    lock(&folder)?;

    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path, &address, error)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let file = SocketFile::at(path)?;
    // Before it listens nobody can connect.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    Ok((socket, file))
}

/// Anybody who may read the folder can hold its lock: nobody is waited for long.
fn lock(folder: &File) -> io::Result<()> {
    for _ in 0..LOCK_TRIES {
        match folder.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::park_timeout(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "another process holds the lock of its folder"))
}

/// Removes the socket of a gateway that ended without doing so itself. `in_use` is what to say where it
/// is another's, who still listens.
fn remove_stale(path: &Path, address: &SockAddr, in_use: io::Error) -> io::Result<()> {
    if !path.symlink_metadata()?.file_type().is_socket() {
        let message = "a file of this name is there, and it is no socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // One who listens and accepts nobody must not keep us waiting.
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        _ => Err(in_use),
    }
}

/// The file of a unix socket that is our own. Dropped, it is removed.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Its device and number there: somebody else may have put another one in its place.
    id: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile { path: path.to_owned(), id: id_of(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if id_of(&self.path).is_ok_and(|id| id == self.id) {
            let _ = std::fs::remove_file(&self.path); // The next start finds it stale.
        }
    }
}

fn id_of(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = path.symlink_metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// A connection on a unix socket, which `io.rs` does not wrap: what it knows of TCP is not to be had
/// here. hyper keeps the time of heads and of idleness; this the time of those who do not read.
#[derive(Debug)]
pub(crate) struct UnixSocket {
    stream: UnixStream,
    /// For how long the peer may take nothing.
    write_stall: Duration,
    /// Since when it has.
    stalled: Option<Instant>,
    timer: LazyTimer,
}

impl UnixSocket {
    fn new(stream: UnixStream, write_stall: Duration) -> UnixSocket {
        UnixSocket { stream, write_stall, stalled: None, timer: LazyTimer::default() }
    }

    fn after_write<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let since = *self.stalled.get_or_insert_with(Instant::now);
        match self.timer.poll_until(since + self.write_stall, cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for UnixSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for UnixSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.after_write(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.after_write(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
