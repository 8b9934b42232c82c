//! Finds free ports on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;

use tokio::net::TcpListener;

use crate::StackError;

/// Number of ports to try.
const ATTEMPTS: u16 = 100;
/// Range of [`Port::Any`], below the range of ephemeral ports. In that range, a client that keeps
/// reconnecting to a stopped server can be given the server's own port, connect to itself, and keep the
/// server from starting again.
const ANY: Range<u16> = 10_000..30_000;

/// The port that a part should use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Any free port.
    Any,
    /// This port, or the next free one above it.
    From(u16),
}

/// Binds a listener on loopback. `part` is the name in errors.
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

/// Finds a free address for a child process to bind. Another process may bind it first; the caller then
/// has to try again.
pub async fn free(part: &'static str, port: Port) -> Result<SocketAddr, StackError> {
    let listener = listen(part, port).await?;
    listener.local_addr().map_err(|error| StackError::Provisioning(format!("{part}: {error}")))
}
