//! Ports on loopback.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

use crate::StackError;

/// How many ports are tried from a default on.
const ATTEMPTS: u16 = 100;

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
    let (from, to) = match port {
        Port::Any => (0, 0),
        Port::From(from) => (from, from.saturating_add(ATTEMPTS)),
    };
    for candidate in from..=to {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, candidate)).await {
            return Ok(listener);
        }
    }
    Err(StackError::NoPort { part, from, to })
}

/// An address that was free a moment ago, for a child process to bind.
pub async fn free(part: &'static str, port: Port) -> Result<SocketAddr, StackError> {
    let listener = listen(part, port).await?;
    listener.local_addr().map_err(|error| StackError::Provisioning(format!("{part}: {error}")))
}
