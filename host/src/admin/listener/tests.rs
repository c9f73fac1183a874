//! A unix socket is its user's, is removed with its listener, and is never taken from another.

use std::io::ErrorKind;

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use super::*;

/// A folder, and the path of a socket in it.
fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("admin.sock");
    (folder, path)
}

fn bind(path: &Path) -> io::Result<Listener> {
    Listener::bind(&AdminListen::Unix(path.to_owned()))
}

async fn is_met_at(listener: &Listener, path: &Path) -> bool {
    let (connected, accepted) = tokio::join!(UnixStream::connect(path), listener.accept());
    connected.is_ok() && matches!(accepted, Ok(Stream::Unix(_)))
}

#[tokio::test]
async fn its_file_is_its_users_alone_and_goes_with_it() {
    let (_folder, path) = place();
    let listener = bind(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(is_met_at(&listener, &path).await);
    assert_eq!(listener.address().to_string(), format!("unix:{}", path.display()));
    drop(listener);
    assert!(!path.exists());
}

#[tokio::test]
async fn one_that_nobody_listens_at_is_replaced() {
    let (_folder, path) = place();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "as a gateway leaves it that was killed");
    let listener = bind(&path).unwrap();
    assert!(is_met_at(&listener, &path).await);
}

#[tokio::test]
async fn one_that_somebody_listens_at_stays_theirs() {
    let (_folder, path) = place();
    let first = bind(&path).unwrap();
    assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert!(is_met_at(&first, &path).await);
}

#[tokio::test]
async fn one_whose_owner_accepts_nobody_stays_theirs_too() {
    let (_folder, path) = place();
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let _waits = UnixStream::connect(&path).await.unwrap();
    assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert!(path.exists());
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_in_the_way() {
    let (folder, path) = place();
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");

    // Nor is a name for somebody else's.
    let theirs = folder.path().join("theirs.sock");
    drop(std::os::unix::net::UnixListener::bind(&theirs).unwrap());
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&theirs, &path).unwrap();
    assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(theirs.exists());
}

#[tokio::test]
async fn one_that_has_taken_its_place_stays() {
    let (_folder, path) = place();
    let first = bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = bind(&path).unwrap();
    drop(first);
    assert!(is_met_at(&second, &path).await);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_not_made() {
    let (folder, _) = place();
    let error = bind(&folder.path().join("none/admin.sock")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn who_takes_nothing_is_cut() {
    let patience = Duration::from_millis(50);
    let (_peer, stream) = UnixStream::pair().unwrap();
    let mut socket = UnixSocket::new(stream, patience);
    let begun = Instant::now();
    let error = socket.write_all(&[0; 16 << 20]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(begun.elapsed() >= patience);
}
