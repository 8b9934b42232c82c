//! A proxy for TCP that keeps silent on request, as a network does that loses packets: what is held
//! back arrives when it is well again, and no connection is closed.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::StackError;
use crate::ports::{self, Port};

/// What passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// Everything.
    All,
    /// What clients send, not what they are answered.
    Requests,
    /// Nothing.
    Nothing,
}

/// The proxy. Ends, with its connections, when it is dropped.
#[derive(Debug)]
pub struct TcpProxy {
    /// Where clients connect.
    pub address: SocketAddr,
    passing: watch::Sender<Passing>,
    upstream: watch::Sender<SocketAddr>,
    server: JoinHandle<()>,
}

impl TcpProxy {
    /// A proxy to `upstream` that lets everything pass.
    pub async fn start(upstream: SocketAddr) -> Result<Self, StackError> {
        let listener = ports::listen("a TCP proxy", Port::Any).await?;
        let address = listener
            .local_addr()
            .map_err(|error| StackError::Provisioning(format!("a TCP proxy: {error}")))?;
        let (passing, passes) = watch::channel(Passing::All);
        let (upstream, leads_to) = watch::channel(upstream);
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let upstream = *leads_to.borrow();
                connections.spawn(connect(client, upstream, passes.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, passing, upstream, server })
    }

    /// What passes from now on.
    pub fn set(&self, passing: Passing) {
        self.passing.send_replace(passing);
    }

    /// Where connections lead that are made from now on; those that stand stay.
    pub fn lead_to(&self, upstream: SocketAddr) {
        self.upstream.send_replace(upstream);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn connect(client: TcpStream, upstream: SocketAddr, passes: watch::Receiver<Passing>) {
    let Ok(upstream) = TcpStream::connect(upstream).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_upstream, to_upstream) = upstream.into_split();
    // A connection that one side closes is closed for the other.
    tokio::select! {
        () = pump(from_client, to_upstream, passes.clone(), Passing::Requests) => {}
        () = pump(from_upstream, to_client, passes, Passing::All) => {}
    }
}

/// Passes bytes on, those of a direction that passes where all does or `at_least` so much.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut passes: watch::Receiver<Passing>,
    at_least: Passing,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        let passing = |passing: &Passing| *passing == Passing::All || *passing == at_least;
        if passes.wait_for(passing).await.is_err() || to.write_all(&buffer[..length]).await.is_err()
        {
            return;
        }
    }
}
