//! An HTTP connection that enforces a deadline on every request and every response.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::rt::net::TcpStream;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::open_connections::ConnectionSlot;
use super::request_line::RequestLine;
use crate::domain::Refusal;
use crate::http::problem::Problem;

/// How long a connection beyond the limit may last: health checks send their request at once.
const RESERVE_TIMEOUT: Duration = Duration::from_millis(500);

/// Consecutive writes that send nothing, with no read in between, after which the connection is closed.
/// actix-http wakes itself without a pause while it holds 128 KiB of requests, even if it cannot go on
/// because the client does not read the responses. Such a client could keep a core busy indefinitely.
const MAX_FUTILE_WRITES: u32 = 16;

/// The longest URI that actix-http parses, in bytes.
const MAX_URI_BYTES: usize = 65_534;

/// Bytes that actix-http's dispatcher gets at a time; it is woken again for the rest. The dispatcher parses
/// every request that it is given, and each takes about 8 KB: 128 KiB may hold 3,000 of them.
const MAX_READ_BYTES: usize = 8 << 10;

/// Whether a request's body is still to be read: until the handler has read it to its end, nobody but actix-http
/// knows which bytes belong to it. The connection and its requests share it.
#[derive(Debug, Clone, Default)]
pub(super) struct UnreadBody(Rc<Cell<bool>>);

impl UnreadBody {
    fn set(request: &HttpRequest, is_unread: bool) {
        if let Some(body) = request.conn_data::<Self>() {
            body.0.set(is_unread);
        }
    }
}

/// Notes that `request` has a body. Called before anything of its response can be sent.
#[cold]
pub(super) fn on_body_announced(request: &HttpRequest) {
    UnreadBody::set(request, true);
}

/// Notes that the body of `request` has been read to its end.
pub(super) fn on_body_read(request: &HttpRequest) {
    UnreadBody::set(request, false);
}

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
/// *Request lines.* What a client should have percent-encoded in a request line is encoded before actix-http
/// reads it ([`RequestLine`]). That must never happen within a body: its length would change, and what follows
/// would be taken for another request. A read is taken for the start of a request only if a response was sent
/// since the one before it (or if it is the first), no body is unread, and no write ever had to wait. Then
/// actix-http holds no request that a handler has not seen: it handles the next one of its queue before it writes
/// the response of the last one. Of several requests that arrive together, only the first is repaired. The others,
/// if they need it, get 400.
///
/// *Refusals by actix-http.* It sends them without a body; the connection sends a problem document in their place.
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
    /// Of a request that was handled on this connection.
    unread_body: UnreadBody,
    /// Whether a write ever had to wait for the client.
    has_blocked: bool,
    request_line: RequestLine,
    /// Bytes that did not fit into the dispatcher's buffer once they were encoded.
    encoded: Bytes,
    /// A problem document, of which a part is sent, that takes the place of a refusal by actix-http.
    refusal: Option<Substitute>,
}

