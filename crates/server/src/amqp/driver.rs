//! One connection: socket ⇄ [`Session`].
//!
//! ```text
//! socket ─► input ─► Session::receive ─► handlers ─► broker
//! socket ◄─ output ◄─ Session::{step, pull} ◄─ log, mailbox, timers
//! ```
//!
//! One task does it all and never waits for one thing alone: each round does what can be done, and
//! the task sleeps only when no round does anything.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Context;
use super::session::Session;
use crate::shutdown::Stopping;

/// Serves one connection until either side closes it.
pub(super) async fn drive(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    context: Arc<Context>,
    (remote, local): (SocketAddr, Option<SocketAddr>),
    mut stopping: Stopping,
) {
    let (place, called) = context.lobby.enter();
    let session = Session::new(Arc::clone(&context), remote, local, place);
    let mut driver = Driver { socket, session, context, input: BytesMut::new(), timer: None };
    let ended = tokio::select! {
        biased;
        () = stopping.told() => None,
        () = called.away() => return, // others want to log in
        ended = poll_fn(|task| driver.poll(task)) => Some(ended),
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            driver.session.stop();
            poll_fn(|task| driver.poll(task)).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%remote, %error, "an AMQP connection broke");
    }
}

/// A socket and what is done with it.
struct Driver<S> {
    socket: S,
    session: Session,
    context: Arc<Context>,
    /// What was read and not yet understood; owns no memory while there is nothing.
    input: BytesMut,
    timer: Option<Timer>,
}

/// Wakes at a time of the session's clock.
struct Timer {
    at: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Goes on until there is nothing to do; ready when the connection is over.
    fn poll(&mut self, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        for _ in 0..ROUNDS_MAX {
            let now = self.context.now();
            self.session.receive(&mut self.input, now);
            self.session.poll_login(task);
            self.session.step(now);
            let more = self.session.pull();
            self.write(task)?;
            if self.session.is_over() {
                return self.shut(task);
            }
            let read = self.session.wants_input() && self.read(task)?;
            let pull = more && self.session.has_room();
            if !(read || pull || self.session.can_resume())
                && self.sleep(task, now)
                && self.session.park(task.waker())
            {
                return Poll::Pending;
            }
        }
        task.waker().wake_by_ref(); // let the others have a turn
        Poll::Pending
    }

    /// Writes as much as the socket takes.
    fn write(&mut self, task: &mut Task<'_>) -> io::Result<()> {
        let out = self.session.out();
        while out.has_remaining() {
            let mut slices = [io::IoSlice::new(&[]); SLICES_MAX];
            let count = out.chunks_vectored(&mut slices);
            let slices = slices.get(..count).unwrap_or_default();
            match Pin::new(&mut self.socket).poll_write_vectored(task, slices) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => out.advance(written),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
        out.shrink();
        Ok(())
    }

    /// Reads what is there; whether that was anything.
    fn read(&mut self, task: &mut Task<'_>) -> io::Result<bool> {
        let read = if self.input.capacity() == 0 { self.probe(task) } else { self.fill(task) };
        match read {
            Poll::Ready(Ok(0)) => self.session.hang_up(),
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => {
                if self.input.is_empty() {
                    self.input = BytesMut::new();
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads without owning a buffer: most connections are idle.
    fn probe(&mut self, task: &mut Task<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = [0; PROBE_BYTES];
        let mut buffer = ReadBuf::new(&mut buffer);
        ready!(Pin::new(&mut self.socket).poll_read(task, &mut buffer))?;
        let read = buffer.filled();
        if !read.is_empty() {
            self.input.reserve(if read.len() < PROBE_BYTES { read.len() } else { READ_BYTES });
            self.input.extend_from_slice(read);
        }
        Poll::Ready(Ok(read.len()))
    }

    fn fill(&mut self, task: &mut Task<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(READ_BYTES);
        pin!(self.socket.read_buf(&mut self.input)).poll(task)
    }

    /// Sees that the task is woken at the session's next deadline; `false` if it has passed.
    fn sleep(&mut self, task: &mut Task<'_>, now: Duration) -> bool {
        let Some(deadline) = self.session.deadline() else { return true };
        let wait = deadline.saturating_sub(now);
        match &mut self.timer {
            Some(timer) if timer.at <= deadline && timer.at > now => {}
            Some(timer) => {
                timer.at = deadline;
                timer.sleep.as_mut().reset(Instant::now() + wait);
            }
            None => {
                let sleep = Box::pin(tokio::time::sleep(wait));
                self.timer = Some(Timer { at: deadline, sleep });
            }
        }
        self.timer.as_mut().is_none_or(|timer| timer.sleep.as_mut().poll(task).is_pending())
    }

    fn shut(&mut self, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(task)
    }
}

/// Rounds before other tasks have a turn.
const ROUNDS_MAX: usize = 16;
/// What an idle connection is read with, on the stack.
const PROBE_BYTES: usize = 4096;
/// Room made for one read of a busy connection.
const READ_BYTES: usize = 64 << 10;
/// Pieces of one gathered write.
const SLICES_MAX: usize = 64;
