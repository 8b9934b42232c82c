//! A connection: bytes out, bytes in, never blocking.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// TLS for the connections to a host.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Versions, roots, keys.
    pub config: Arc<ClientConfig>,
    /// Whom the certificate has to name.
    pub server_name: ServerName<'static>,
}

/// A request that waits for its answer. Times in nanoseconds since the start of the run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exchange {
    /// When it should have been sent: latency counts from here.
    pub(super) intended: u64,
    /// The place of its kind.
    pub(super) kind: usize,
}

/// A connection, idle or with one request under way.
#[derive(Debug)]
pub(super) struct Connection {
    /// Tells it from others that had its place before.
    pub(super) serial: u64,
    /// The request under way.
    pub(super) exchange: Option<Exchange>,
    /// What has come of the answer.
    pub(super) input: Vec<u8>,
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    connected: bool,
    output: Vec<u8>,
    written: usize,
}

/// Whether a connection goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Open {
    /// It does.
    Yes,
    /// The server has ended it.
    Ended,
}

impl Connection {
    /// Begins to connect.
    pub(super) fn open(
        address: SocketAddr,
        tls: Option<&Tls>,
        registry: &Registry,
        token: Token,
        serial: u64,
    ) -> io::Result<Self> {
        let tls = match tls {
            Some(tls) => {
                let config = Arc::clone(&tls.config);
                let connection = ClientConnection::new(config, tls.server_name.clone());
                Some(Box::new(connection.map_err(io::Error::other)?))
            }
            None => None,
        };
        let mut socket = TcpStream::connect(address)?;
        // A request is one small segment; it is not to wait for an acknowledgement.
        socket.set_nodelay(true)?;
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            serial,
            exchange: None,
            input: Vec::new(),
            socket,
            tls,
            connected: false,
            output: Vec::new(),
            written: 0,
        })
    }

    /// Where the next request is written to.
    pub(super) fn request_buffer(&mut self) -> &mut Vec<u8> {
        self.output.clear();
        self.written = 0;
        &mut self.output
    }

    /// Sees whether the connection stands by now; an error tells why it never will.
    pub(super) fn check_connected(&mut self) -> io::Result<bool> {
        if self.connected {
            return Ok(true);
        }
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Ok(_) => self.connected = true,
            Err(error) if error.kind() == ErrorKind::NotConnected => {}
            Err(error) => return Err(error),
        }
        Ok(self.connected)
    }

    /// Writes as much of the request as goes now.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if !self.connected {
            return Ok(());
        }
        if let Some(tls) = &mut self.tls {
            if self.written < self.output.len() {
                // It keeps what it cannot send yet.
                tls.writer().write_all(&self.output[self.written..])?;
                self.written = self.output.len();
            }
            while tls.wants_write() {
                match tls.write_tls(&mut self.socket) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    written => {
                        written?;
                    }
                }
            }
            return Ok(());
        }
        while self.written < self.output.len() {
            match self.socket.write(&self.output[self.written..]) {
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there into `input`. `scratch` is any buffer. `to_the_end`: the server is known
    /// to have ended the connection, and no further event will tell so.
    pub(super) fn receive(&mut self, scratch: &mut [u8], to_the_end: bool) -> io::Result<Open> {
        match &mut self.tls {
            None => receive(&mut self.socket, scratch, &mut self.input, to_the_end),
            Some(tls) => {
                let open = receive_tls(tls, &mut self.socket, scratch, &mut self.input)?;
                // A handshake has to answer.
                self.flush()?;
                Ok(open)
            }
        }
    }

    /// Forgets the socket before it is closed.
    pub(super) fn deregister(&mut self, registry: &Registry) {
        // Closing does it too; mio asks for it.
        let _ = registry.deregister(&mut self.socket);
    }
}

/// Reads until nothing is left: a read that does not fill the buffer has taken all there was, but
/// for the end.
fn receive(
    from: &mut impl Read,
    scratch: &mut [u8],
    into: &mut Vec<u8>,
    to_the_end: bool,
) -> io::Result<Open> {
    loop {
        match from.read(scratch) {
            Ok(0) => return Ok(Open::Ended),
            Ok(bytes) => {
                into.extend_from_slice(&scratch[..bytes]);
                if bytes < scratch.len() && !to_the_end {
                    return Ok(Open::Yes);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Open::Yes),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn receive_tls(
    tls: &mut ClientConnection,
    socket: &mut TcpStream,
    scratch: &mut [u8],
    into: &mut Vec<u8>,
) -> io::Result<Open> {
    loop {
        let ended = match tls.read_tls(socket) {
            Ok(bytes) => bytes == 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Open::Yes),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        tls.process_new_packets().map_err(io::Error::other)?;
        let open = receive(&mut tls.reader(), scratch, into, true)?;
        if ended || open == Open::Ended {
            return Ok(Open::Ended);
        }
    }
}