/// A problem document that takes the place of a refusal by actix-http.
#[derive(Debug)]
struct Substitute {
    /// The bytes of the refusal.
    replaced: usize,
    rest: Bytes,
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
            unread_body: UnreadBody::default(),
            has_blocked: false,
            request_line: RequestLine::none(),
            encoded: Bytes::new(),
            refusal: None,
        }
    }

    /// What the connection shares with its requests.
    pub(super) fn unread_body(&self) -> UnreadBody {
        self.unread_body.clone()
    }

    /// Encodes what has to be encoded of the bytes behind the first `filled` of `buffer`, which just arrived.
    #[inline]
    fn read_request_line(&mut self, buffer: &mut ReadBuf<'_>, filled: usize) {
        let bytes = &buffer.filled()[filled..];
        let encoded = if !self.is_receiving && !self.unread_body.0.get() && !self.has_blocked {
            self.request_line.start(bytes)
        } else if self.request_line.is_open() {
            self.request_line.read(bytes)
        } else {
            None
        };
        if let Some(encoded) = encoded {
            buffer.set_filled(filled);
            self.encoded = encoded.into();
            self.give_encoded(buffer);
        }
    }

    /// Moves as many encoded bytes to `buffer` as it has room for.
    #[cold]
    fn give_encoded(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.encoded.len().min(buffer.remaining());
        buffer.put_slice(&self.encoded.split_to(count));
    }

    /// The problem document that takes the place of a refusal by actix-http.
    #[cold]
    fn substitute(&self, refusal: ParserRefusal) -> Bytes {
        let problem = match refusal {
            ParserRefusal::BadRequest if self.request_line.length() > MAX_URI_BYTES => {
                Problem::UriTooLong
            }
            ParserRefusal::BadRequest => Problem::MalformedRequest,
            ParserRefusal::HeadersTooLarge => Refusal::HeadersTooLarge.into(),
            ParserRefusal::Timeout => Problem::RequestTimeout,
        };
        problem.to_bytes()
    }

    /// Writes the problem document. Only once it is written is the refusal reported as written.
    fn write_refusal(
        &mut self,
        context: &mut Context<'_>,
        mut substitute: Substitute,
    ) -> Poll<io::Result<usize>> {
        while !substitute.rest.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &substitute.rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => substitute.rest.advance(count),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.refusal = Some(substitute);
                    self.wait_for_client_to_read(context)?;
                    return Poll::Pending;
                }
            }
        }
        self.on_bytes_sent();
        Poll::Ready(Ok(substitute.replaced))
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
            let _ = self.stream.try_write(&Problem::RequestTimeout.to_bytes());
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
        let _ = self.stream.try_write(&Problem::TooManyConnections.to_bytes());
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    fn on_bytes_sent(&mut self) {
        self.is_receiving = false;
        self.has_responded = true;
        self.futile_writes = 0;
    }

    /// Fails if the client has not read its responses in time, or keeps the dispatcher spinning.
    fn wait_for_client_to_read(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.has_blocked = true;
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

/// A response that actix-http gives before a handler sees the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ParserRefusal {
    BadRequest,
    HeadersTooLarge,
    Timeout,
}

/// How these responses begin. No handler gives one like them: its errors have bodies.
const PARSER_REFUSALS: [(&[u8], ParserRefusal); 3] = [
    (b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n", ParserRefusal::BadRequest),
    (
        b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n",
        ParserRefusal::HeadersTooLarge,
    ),
    (b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n", ParserRefusal::Timeout),
];
/// More than such a response has.
const MAX_PARSER_REFUSAL_BYTES: usize = 192;

/// The refusal at the end of `bytes`, and where it begins. It is the last that actix-http sends.
#[inline]
fn parser_refusal(bytes: &[u8]) -> Option<(ParserRefusal, usize)> {
    // Most responses end in a body.
    if bytes.ends_with(b"\r\n\r\n") { find_parser_refusal(bytes) } else { None }
}

#[cold]
fn find_parser_refusal(bytes: &[u8]) -> Option<(ParserRefusal, usize)> {
    let tail_at = bytes.len().saturating_sub(MAX_PARSER_REFUSAL_BYTES);
    let start = b"HTTP/1.1 ";
    let in_tail = bytes[tail_at..].windows(start.len()).rposition(|window| window == start)?;
    let at = tail_at + in_tail;
    PARSER_REFUSALS
        .iter()
        .find(|(start, _)| bytes[at..].starts_with(start))
        .map(|(_, refusal)| (*refusal, at))
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
        if !self.encoded.is_empty() {
            self.give_encoded(buffer);
            self.read_bytes += buffer.filled().len() - filled;
            return Poll::Ready(Ok(()));
        }
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len() - filled;
        self.read_bytes = if result.is_pending() { 0 } else { self.read_bytes + read };
        if read > 0 {
            if self.slot.is_reserve() {
                self.admit_to_reserve(&buffer.filled()[filled..])?;
            }
            self.futile_writes = 0;
            self.read_request_line(buffer, filled);
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
        if let Some(substitute) = self.refusal.take() {
            return self.write_refusal(context, substitute);
        }
        let mut bytes = bytes;
        if let Some((refusal, at)) = parser_refusal(bytes) {
            if at == 0 {
                let rest = self.substitute(refusal);
                return self.write_refusal(context, Substitute { replaced: bytes.len(), rest });
            }
            // What precedes it is sent first.
            bytes = &bytes[..at];
        }
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
