//! A proxy that counts round trips: what a client sends before it waits for an answer is one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Error;

/// Silence after which a side has said what it had to say. Much longer than a process that shares
/// its core needs between two writes.
const SILENCE: Duration = Duration::from_millis(100);

/// The proxy. Passes on what one side said only when it is silent, so that turns do not overlap.
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
                // Ends with either side.
                tokio::spawn(async move { converse(client, upstream, &count).await });
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

async fn converse(
    mut client: TcpStream,
    upstream: SocketAddr,
    turns: &AtomicU64,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    loop {
        let said = all_of(&mut client).await?;
        turns.fetch_add(1, Ordering::Relaxed);
        server.write_all(&said).await?;
        let answer = all_of(&mut server).await?;
        client.write_all(&answer).await?;
    }
}

/// What a side says until it is silent; waits for it to begin.
async fn all_of(side: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut said = Vec::new();
    side.readable().await?;
    while let Ok(read) = tokio::time::timeout(SILENCE, side.read_buf(&mut said)).await {
        if read? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(said)
}
