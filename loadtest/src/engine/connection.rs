//! A non-blocking connection that sends requests and receives responses.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::request::Visitor;

/// TLS for the connections to a host.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Protocol versions, trusted roots, keys.
    pub config: Arc<ClientConfig>,
    /// Name that the server's certificate must have.
    pub server_name: ServerName<'static>,
}

/// A request to send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planned {
    /// Index of its kind.
    pub(super) kind: usize,
    /// Who makes it.
    pub(super) visitor: Visitor,
    /// Seed of what is random in it: the same seed gives the same request.
    pub(super) seed: u64,
    /// Whether it follows another request, and is not one of the schedule.
    pub(super) is_follow_up: bool,
    /// Whether it was sent before.
    pub(super) is_repeat: bool,
}

/// A request that waits for its response.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exchange {
    /// When it should have been sent, nanoseconds since the start of the run. Latency counts from here.
    pub(super) intended: u64,
    /// When it was sent.
    pub(super) sent: u64,
    /// What was sent.
    pub(super) planned: Planned,
}

/// A connection, idle or with one request under way.
#[derive(Debug)]
pub(super) struct Connection {
    /// Number that distinguishes the connection from earlier ones in the same slot.
    pub(super) serial: u64,
    /// The request under way.
    pub(super) exchange: Option<Exchange>,
    /// Bytes of the response received so far.
    pub(super) input: Vec<u8>,
    /// Kinds and intended times of requests that were not sent while this one was the last that was.
    pub(super) unsent: Vec<(usize, u64)>,
    /// Index of the address that it goes to.
    pub(super) address: usize,
    /// Addresses tried so far.
    pub(super) attempts: usize,
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    connected: bool,
    output: Vec<u8>,
    written: usize,
}

/// Whether the server has closed a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ConnectionState {
    Open,
    Closed,
}

impl Connection {
    /// Starts to connect to `address`, which has the number `index`.
    pub(super) fn open(
        (index, address): (usize, SocketAddr),
        tls: Option<&Tls>,
        registry: &Registry,
        token: Token,
        serial: u64,
    ) -> io::Result<Self> {
        let (socket, tls) = connect(address, tls, registry, token)?;
        Ok(Self {
            serial,
            exchange: None,
            input: Vec::new(),
            unsent: Vec::new(),
            address: index,
            attempts: 1,
            socket,
            tls,
            connected: false,
            output: Vec::new(),
            written: 0,
        })
    }

    /// Starts to connect to another address instead. The request that waits stays.
    pub(super) fn reopen(
        &mut self,
        (index, address): (usize, SocketAddr),
        tls: Option<&Tls>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        self.deregister(registry);
        self.attempts += 1;
        self.address = index;
        (self.socket, self.tls) = connect(address, tls, registry, token)?;
        (self.connected, self.written) = (false, 0);
        self.input.clear();
        Ok(())
    }

    /// Whether the connection is established, TLS included, as far as is known.
    pub(super) fn is_established(&self) -> bool {
        self.connected && !self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Whether TCP has connected.
    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// The empty buffer to which the next request is written.
    pub(super) fn request_buffer(&mut self) -> &mut Vec<u8> {
        self.output.clear();
        self.written = 0;
        &mut self.output
    }

    /// Whether the connection is established by now. An error says why it never will be.
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

    /// Writes as much of the request as the socket takes now.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if !self.connected {
            return Ok(());
        }
        if let Some(tls) = &mut self.tls {
            return flush_tls(tls, &mut self.socket, &self.output, &mut self.written);
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

    /// Reads the available bytes into `input`, by way of `scratch`. With `to_the_end`, reads until the
    /// end of the connection, which the server has closed: no further event will report it.
    pub(super) fn receive(
        &mut self,
        scratch: &mut [u8],
        to_the_end: bool,
    ) -> io::Result<ConnectionState> {
        match &mut self.tls {
            None => receive(&mut self.socket, scratch, &mut self.input, to_the_end),
            Some(tls) => {
                let state = receive_tls(tls, &mut self.socket, scratch, &mut self.input)?;
                // A handshake has to reply.
                self.flush()?;
                Ok(state)
            }
        }
    }

    /// Deregisters the socket before it is closed.
    pub(super) fn deregister(&mut self, registry: &Registry) {
        // Closing would be enough; mio asks for this call.
        let _ = registry.deregister(&mut self.socket);
    }
}

fn connect(
    address: SocketAddr,
    tls: Option<&Tls>,
    registry: &Registry,
    token: Token,
) -> io::Result<(TcpStream, Option<Box<ClientConnection>>)> {
    let tls = match tls {
        Some(tls) => {
            let config = Arc::clone(&tls.config);
            let connection = ClientConnection::new(config, tls.server_name.clone());
            Some(Box::new(connection.map_err(io::Error::other)?))
        }
        None => None,
    };
    let mut socket = TcpStream::connect(address)?;
    // A request is one small segment, which must not wait for an acknowledgement.
    socket.set_nodelay(true)?;
    registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
    Ok((socket, tls))
}

/// Encrypts and writes as much of `output` as is possible now. rustls takes up to 64 KiB before the
/// handshake is over, and the rest once it has written these.
fn flush_tls(
    tls: &mut ClientConnection,
    socket: &mut TcpStream,
    output: &[u8],
    written: &mut usize,
) -> io::Result<()> {
    loop {
        if *written < output.len() {
            *written += tls.writer().write(&output[*written..])?;
        }
        if !tls.wants_write() {
            // The rest, if there is any, waits for the server's part of the handshake.
            return Ok(());
        }
        match tls.write_tls(socket) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            written => {
                written?;
            }
        }
    }
}

/// Reads until nothing is left. A read that does not fill the buffer has taken all available bytes, but
/// may have left the end of the stream.
fn receive(
    from: &mut impl Read,
    scratch: &mut [u8],
    into: &mut Vec<u8>,
    to_the_end: bool,
) -> io::Result<ConnectionState> {
    loop {
        match from.read(scratch) {
            Ok(0) => return Ok(ConnectionState::Closed),
            Ok(bytes) => {
                into.extend_from_slice(&scratch[..bytes]);
                if bytes < scratch.len() && !to_the_end {
                    return Ok(ConnectionState::Open);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(ConnectionState::Open);
            }
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
) -> io::Result<ConnectionState> {
    loop {
        let is_closed = match tls.read_tls(socket) {
            Ok(bytes) => bytes == 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(ConnectionState::Open);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        tls.process_new_packets().map_err(io::Error::other)?;
        let state = receive(&mut tls.reader(), scratch, into, true)?;
        if is_closed || state == ConnectionState::Closed {
            return Ok(ConnectionState::Closed);
        }
    }
}
