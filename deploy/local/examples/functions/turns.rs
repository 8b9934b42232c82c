//! A proxy that counts round trips. Everything that a client sends before it waits for a response is one
//! round trip.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Error;

/// Silence after which a side is done sending. Much longer than a process that shares its core needs
/// between two writes.
const SILENCE: Duration = Duration::from_millis(100);

/// The proxy. It forwards what one side sent only when that side is silent, so that turns do not overlap.
pub struct TurnCounter {
    pub address: SocketAddr,
    turns: Arc<AtomicU64>,
    server: tokio::task::JoinHandle<()>,
}

impl TurnCounter {
    pub async fn start(upstream: SocketAddr) -> Result<Self, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let turns = Arc::<AtomicU64>::default();
        let count = Arc::clone(&turns);
        let server = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                // Ends when either side closes the connection.
                tokio::spawn(async move { forward_turns(client, upstream, &count).await });
            }
        });
        Ok(Self { address, turns, server })
    }

    /// Round trips so far.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }
}

impl Drop for TurnCounter {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn forward_turns(
    mut client: TcpStream,
    upstream: SocketAddr,
    turns: &AtomicU64,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    loop {
        let request = read_until_silent(&mut client).await?;
        turns.fetch_add(1, Ordering::Relaxed);
        server.write_all(&request).await?;
        let response = read_until_silent(&mut server).await?;
        client.write_all(&response).await?;
    }
}

/// Waits until a side starts to send, and reads until it is silent.
async fn read_until_silent(side: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut sent = Vec::new();
    side.readable().await?;
    while let Ok(read) = tokio::time::timeout(SILENCE, side.read_buf(&mut sent)).await {
        if read? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(sent)
}
