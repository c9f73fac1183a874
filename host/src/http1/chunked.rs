//! The chunked coding, undone (RFC 9112 section 7.1).

use bytes::{Bytes, BytesMut};
use http_body::Frame;

use super::{Error, HeadLimits, head};

/// A chunk's size and its extensions, which nobody reads, in bytes.
const LINE_MAX: usize = 4 << 10;

/// Where in a body the decoder is.
#[derive(Debug, Default)]
pub(super) enum Chunked {
    /// Before a chunk's size.
    #[default]
    Size,
    /// In a chunk that has so many bytes left.
    Data(u64),
    /// Before the end of a chunk's line.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
    Ended,
}

impl Chunked {
    /// The next piece of the body from the front of what was read. None: more has to be read, or it has
    /// ended.
    pub(super) fn decode(
        &mut self,
        read: &mut BytesMut,
        searched: &mut usize,
        limits: HeadLimits,
    ) -> Result<Option<Frame<Bytes>>, Error> {
        loop {
            match self {
                Chunked::Size => match take_size(read)? {
                    None => return Ok(None),
                    Some(0) => *self = Chunked::Trailers,
                    Some(size) => *self = Chunked::Data(size),
                },
                Chunked::Data(left) => {
                    if read.is_empty() {
                        return Ok(None);
                    }
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(read.len());
                    *left -= count as u64;
                    if *left == 0 {
                        *self = Chunked::DataEnd;
                    }
                    let data = super::take(read, count);
                    self.look_ahead(read);
                    return Ok(Some(Frame::data(data)));
                }
                Chunked::DataEnd => match &read[..] {
                    [b'\r', b'\n', ..] => {
                        let _ = read.split_to(2);
                        *self = Chunked::Size;
                    }
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(Error::Malformed("a chunk that is longer than its size")),
                },
                Chunked::Trailers => match head::trailers(read, searched, limits)? {
                    None => return Ok(None),
                    Some(trailers) => {
                        *self = Chunked::Ended;
                        return Ok(trailers.map(Frame::trailers));
                    }
                },
                Chunked::Ended => return Ok(None),
            }
        }
    }

    /// The end is often there with the last chunk: whoever takes that need not ask again.
    fn look_ahead(&mut self, read: &mut BytesMut) {
        const END: &[u8] = b"\r\n0\r\n\r\n";
        if matches!(self, Chunked::DataEnd) && read.starts_with(END) {
            let _ = read.split_to(END.len());
            *self = Chunked::Ended;
        }
    }
}

/// A chunk's size, with the line that it is in.
fn take_size(read: &mut BytesMut) -> Result<Option<u64>, Error> {
    const WRONG: Error = Error::Malformed("a chunk's size that is none");
    let Some(end) = memchr::memchr(b'\n', read) else {
        return if read.len() < LINE_MAX { Ok(None) } else { Err(WRONG) };
    };
    let line = read.split_to(end + 1);
    let line = line.strip_suffix(b"\r\n").filter(|line| line.len() < LINE_MAX).ok_or(WRONG)?;
    let mut size = line.split(|byte| *byte == b';').next().unwrap_or_default();
    while let [rest @ .., b' ' | b'\t'] = size {
        size = rest;
    }
    let is_size = (1..=16).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
    let size = std::str::from_utf8(size).ok().filter(|_| is_size).ok_or(WRONG)?;
    u64::from_str_radix(size, 16).map(Some).map_err(|_| WRONG)
}
