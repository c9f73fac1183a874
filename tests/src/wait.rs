//! Waiting: for a future or a condition, never longer than the deadline.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// More than anything a test waits for takes on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(5);

/// The future's output. Fails the test when it takes longer than [`DEADLINE`].
pub async fn within<F: Future>(what: impl Display, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {DEADLINE:?} in vain: {what}"),
    }
}

/// The first `Some` that `probe` answers. Fails the test when there is none within [`DEADLINE`].
pub async fn eventually<T>(what: impl Display, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = within(&what, probe()).await {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        tokio::time::sleep(POLL).await;
    }
}
