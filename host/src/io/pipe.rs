//! Pipes, through which bytes go from one socket to another without coming by: `splice(2)`.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::io::Result;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::net::TcpStream;

/// Each takes two descriptors. Bodies that find none are copied.
const PIPES_MAX: usize = 128;

/// What one holds at most. Where the system grants less it holds that.
const PIPE_BYTES: usize = 256 << 10;

/// A worker's pipes.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    idle: RefCell<Vec<Ends>>,
    count: Cell<usize>,
}

#[derive(Debug)]
struct Ends {
    out: OwnedFd,
    into: OwnedFd,
}

/// A pipe while a body uses it.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// None once what it holds is of no use.
    ends: Option<Ends>,
    holds: usize,
    pipes: Rc<Pipes>,
}

impl Pipes {
    /// An empty one; none where there are too many.
    pub(crate) fn take(self: &Rc<Self>) -> Option<Pipe> {
        let ends = match self.idle.borrow_mut().pop() {
            Some(ends) => ends,
            None if self.count.get() < PIPES_MAX => {
                let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
                let _ = fcntl_setpipe_size(&into, PIPE_BYTES); // It has its own size, then.
                self.count.set(self.count.get() + 1);
                Ends { out, into }
            }
            None => return None,
        };
        Some(Pipe { ends: Some(ends), holds: 0, pipes: self.clone() })
    }
}

impl Pipe {
    pub(crate) fn is_empty(&self) -> bool {
        self.holds == 0
    }

    pub(crate) fn holds(&self) -> usize {
        self.holds
    }

    /// Takes up to so many bytes from a socket; none at the end of the stream.
    pub(super) fn fill(&mut self, from: &TcpStream, max: u64) -> Result<usize> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let max = usize::try_from(max).unwrap_or(usize::MAX).min(PIPE_BYTES);
        let count = splice(from, None, &ends.into, None, max, SpliceFlags::NONBLOCK)?;
        self.holds += count;
        Ok(count)
    }

    /// Gives what it holds to a socket, as much as that takes.
    pub(super) fn pour(&mut self, to: &TcpStream) -> Result<usize> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let count = splice(&ends.out, None, to, None, self.holds, SpliceFlags::NONBLOCK)?;
        self.holds -= count;
        Ok(count)
    }

    /// What it holds is given up, and the pipe with it.
    pub(super) fn spill(&mut self) {
        self.holds = 0;
        self.ends = None;
        self.pipes.count.set(self.pipes.count.get() - 1);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if !self.is_empty() {
            self.spill();
        } else if let Some(ends) = self.ends.take() {
            self.pipes.idle.borrow_mut().push(ends);
        }
    }
}
