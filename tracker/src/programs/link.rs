//! The data connection to Redis: made, watched and made again by a task of its own, so that no
//! request ever waits for a connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adtrack_proto::keys;
use adtrack_runtime::backoff::Backoff;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// For connecting, and for every answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);
/// Between two probes.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Redis is back within 2 s of its return, however long it was away.
pub(super) const RECONNECT: Backoff =
    Backoff { base: Duration::from_millis(50), ceiling: Duration::from_secs(1) };

/// The connection, while it stands. Without one a read fails at once.
#[derive(Debug, Clone)]
pub struct RedisLink {
    connection: watch::Receiver<Option<MultiplexedConnection>>,
    was_connected: Arc<AtomicBool>,
    loaded: Arc<AtomicBool>,
    doubt: Arc<Notify>,
}

/// The task that keeps the link.
#[derive(Debug)]
pub struct LinkKeeper {
    client: Client,
    connection: watch::Sender<Option<MultiplexedConnection>>,
    was_connected: Arc<AtomicBool>,
    loaded: Arc<AtomicBool>,
    doubt: Arc<Notify>,
    metrics: Arc<Metrics>,
}

impl RedisLink {
    /// The link to `client`'s Redis, and the task that keeps it.
    pub fn new(client: Client, metrics: Arc<Metrics>) -> (Self, LinkKeeper) {
        let (sender, receiver) = watch::channel(None);
        let link = Self {
            connection: receiver,
            was_connected: Arc::default(),
            loaded: Arc::default(),
            doubt: Arc::new(Notify::new()),
        };
        let keeper = LinkKeeper {
            client,
            connection: sender,
            was_connected: Arc::clone(&link.was_connected),
            loaded: Arc::clone(&link.loaded),
            doubt: Arc::clone(&link.doubt),
            metrics,
        };
        (link, keeper)
    }

    /// The connection; none while Redis is away.
    pub fn connection(&self) -> Option<MultiplexedConnection> {
        self.connection.borrow().clone()
    }

    /// Whether Redis is there.
    pub fn is_connected(&self) -> bool {
        self.connection.borrow().is_some()
    }

    /// Whether Redis, when it was last asked, held core data.
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Relaxed)
    }

    /// Whether core data could ever be read.
    pub fn was_connected(&self) -> bool {
        self.was_connected.load(Ordering::Relaxed)
    }

    /// Waits until Redis is there. Never returns where the keeper has ended.
    pub async fn connected(&mut self) {
        if self.connection.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Has the keeper look at once: an answer did not come, or was an error of the connection.
    pub fn doubt(&self) {
        self.doubt.notify_one();
    }
}

impl LinkKeeper {
    /// Connects, probes, and connects anew, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut failures = 0;
        while !stop.is_cancelled() {
            match self.connect().await {
                Ok(connection) => {
                    failures = 0;
                    tracing::info!("connected to Redis");
                    self.announce(Some(connection.clone()));
                    tokio::select! {
                        () = self.watch(connection) => {}
                        () = stop.cancelled() => {}
                    }
                    self.announce(None);
                }
                Err(error) => {
                    failures += 1;
                    // A long outage is not a log line a second.
                    if failures == 1 || failures % 60 == 0 {
                        tracing::warn!(%error, failures, "Redis cannot be reached");
                    }
                    let pause = RECONNECT.delay(failures);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        }
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        let mut connection =
            self.client.get_multiplexed_async_connection_with_config(&config).await?;
        self.probe(&mut connection).await?;
        Ok(connection)
    }

    /// Returns when the connection is dead.
    async fn watch(&self, mut connection: MultiplexedConnection) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(PING_INTERVAL) => {}
                () = self.doubt.notified() => {}
            }
            if let Err(error) = self.probe(&mut connection).await {
                tracing::warn!(%error, "the connection to Redis is lost");
                return;
            }
        }
    }

    fn announce(&self, connection: Option<MultiplexedConnection>) {
        self.metrics.redis_connected.set(i64::from(connection.is_some()));
        self.was_connected.fetch_or(connection.is_some(), Ordering::Relaxed);
        self.connection.send_replace(connection);
    }

    /// Reads as a request would: a user who may connect and not read is no connection.
    async fn probe(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let mut pipeline = redis::pipe();
        pipeline.exists(keys::LOADED).hgetall(keys::PROBE);
        let (loaded, _): (bool, HashMap<String, String>) = pipeline.query_async(connection).await?;
        self.loaded.store(loaded, Ordering::Relaxed);
        Ok(())
    }
}
