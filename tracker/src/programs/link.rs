//! The data connection to Redis. A task of its own makes, watches and replaces it, so that no request ever
//! waits for a connection.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adtrack_proto::keys;
use adtrack_runtime::backoff::Backoff;
use adtrack_runtime::log_sampling::LogSampling;
use adtrack_runtime::redis_access::{
    CoreDataState, Identity, RedisAccess, RedisConnection, RedisTimeouts, mark_command, mark_of,
};
use redis::{RedisResult, Value};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::flag::Flag;
use crate::metrics::Metrics;

/// The longest wait for a reply.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);
/// The longest waits for a connection and for a reply. Short, because Redis is in memory and near.
pub const TIMEOUTS: RedisTimeouts = RedisTimeouts { connect: TIMEOUT, response: TIMEOUT };
/// Time between two probes of the data connection, and between two pings of the subscription.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Every fifth probe resolves Redis's name again, because an old primary that is cut off from the cluster
/// keeps its connections.
const PROBES_PER_PRIMARY_CHECK: u32 = 5;
/// However long Redis was unavailable, the tracker reconnects within 2 s of its return.
pub(super) const RECONNECT: Backoff =
    Backoff { base: Duration::from_millis(50), ceiling: Duration::from_secs(1) };

/// Logs a long outage once per minute, not once per second.
pub(super) const RECONNECT_LOG: LogSampling = LogSampling { first: 1, every: 60 };

/// A handle to the connection. While there is none, reads fail at once.
#[derive(Debug, Clone)]
pub struct RedisLink {
    connection: watch::Receiver<Option<RedisConnection>>,
    was_connected: Flag,
    loaded: watch::Receiver<bool>,
    probe_request: Arc<Notify>,
}

/// The task that keeps the connection.
#[derive(Debug)]
pub struct LinkKeeper {
    access: RedisAccess,
    connection: watch::Sender<Option<RedisConnection>>,
    was_connected: Flag,
    loaded: watch::Sender<bool>,
    /// The last state of core data that a probe found, to log changes only.
    state: Mutex<Option<CoreDataState>>,
    /// Probes in a row that did not find it.
    failed_counts: AtomicU32,
    probe_request: Arc<Notify>,
    metrics: Arc<Metrics>,
}

impl RedisLink {
    /// A link to Redis, and the task that keeps its connection.
    pub fn new(access: RedisAccess, metrics: Arc<Metrics>) -> (Self, LinkKeeper) {
        let (sender, receiver) = watch::channel(None);
        let (loaded_sender, loaded) = watch::channel(false);
        let link = Self {
            connection: receiver,
            was_connected: Flag::default(),
            loaded,
            probe_request: Arc::new(Notify::new()),
        };
        let keeper = LinkKeeper {
            access,
            connection: sender,
            was_connected: link.was_connected.clone(),
            loaded: loaded_sender,
            state: Mutex::default(),
            failed_counts: AtomicU32::new(0),
            probe_request: Arc::clone(&link.probe_request),
            metrics,
        };
        (link, keeper)
    }

    /// The connection; none while Redis is unavailable.
    pub fn connection(&self) -> Option<RedisConnection> {
        self.connection.borrow().clone()
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.connection.borrow().is_some()
    }

    /// Whether Redis held the core data that it should when it was last probed.
    pub fn is_loaded(&self) -> bool {
        *self.loaded.borrow()
    }

    /// Whether there has ever been a connection.
    pub fn was_connected(&self) -> bool {
        self.was_connected.is_set()
    }

    /// Waits until there is a connection. Never returns if the keeper has ended.
    pub async fn wait_until_connected(&mut self) {
        if self.connection.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the connection has been lost and replaced. The new one may lead to another server.
    pub async fn wait_for_replacement(&mut self) {
        self.wait_until_connected().await;
        if self.connection.wait_for(Option::is_none).await.is_err() {
            std::future::pending::<()>().await;
        }
        self.wait_until_connected().await;
    }

    /// Waits until Redis, having held the core data that it should, no longer does.
    pub async fn wait_for_loss(&mut self) {
        for state in [true, false] {
            if self.loaded.wait_for(|loaded| *loaded == state).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Asks the keeper to probe at once, because a command timed out or the connection failed.
    pub fn request_probe(&self) {
        self.probe_request.notify_one();
    }
}

impl LinkKeeper {
    /// Connects, probes and reconnects until `stop`.
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

    /// Returns when the connection is dead or leads to the wrong server.
    async fn watch(&self, connection: RedisConnection) {
        // If Redis does not reveal its identity, the connection counts as right.
        let identity = connection.identity().await.ok().flatten();
        for probes in 1_u32.. {
            tokio::select! {
                () = tokio::time::sleep(PING_INTERVAL) => {}
                () = self.probe_request.notified() => {}
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

    /// Whether the connected server is no longer the primary, or another server has become it.
    async fn has_moved(&self, held: &Identity, connection: &RedisConnection, probes: u32) -> bool {
        let now = connection.identity().await.ok().flatten();
        if held.primary && now.is_some_and(|now| !now.primary) {
            return true;
        }
        if !probes.is_multiple_of(PROBES_PER_PRIMARY_CHECK) {
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

    /// Reads as a request does: a user that may connect but not read counts as no connection.
    async fn probe(&self, connection: &RedisConnection) -> RedisResult<()> {
        let mut read = redis::cmd("HMGET");
        read.arg(keys::PROBE).arg("version");
        let mut replies = connection.query_each(vec![read, mark_command()]).await?;
        let mark = mark_of(replies.pop().unwrap_or(Ok(Value::Nil)))?;
        replies.into_iter().collect::<RedisResult<Vec<Value>>>()?;
        match connection.core_data_state(mark).await {
            Ok(state) => {
                self.failed_counts.store(0, Ordering::Relaxed);
                self.announce_state(state);
            }
            // In a cluster it takes all nodes to count the programs, but only one to read a program.
            Err(error) => {
                let failures = self.failed_counts.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if RECONNECT_LOG.includes(failures) {
                    tracing::warn!(%error, failures, "the programs in Redis cannot be counted; what was known of them stays");
                }
            }
        }
        Ok(())
    }

    fn announce_state(&self, state: CoreDataState) {
        let is_loaded = state == CoreDataState::Loaded;
        self.loaded.send_replace(is_loaded);
        self.metrics.programs.core_data_loaded.set(i64::from(is_loaded));
        let kind = |state| std::mem::discriminant(&state);
        let before = self.state.lock().unwrap_or_else(PoisonError::into_inner).replace(state);
        if before.map(kind) == Some(kind(state)) {
            return;
        }
        match state {
            CoreDataState::Loaded => tracing::info!("Redis holds core data"),
            CoreDataState::Unmarked => tracing::error!(
                key = keys::LOADED,
                "the mark of loaded core data is missing: Redis is new or was emptied, so unknown programs \
                 get 503. Publish all core data and run core-data mark-loaded"
            ),
            CoreDataState::InvalidMark => tracing::error!(
                key = keys::LOADED,
                "the mark of loaded core data is not a number of programs, so unknown programs get 503. Run \
                 core-data mark-loaded, and find out what else writes to Redis"
            ),
            CoreDataState::Depleted { expected, held } => tracing::error!(
                key = keys::LOADED,
                expected,
                held,
                "Redis holds far fewer programs than its mark says, so unknown programs get 503. Publish \
                 all core data"
            ),
        }
    }
}
