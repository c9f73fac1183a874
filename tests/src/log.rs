//! What the gateway writes, line by line, as a test reads it.

use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::wait::eventually;

/// All lines of one of the gateway's streams so far.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Keeps what comes from `source`, to its end.
    pub(crate) fn of(source: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let log = Self::default();
        let lines = log.clone();
        tokio::spawn(async move {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while let Ok(1..) = source.read_until(b'\n', &mut line).await {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                lines.0.lock().unwrap().push(text);
                line.clear();
            }
        });
        log
    }

    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// The first line for which `wanted` is true, as soon as there is one.
    pub async fn wait_for(&self, what: impl fmt::Display, wanted: impl Fn(&str) -> bool) -> String {
        eventually(what, async || self.0.lock().unwrap().iter().find(|line| wanted(line)).cloned())
            .await
    }

    /// The first line that contains all of these.
    pub async fn line_with(&self, parts: &[&str]) -> String {
        self.wait_for(format!("a line with {parts:?}"), |line| {
            parts.iter().all(|part| line.contains(part))
        })
        .await
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}
