//! The data connection to Redis: made, watched and made again by a task of its own, so that no
//! request ever waits for a connection.

use std::sync::Arc;
use std::time::Duration;

use adtrack_proto::keys;
use adtrack_runtime::backoff::Backoff;
use adtrack_runtime::log_sampling::LogSampling;
use adtrack_runtime::redis_access::{Identity, RedisAccess, RedisConnection, RedisTimeouts};
use redis::{RedisResult, Value};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::flag::Flag;
use crate::metrics::Metrics;

/// For every answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);
/// For connecting, and for every answer: all in memory, and near.
pub const TIMEOUTS: RedisTimeouts = RedisTimeouts { connect: TIMEOUT, response: TIMEOUT };
/// Between two probes.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Probes between two looks whether Redis' name leads to another server by now: an old primary that
/// was cut off keeps its connections.
const PROBES_PER_LOOK: u32 = 5;
/// Redis is back within 2 s of its return, however long it was away.
pub(super) const RECONNECT: Backoff =
    Backoff { base: Duration::from_millis(50), ceiling: Duration::from_secs(1) };

/// A long outage is a log line per minute, not per second.
pub(super) const RECONNECT_LOG: LogSampling = LogSampling { first: 1, every: 60 };

/// The connection, while it stands. Without one a read fails at once.
#[derive(Debug, Clone)]
pub struct RedisLink {
    connection: watch::Receiver<Option<RedisConnection>>,
    was_connected: Flag,
    loaded: Flag,
    doubt: Arc<Notify>,
}

/// The task that keeps the link.
#[derive(Debug)]
pub struct LinkKeeper {
    access: RedisAccess,
    connection: watch::Sender<Option<RedisConnection>>,
    was_connected: Flag,
    loaded: Flag,
    doubt: Arc<Notify>,
    metrics: Arc<Metrics>,
}

impl RedisLink {
    /// The link to Redis, and the task that keeps it.
    pub fn new(access: RedisAccess, metrics: Arc<Metrics>) -> (Self, LinkKeeper) {
        let (sender, receiver) = watch::channel(None);
        let link = Self {
            connection: receiver,
            was_connected: Flag::default(),
            loaded: Flag::default(),
            doubt: Arc::new(Notify::new()),
        };
        let keeper = LinkKeeper {
            access,
            connection: sender,
            was_connected: link.was_connected.clone(),
            loaded: link.loaded.clone(),
            doubt: Arc::clone(&link.doubt),
            metrics,
        };
        (link, keeper)
    }

    /// The connection; none while Redis is away.
    pub fn connection(&self) -> Option<RedisConnection> {
        self.connection.borrow().clone()
    }

    /// Whether Redis is there.
    pub fn is_connected(&self) -> bool {
        self.connection.borrow().is_some()
    }

    /// Whether Redis, when it was last asked, held core data.
    pub fn is_loaded(&self) -> bool {
        self.loaded.is_set()
    }

    /// Whether core data could ever be read.
    pub fn was_connected(&self) -> bool {
        self.was_connected.is_set()
    }

    /// Waits until Redis is there. Never returns where the keeper has ended.
    pub async fn connected(&mut self) {
        if self.connection.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the connection was lost and made again: it may lead to another server.
    pub async fn replaced(&mut self) {
        self.connected().await;
        if self.connection.wait_for(Option::is_none).await.is_err() {
            std::future::pending::<()>().await;
        }
        self.connected().await;
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
                    if RECONNECT_LOG.includes(failures) {
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

    async fn connect(&self) -> RedisResult<RedisConnection> {
        let connection = self.access.connect().await?;
        self.probe(&connection).await?;
        Ok(connection)
    }

    /// Returns when the connection is dead, or leads to the wrong server.
    async fn watch(&self, connection: RedisConnection) {
        // Where Redis does not tell, it is believed.
        let identity = connection.identity().await.ok().flatten();
        for probes in 1_u32.. {
            tokio::select! {
                () = tokio::time::sleep(PING_INTERVAL) => {}
                () = self.doubt.notified() => {}
            }
            if let Err(error) = self.probe(&connection).await {
                tracing::warn!(%error, "the connection to Redis is lost");
                return;
            }
            if let Some(held) = &identity
                && self.has_moved(held, &connection, probes).await
            {
                tracing::warn!("Redis has another primary; connecting to it");
                return;
            }
        }
    }

    /// Whether the connected server is no longer the primary that it was, or the primary is another.
    async fn has_moved(&self, held: &Identity, connection: &RedisConnection, probes: u32) -> bool {
        let now = connection.identity().await.ok().flatten();
        if held.primary && now.is_some_and(|now| !now.primary) {
            return true;
        }
        if !probes.is_multiple_of(PROBES_PER_LOOK) {
            return false;
        }
        let named = async { self.access.connect().await?.identity().await };
        let named = named.await.ok().flatten();
        named.is_some_and(|named| named.primary && named.run_id != held.run_id)
    }

    fn announce(&self, connection: Option<RedisConnection>) {
        self.metrics.programs.redis_connected.set(i64::from(connection.is_some()));
        if connection.is_some() {
            self.was_connected.set(true);
        }
        self.connection.send_replace(connection);
    }

    /// Reads as a request would: a user who may connect and not read is no connection.
    async fn probe(&self, connection: &RedisConnection) -> RedisResult<()> {
        let (mut read, mut loaded) = (redis::cmd("HMGET"), redis::cmd("EXISTS"));
        read.arg(keys::PROBE).arg("version");
        loaded.arg(keys::LOADED);
        let answers: RedisResult<Vec<Value>> =
            connection.query_each(vec![read, loaded]).await?.into_iter().collect();
        let loaded = answers?.last().is_some_and(|loaded| *loaded != Value::Int(0));
        self.loaded.set(loaded);
        Ok(())
    }
}
