//! Ports on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;

use tokio::net::TcpListener;

use crate::StackError;

/// How many ports are tried.
const ATTEMPTS: u16 = 100;
/// Where [`Port::Any`] is taken from. Below the range from which the system takes the ports of
/// outgoing connections: in it, a client that keeps connecting to a server that is away can be
/// given the server's own port, connect to itself, and keep the server from coming back.
const ANY: Range<u16> = 10_000..30_000;

/// Which port a part is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Any free one.
    Any,
    /// This one, or the next free one above it.
    From(u16),
}

/// A listener on loopback.
pub async fn listen(part: &'static str, port: Port) -> Result<TcpListener, StackError> {
    let candidates: Vec<u16> = match port {
        Port::Any => (0..ATTEMPTS).map(|_| fastrand::u16(ANY)).collect(),
        Port::From(from) => (from..=from.saturating_add(ATTEMPTS)).collect(),
    };
    for &candidate in &candidates {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, candidate)).await {
            return Ok(listener);
        }
    }
    let from = candidates.iter().min().copied().unwrap_or_default();
    let to = candidates.iter().max().copied().unwrap_or_default();
    Err(StackError::NoPort { part, from, to })
}

/// An address that was free a moment ago, for a child process to bind. Another process may be
/// faster: whoever starts the child tries again then.
pub async fn free(part: &'static str, port: Port) -> Result<SocketAddr, StackError> {
    let listener = listen(part, port).await?;
    listener.local_addr().map_err(|error| StackError::Provisioning(format!("{part}: {error}")))
}
