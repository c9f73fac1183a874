//! Compiled policies are kept from one start to the next, where `server.cache_dir` says so.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use orchestrator_tests::{EVERYTHING_TO_WRITER, Gateway, Upstream, run, service, toml_path};
use tempfile::TempDir;

async fn start(writer: &Upstream, folder: &Path) -> Gateway {
    Gateway::before([writer], format!("server.cache_dir = {}", toml_path(folder))).await
}

/// The files, with what changes when one is written anew.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> =
        entries.map(|entry| (entry.path(), entry.metadata().unwrap().ino())).collect();
    files.sort();
    files
}

#[tokio::test]
async fn the_second_start_takes_what_the_first_compiled() {
    let writer = Upstream::start().await;
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("made/here");
    assert_eq!(start(&writer, &cache).await.get("/x").await.text(), "hello");
    assert_eq!(fs::metadata(&cache).unwrap().mode() & 0o777, 0o700);
    let compiled = files(&cache);
    assert_eq!(compiled.len(), 2, "routing and retry: {compiled:?}");
    assert_eq!(start(&writer, &cache).await.get("/x").await.text(), "hello");
    assert_eq!(files(&cache), compiled);
}

#[tokio::test]
async fn what_is_damaged_is_compiled_anew() {
    let writer = Upstream::start().await;
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    drop(start(&writer, &cache).await);
    let compiled = files(&cache);
    for (file, _) in &compiled {
        let whole = fs::read(file).unwrap();
        fs::write(file, &whole[..whole.len() / 2]).unwrap();
    }
    assert_eq!(start(&writer, &cache).await.get("/x").await.text(), "hello");
    let again = files(&cache);
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|file| !compiled.contains(file)), "{again:?}");
}

#[tokio::test]
async fn what_cannot_be_kept_is_no_reason_not_to_start() {
    let writer = Upstream::start().await;
    let folder = TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    drop(start(&writer, &cache).await);
    for (file, _) in files(&cache) {
        fs::remove_file(&file).unwrap();
        // No file can take its place.
        fs::create_dir_all(file.join("in the way")).unwrap();
    }
    let gateway = start(&writer, &cache).await;
    assert_eq!(gateway.get("/x").await.text(), "hello");
    gateway.log.line_with(&["server.cache_dir"]).await;
}

#[tokio::test]
async fn a_folder_that_others_can_reach_is_refused() {
    let writer = Upstream::start().await;
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!(
        "server.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\nserver.cache_dir = {}\n{}\n\
         {EVERYTHING_TO_WRITER}\n",
        toml_path(folder.path()),
        service("writer", [&writer]),
    );
    let file = folder.path().join("gateway.toml");
    fs::write(&file, config).unwrap();
    for verb in ["check", "serve"] {
        let ran = run([verb, "--config", file.to_str().unwrap()]).await;
        assert_ne!(ran.code, 0);
        for part in ["server.cache_dir", "chmod 700", folder.path().to_str().unwrap()] {
            assert!(ran.stderr.contains(part), "{verb} does not say {part:?}: {}", ran.stderr);
        }
    }
}
