//! Bodies whose every byte is known from its place, so that a lost, doubled or moved piece is found
//! without keeping anything.

use std::sync::LazyLock;

/// A prime: no buffer's length divides it, so that a piece in the wrong place does not fit.
const PERIOD: usize = 65_521;

static TWICE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 1_u32;
    let once: Vec<u8> = (0..PERIOD)
        .map(|_| {
            // Numerical Recipes' generator: its upper bits are random enough here.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    once.repeat(2)
});

/// Up to [`PERIOD`] bytes of the body, from this place on.
pub(crate) fn piece(place: u64, length: usize) -> &'static [u8] {
    let from = (place % PERIOD as u64) as usize;
    &TWICE[from..from + length.min(PERIOD)]
}

/// Compares what comes.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) bytes: u64,
    wrong_at: Option<u64>,
}

impl Checker {
    pub(crate) fn see(&mut self, mut got: &[u8]) {
        while !got.is_empty() {
            let wanted = piece(self.bytes, got.len());
            let (now, later) = got.split_at(wanted.len());
            if now != wanted {
                self.wrong_at.get_or_insert(self.bytes);
            }
            self.bytes += now.len() as u64;
            got = later;
        }
    }

    /// Whether it was this many bytes, each the right one; else what was wrong.
    pub(crate) fn is(&self, bytes: u64) -> Result<(), String> {
        if let Some(at) = self.wrong_at {
            return Err(format!("wrong bytes in the piece at {at}"));
        }
        if self.bytes != bytes {
            return Err(format!("{} bytes instead of {bytes}", self.bytes));
        }
        Ok(())
    }
}
