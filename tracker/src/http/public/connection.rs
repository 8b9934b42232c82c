//! An HTTP connection that enforces a deadline on every request and every response.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::open_connections::ConnectionSlot;

/// The response to a request that took too long (RFC 9110, section 15.5.9).
const TIMED_OUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// The response on a connection beyond the limit to anything but a health check.
const OVERLOADED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/problem+json\r\n\
    cache-control: no-store\r\n\
    retry-after: 1\r\n\
    content-length: 105\r\n\
    connection: close\r\n\r\n\
    {\"code\":\"overloaded\",\"detail\":\"too many connections are open\",\
    \"status\":503,\"title\":\"Service Unavailable\"}";

/// How long a connection beyond the limit may last: health checks send their request at once.
const RESERVE_TIMEOUT: Duration = Duration::from_millis(500);

/// Consecutive writes that send nothing, with no read in between, after which the connection is closed.
/// actix-http wakes itself without a pause while it holds 128 KiB of requests, even if it cannot go on
/// because the client does not read the responses. Such a client could keep a core busy indefinitely.
const MAX_FUTILE_WRITES: u32 = 16;

/// Bytes that actix-http's dispatcher gets at a time; it is woken again for the rest. The dispatcher parses
/// every request that it is given, and each takes about 8 KB: 128 KiB may hold 3,000 of them.
const MAX_READ_BYTES: usize = 8 << 10;

/// A client's connection, with two deadlines.
///
/// *Requests.* The time from the first byte of a request to the first byte of its response is bounded: a
/// request that takes longer than the timeout may be ended, and one that takes twice as long always is.
/// The client gets 408 and the connection is closed. This stops clients that send a byte now and then
/// (slow loris). actix-http has such a bound only for the head of a connection's first request, not for
/// bodies and not for later requests.
///
/// *Responses.* Once the kernel's send buffer is full, the client has one timeout to read until everything
/// is sent. The connection reads no further requests meanwhile: actix-http would go on handling them and
/// hold their responses in memory.
///
/// *Beyond the limit.* A connection in the reserve (`open_connections`) may ask for a health check, soon and
/// once.
///
/// The request timer is not reset for each request, hence the factor of two. When it fires, the connection
/// checks whether a response has been sent since it was set.
pub(super) struct Connection {
    stream: TcpStream,
    slot: ConnectionSlot,
    timeout: Duration,
    /// The deadline of the current request. None before the first request, and if no request was under
    /// way when it last fired.
    request_timer: Option<Pin<Box<Sleep>>>,
    /// Whether bytes of a request have arrived since the last response.
    is_receiving: bool,
    /// Whether a response has been sent since the request timer was set.
    has_responded: bool,
    /// The deadline for the client to read its responses. None while the kernel's buffer has room.
    response_timer: Option<Pin<Box<Sleep>>>,
    /// Consecutive writes that sent nothing since the last read.
    futile_writes: u32,
    /// Bytes given to the dispatcher since it last had to wait for more.
    read_bytes: usize,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, slot: ConnectionSlot, timeout: Duration) -> Self {
        let timeout = if slot.is_reserve() { RESERVE_TIMEOUT } else { timeout };
        Self {
            stream,
            slot,
            timeout,
            request_timer: None,
            is_receiving: false,
            has_responded: false,
            response_timer: None,
            futile_writes: 0,
            read_bytes: 0,
        }
    }

    /// Starts the request timer if it is not running.
    fn on_bytes_received(&mut self, context: &mut Context<'_>) {
        self.is_receiving = true;
        if self.request_timer.is_none() {
            self.set_request_timer(context);
        }
    }

    fn set_request_timer(&mut self, context: &mut Context<'_>) {
        self.has_responded = false;
        let (timeout, deadline) = (self.timeout, Instant::now() + self.timeout);
        let sleep = || Box::pin(tokio::time::sleep(timeout));
        let timer = self.request_timer.get_or_insert_with(sleep);
        timer.as_mut().reset(deadline);
        // Registers the connection's task to be woken at the deadline. If the timer has fired already, the
        // next read finds out.
        let _ = timer.as_mut().poll(context);
    }

    /// Fails if the request timer has fired and the request that was under way when it was set has got no
    /// response since.
    fn check_request_timer(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.request_timer.as_ref().is_some_and(|timer| timer.is_elapsed()) {
            return Ok(());
        }
        if !self.is_receiving && self.slot.is_reserve() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if !self.is_receiving {
            self.request_timer = None;
        } else if self.has_responded {
            self.set_request_timer(context);
        } else {
            // If this cannot be written, the client is not reading either.
            let _ = self.stream.try_write(TIMED_OUT);
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// Fails if `bytes`, the first of a connection beyond the limit, are not a health check.
    fn admit_to_reserve(&self, bytes: &[u8]) -> io::Result<()> {
        let is_health_check = [b"GET /health/".as_slice(), b"HEAD /health/"]
            .iter()
            .any(|start| bytes.starts_with(start));
        if is_health_check {
            return Ok(());
        }
        // If this cannot be written, the client is not reading either.
        let _ = self.stream.try_write(OVERLOADED);
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    fn on_bytes_sent(&mut self) {
        self.is_receiving = false;
        self.has_responded = true;
        self.futile_writes = 0;
    }

    /// Fails if the client has not read its responses in time, or keeps the dispatcher spinning.
    fn wait_for_client_to_read(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.futile_writes += 1;
        if self.futile_writes > MAX_FUTILE_WRITES {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let timeout = self.timeout;
        let sleep = || Box::pin(tokio::time::sleep(timeout));
        let timer = self.response_timer.get_or_insert_with(sleep);
        match timer.as_mut().poll(context) {
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
        self.check_request_timer(context)?;
        if self.slot.is_reserve() && self.request_timer.is_none() {
            self.set_request_timer(context);
        }
        if self.response_timer.is_some() {
            // `poll_flush` wakes the task once everything is sent.
            return Poll::Pending;
        }
        if self.read_bytes >= MAX_READ_BYTES {
            self.read_bytes = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let filled = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len() - filled;
        self.read_bytes = if result.is_pending() { 0 } else { self.read_bytes + read };
        if read > 0 {
            if self.slot.is_reserve() {
                self.admit_to_reserve(&buffer.filled()[filled..])?;
            }
            self.futile_writes = 0;
            self.on_bytes_received(context);
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
            Poll::Ready(Ok(1..)) => self.on_bytes_sent(),
            Poll::Pending => self.wait_for_client_to_read(context)?,
            Poll::Ready(_) => {}
        }
        result
    }

    /// actix-http calls this when it has written everything that it had.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.response_timer.take().is_some() {
            context.waker().wake_by_ref();
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
