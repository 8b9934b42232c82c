//! A TCP proxy that can stop forwarding, like a network that loses packets: it then closes no connection, and
//! forwards what it held back once it may. It can also cut all connections.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::StackError;
use crate::ports::{self, Port};

/// What a proxy forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// All bytes.
    All,
    /// Only bytes from clients to the server.
    Requests,
    /// No bytes.
    Nothing,
}

/// The proxy, stopped with its connections on drop.
#[derive(Debug)]
pub struct TcpProxy {
    /// Address for clients.
    pub address: SocketAddr,
    passing: watch::Sender<Passing>,
    upstream: watch::Sender<SocketAddr>,
    cuts: watch::Sender<()>,
    server: JoinHandle<()>,
}

impl TcpProxy {
    /// Starts a proxy to `upstream` that forwards everything.
    pub async fn start(upstream: SocketAddr) -> Result<Self, StackError> {
        let listener = ports::listen("a TCP proxy", Port::Any).await?;
        let address = listener
            .local_addr()
            .map_err(|error| StackError::Provisioning(format!("a TCP proxy: {error}")))?;
        let (passing, passes) = watch::channel(Passing::All);
        let (upstream, current_upstream) = watch::channel(upstream);
        let (cuts, cut) = watch::channel(());
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let upstream = *current_upstream.borrow();
                connections.spawn(connect(client, upstream, passes.clone(), cut.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, passing, upstream, cuts, server })
    }

    /// Sets what is forwarded from now on.
    pub fn set(&self, passing: Passing) {
        self.passing.send_replace(passing);
    }

    /// Closes all connections. New ones are accepted.
    pub fn cut(&self) {
        self.cuts.send_replace(());
    }

    /// Sets the server of new connections. Existing connections keep theirs.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        self.upstream.send_replace(upstream);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn connect(
    client: TcpStream,
    upstream: SocketAddr,
    passes: watch::Receiver<Passing>,
    mut cuts: watch::Receiver<()>,
) {
    cuts.mark_unchanged();
    let Ok(upstream) = TcpStream::connect(upstream).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_upstream, to_upstream) = upstream.into_split();
    // If one side closes the connection, the other side is closed too.
    tokio::select! {
        () = pump(from_client, to_upstream, passes.clone(), Passing::Requests) => {}
        () = pump(from_upstream, to_client, passes, Passing::All) => {}
        _ = cuts.changed() => {}
    }
}

/// Forwards bytes in one direction while the proxy forwards everything or `at_least`.
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
