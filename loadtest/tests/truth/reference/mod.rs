//! A server that does what a plan says and keeps a log of what it did, so that the harness' figures can be compared
//! with the truth. A thread per connection over real TCP.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub mod harness;

/// Requests that begin with this are met with a reset of the connection.
const RESET: &[u8] = b"GET /reset";

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Sends these bytes after a delay, in the given pieces, and keeps the connection open.
    Send(Duration, Vec<Vec<u8>>),
    /// Sends these bytes and closes the connection.
    SendAndClose(Vec<u8>),
    /// Sends these bytes so long after the first request.
    SendAt(Duration, Vec<u8>),
    /// Closes the connection without a byte.
    Close,
    /// Sends nothing and keeps the connection open.
    Ignore,
}

/// A request that the server received; in the log by the order of arrival.
#[derive(Debug, Clone)]
pub struct Logged {
    /// The request line's target.
    pub path: String,
    /// When it was received, since the first request.
    pub received: Duration,
    /// When the response had been written; `None` if there was none.
    pub sent: Option<Duration>,
    /// The address of the server that it came to.
    pub address: SocketAddr,
}

impl Logged {
    /// From receiving the request to having written the response.
    pub fn took(&self) -> Option<Duration> {
        Some(self.sent? - self.received)
    }
}

/// What a plan knows when it decides.
pub struct Request<'a> {
    pub number: usize,
    /// Since the first request.
    pub at: Duration,
    pub path: &'a str,
}

type Plan = dyn Fn(&Request<'_>) -> Act + Send + Sync;

struct Shared {
    plan: Box<Plan>,
    first: Mutex<Option<Instant>>,
    log: Mutex<Vec<Logged>>,
}

/// A running server. It ends with the test's process.
pub struct Reference {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Reference {
    /// A server on a free port of 127.0.0.1.
    pub fn start(plan: impl Fn(&Request<'_>) -> Act + Send + Sync + 'static) -> Self {
        Self::start_at([127, 0, 0, 1].into(), Duration::ZERO, plan)
    }

    /// A server that waits for `accept_delay` before it accepts each connection.
    pub fn start_at(
        ip: IpAddr,
        accept_delay: Duration,
        plan: impl Fn(&Request<'_>) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            plan: Box::new(plan),
            first: Mutex::new(None),
            log: Mutex::new(Vec::new()),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(accept_delay);
                let Ok((stream, _)) = listener.accept() else { continue };
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || serve(stream, address, &shared));
            }
        });
        Self { address, shared }
    }

    /// What the server did so far.
    pub fn log(&self) -> Vec<Logged> {
        self.shared.log.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, address: SocketAddr, shared: &Shared) {
    stream.set_nodelay(true).unwrap();
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            // A connection with unread bytes is reset when it is closed.
            if stream.peek(&mut buffer).is_ok_and(|bytes| buffer[..bytes].starts_with(RESET)) {
                log(shared, "/reset", address);
                return;
            }
            match stream.read(&mut buffer) {
                Ok(bytes) if bytes > 0 => read.extend_from_slice(&buffer[..bytes]),
                _ => return,
            }
            continue;
        };
        let request: Vec<u8> = read.drain(..end + 4).collect();
        if !respond(&mut stream, &String::from_utf8_lossy(&request), address, shared) {
            return;
        }
    }
}

/// Logs a request. Returns its number, when the first request came, and when this one did since then.
fn log(shared: &Shared, path: &str, address: SocketAddr) -> (usize, Instant, Duration) {
    let first = *shared.first.lock().unwrap().get_or_insert_with(Instant::now);
    let received = first.elapsed();
    let mut log = shared.log.lock().unwrap();
    let number = log.len();
    log.push(Logged { path: path.to_owned(), received, sent: None, address });
    (number, first, received)
}

/// Responds to a request. False if the connection is over.
fn respond(stream: &mut TcpStream, text: &str, address: SocketAddr, shared: &Shared) -> bool {
    let path = text.split(' ').nth(1).unwrap_or_default();
    let (number, first, received) = log(shared, path, address);
    let act = (shared.plan)(&Request { number, at: received, path });
    let sent = || shared.log.lock().unwrap()[number].sent = Some(first.elapsed());
    let mut send = |pieces: &[Vec<u8>]| {
        // The log has the time before the last byte leaves: the harness cannot have it earlier.
        for (index, piece) in pieces.iter().enumerate() {
            if index + 1 == pieces.len() {
                sent();
            } else if index > 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
            if stream.write_all(piece).is_err() {
                return false;
            }
        }
        true
    };
    match act {
        Act::Send(delay, pieces) => {
            std::thread::sleep(delay);
            send(&pieces)
        }
        Act::SendAt(at, bytes) => {
            std::thread::sleep(at.saturating_sub(first.elapsed()));
            send(&[bytes])
        }
        Act::SendAndClose(bytes) => {
            send(&[bytes]);
            false
        }
        Act::Close => false,
        Act::Ignore => true,
    }
}

/// A response of HTTP/1.1 with `Content-Length`.
pub fn response(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} S\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes()
}

/// Sends a 200 at once.
pub fn ok() -> Act {
    Act::Send(Duration::ZERO, vec![response(200, "", "{}")])
}
