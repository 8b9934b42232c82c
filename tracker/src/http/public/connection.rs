//! A connection on which a request has to be in within its time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What a client is told whose request took too long (RFC 9110, section 15.5.9).
const TIMED_OUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Writes in a row that take nothing, and nothing read in between, until the connection ends. actix-http
/// wakes itself without a pause while it holds 128 KiB of requests, also where it cannot go on because
/// their answers are not taken; then a connection would cost a core for as long as its client likes.
const FUTILE_WRITES: u32 = 16;

/// Bytes that are handed on at a time; the dispatcher is woken for the rest. actix-http takes all requests
/// apart that it is handed, and each takes some 8 KB: in 128 KiB there may be 3,000.
const READ_AT_ONCE: usize = 8 << 10;

/// A client's connection. From the first byte of a request until the answer begins to leave passes at
/// least the time-out, and at most twice that; a client that needs longer (slow loris) is told 408, and
/// the connection ends.
///
/// actix-http itself has such a bound for the head of a connection's first request alone: not for bodies,
/// nor for what comes after.
///
/// An answer has to be taken within the time-out, too: from the moment when the kernel's buffer takes no
/// more until it has taken all. Until then nothing is read: actix-http would go on answering what comes,
/// into memory.
///
/// The timer is looked at, not set anew, for each request: it costs nothing while it runs, and what it
/// has to know is whether an answer has left since it was set.
pub(super) struct Connection {
    stream: TcpStream,
    timeout: Duration,
    /// None while no request was under way when it last ended.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether bytes have come since an answer last left.
    receiving: bool,
    /// Whether an answer has left since the timer was set.
    answered: bool,
    /// For the answers that the client does not take; none while it takes them.
    unread: Option<Pin<Box<Sleep>>>,
    /// Writes in a row that took nothing, since something was last read.
    futile_writes: u32,
    /// Bytes handed on since the dispatcher last had to wait for more.
    handed_on: usize,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, timeout: Duration) -> Self {
        Self {
            stream,
            timeout,
            timer: None,
            receiving: false,
            answered: false,
            unread: None,
            futile_writes: 0,
            handed_on: 0,
        }
    }

    /// Sets the timer where it does not run, for the request of which bytes have come.
    fn received(&mut self, context: &mut Context<'_>) {
        self.receiving = true;
        if self.timer.is_none() {
            self.set_timer(context);
        }
    }

    fn set_timer(&mut self, context: &mut Context<'_>) {
        self.answered = false;
        let deadline = Instant::now() + self.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.timeout)));
        timer.as_mut().reset(deadline);
        // Whoever polls the connection is woken when it ends; a timer that has ended at once is seen
        // with the next bytes.
        let _ = timer.as_mut().poll(context);
    }

    /// Fails where the timer has ended and the request that was under way when it was set still is.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.timer.as_ref().is_some_and(|timer| timer.is_elapsed()) {
            return Ok(());
        }
        if !self.receiving {
            self.timer = None;
        } else if self.answered {
            self.set_timer(context);
        } else {
            // Where it cannot be written, the client does not read either.
            let _ = self.stream.try_write(TIMED_OUT);
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    fn sent(&mut self) {
        self.receiving = false;
        self.answered = true;
        self.futile_writes = 0;
    }

    /// Fails where the client has not taken its answers for too long, or holds the dispatcher up.
    fn wait_for_reader(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.futile_writes += 1;
        if self.futile_writes > FUTILE_WRITES {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let timeout = self.timeout;
        let unread = self.unread.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        match unread.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        if self.unread.is_some() {
            // `poll_flush` wakes when it goes on.
            return Poll::Pending;
        }
        if self.handed_on >= READ_AT_ONCE {
            self.handed_on = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let filled = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len() - filled;
        self.handed_on = if result.is_pending() { 0 } else { self.handed_on + read };
        if read > 0 {
            self.futile_writes = 0;
            self.received(context);
        }
        result
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        match result {
            Poll::Ready(Ok(1..)) => self.sent(),
            Poll::Pending => self.wait_for_reader(context)?,
            Poll::Ready(_) => {}
        }
        result
    }

    /// actix-http asks for it when all that it had has been written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unread.take().is_some() {
            context.waker().wake_by_ref();
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
