//! HTTP/1.1 as bytes on a socket: heads and bodies are read exactly as they came.

use std::fmt;
use std::io::{self, ErrorKind};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The head of a message, request or response.
#[derive(Clone)]
pub struct Head {
    /// All of it, from the start line to the blank line, as received.
    pub bytes: Vec<u8>,
    /// The first line, without its line end.
    pub start_line: String,
    fields: Vec<(String, Vec<u8>)>,
}

impl Head {
    fn parse(bytes: Vec<u8>) -> Self {
        let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let start_line = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        let fields = lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
                let name = String::from_utf8_lossy(&line[..colon]).to_lowercase();
                (name, line.get(colon + 1..).unwrap_or_default().trim_ascii().to_vec())
            })
            .collect();
        Self { bytes, start_line, fields }
    }

    /// The values of a header as bytes, in the order they came.
    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        let named = self.fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_slice()).collect()
    }

    /// The one value of a header; none where it is absent. Fails the test where there are several.
    pub fn get(&self, name: &str) -> Option<String> {
        let values = self.values(name);
        assert!(values.len() <= 1, "{name} came {} times:\n{self:?}", values.len());
        values.first().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    pub fn has(&self, name: &str) -> bool {
        !self.values(name).is_empty()
    }

    fn word(&self, index: usize) -> &str {
        self.start_line.split(' ').nth(index).unwrap_or_default()
    }

    /// Of a request: its method.
    pub fn method(&self) -> &str {
        self.word(0)
    }

    /// Of a request: path and query, as sent.
    pub fn target(&self) -> &str {
        self.word(1)
    }

    /// Of a response: its status.
    pub fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or_else(|_| panic!("no status in {:?}", self.start_line))
    }

    fn is_chunked(&self) -> bool {
        self.values("transfer-encoding").iter().any(|value| value.eq_ignore_ascii_case(b"chunked"))
    }

    fn length(&self) -> Option<u64> {
        self.get("content-length").map(|value| value.parse().unwrap())
    }

    /// How the body behind a request's head is framed.
    pub fn request_framing(&self) -> Framing {
        if self.is_chunked() {
            Framing::Chunked
        } else {
            Framing::Length(self.length().unwrap_or(0))
        }
    }

    /// How the body behind a response's head is framed (RFC 9112 section 6.3).
    pub fn response_framing(&self, method: &str) -> Framing {
        let status = self.status();
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            Framing::Length(0)
        } else if self.is_chunked() {
            Framing::Chunked
        } else {
            self.length().map_or(Framing::UntilClose, Framing::Length)
        }
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.bytes))
    }
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// A connection, and what was read from it but not yet taken.
#[derive(Debug)]
pub struct Wire {
    pub stream: TcpStream,
    /// The trailer lines behind the last body that was read, as they came.
    pub trailers: Vec<String>,
    buffer: BytesMut,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, trailers: Vec::new(), buffer: BytesMut::new() }
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads on; false at the end of the stream.
    async fn more(&mut self) -> io::Result<bool> {
        self.buffer.reserve(64 * 1024);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    /// The next head; none where the peer closed instead of beginning one.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                return Ok(Some(Head::parse(self.buffer.split_to(end + 4).to_vec())));
            }
            if !self.more().await? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(cut("a head")) };
            }
        }
    }

    /// Whatever came next, at most `most` bytes; empty at the end of the stream.
    pub async fn some(&mut self, most: usize) -> io::Result<Vec<u8>> {
        if self.buffer.is_empty() {
            self.more().await?;
        }
        let length = self.buffer.len().min(most);
        Ok(self.buffer.split_to(length).to_vec())
    }

    /// Exactly so many bytes.
    pub async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.more().await? {
                return Err(cut("bytes that were due"));
            }
        }
        Ok(self.buffer.split_to(length).to_vec())
    }

    /// Reads a body to its end and shows each piece of content, as it comes, to `see`. An error of
    /// kind `UnexpectedEof` says that the peer cut the body short.
    pub async fn body(&mut self, framing: Framing, mut see: impl FnMut(&[u8])) -> io::Result<()> {
        self.trailers.clear();
        match framing {
            Framing::Length(length) => self.content(length, &mut see).await,
            Framing::UntilClose => loop {
                see(&self.buffer.split());
                if !self.more().await? {
                    return Ok(());
                }
            },
            Framing::Chunked => loop {
                let line = self.line().await?;
                let digits = line.split(';').next().unwrap_or_default().trim();
                let length = u64::from_str_radix(digits, 16).map_err(|_| {
                    io::Error::new(ErrorKind::InvalidData, format!("chunk size {line:?}"))
                })?;
                if length == 0 {
                    loop {
                        let line = self.line().await?;
                        if line.is_empty() {
                            return Ok(());
                        }
                        self.trailers.push(line);
                    }
                }
                self.content(length, &mut see).await?;
                if !self.line().await?.is_empty() {
                    return Err(io::Error::new(
                        ErrorKind::InvalidData,
                        "no line end behind a chunk",
                    ));
                }
            },
        }
    }

    async fn content(&mut self, length: u64, see: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            if self.buffer.is_empty() && !self.more().await? {
                return Err(cut("a body"));
            }
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            see(&self.buffer[..take]);
            self.buffer.advance(take);
            left -= take as u64;
        }
        Ok(())
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(end + 2);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.more().await? {
                return Err(cut("a line"));
            }
        }
    }

    /// Resolves when the peer has closed, or sent what was not asked for.
    pub async fn closed(&self) {
        let mut byte = [0];
        while let Ok(1..) = self.stream.peek(&mut byte).await {
            // Bytes before the end: the end can only be seen behind them.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Closes with a reset instead of an orderly end.
    pub fn reset(self) {
        let stream = socket2::SockRef::from(&self.stream);
        stream.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn cut(what: &str) -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, format!("the peer closed in the middle of {what}"))
}
