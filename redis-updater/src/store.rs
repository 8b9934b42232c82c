//! Stores programs in Redis and publishes updates.

use std::time::Duration;

use adtrack_proto::keys;
use adtrack_proto::program::Update;
use adtrack_runtime::redis_access::{RedisAccess, RedisConnection, RedisTimeouts};
use redis::RedisResult;
use tokio::sync::Mutex;

/// Updates per round trip. At about 1 KB each, half a megabyte.
const UPDATES_PER_PIPELINE: usize = 500;
/// Timeouts of calls. `response` is for a whole pipeline.
pub const TIMEOUTS: RedisTimeouts =
    RedisTimeouts { connect: Duration::from_secs(2), response: Duration::from_secs(5) };
/// How long a replica may take to confirm a write.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(1);

/// Redis, through one connection that is kept as long as the function's sandbox lives.
pub struct ProgramStore {
    access: RedisAccess,
    connection: Mutex<Option<RedisConnection>>,
}

/// The outcome of storing an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreOutcome {
    /// Redis and, if there is one, a replica have it, and it is published.
    Stored,
    /// Redis holds a newer version, so there is nothing to do.
    Superseded,
    /// Redis did not take it; a retry may succeed.
    Failed(String),
}

impl ProgramStore {
    /// Connects by `access` on first use.
    pub fn new(access: RedisAccess) -> Self {
        Self { access, connection: Mutex::new(None) }
    }

    /// Stores and publishes `updates`. Returns an outcome for each, in their order.
    ///
    /// If the connection of the last invocation fails, connects again and sends all updates once more;
    /// their versions make that harmless.
    pub async fn store(&self, updates: &[Update]) -> Vec<StoreOutcome> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = held.take() {
            let outcomes = self.store_through(&connection, updates).await;
            if have_succeeded(&outcomes) {
                *held = Some(connection);
                return outcomes;
            }
            // Its server may be gone, or may be a primary that became a replica.
            tracing::warn!("Redis failed on an earlier invocation's connection; connecting again");
        }
        let connection = match self.access.connect().await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::error!(%error, updates = updates.len(), "Redis cannot be reached");
                return vec![StoreOutcome::Failed(error.to_string()); updates.len()];
            }
        };
        let outcomes = self.store_through(&connection, updates).await;
        if have_succeeded(&outcomes) {
            *held = Some(connection);
        }
        outcomes
    }

    async fn store_through(
        &self,
        connection: &RedisConnection,
        updates: &[Update],
    ) -> Vec<StoreOutcome> {
        let mut outcomes = Vec::with_capacity(updates.len());
        for chunk in updates.chunks(UPDATES_PER_PIPELINE) {
            let responses = connection.store(chunk, self.access.channel()).await;
            outcomes.extend(outcomes_of(responses, chunk.len()));
        }
        if outcomes.iter().all(|outcome| matches!(outcome, StoreOutcome::Failed(_))) {
            return outcomes;
        }
        // Sets the mark only after updates are stored. While it is missing, trackers never report a program
        // as unknown.
        let mark = async {
            connection.mark_loaded().await.map_err(|error| format!("{}: {error}", keys::LOADED))
        };
        // A failover to a replica that lacks the updates would lose what was reported as stored.
        let replicas = async {
            connection.wait_for_replicas(REPLICA_TIMEOUT).await.map_err(|error| error.to_string())
        };
        // Concurrently, which is one round trip if there is no replica to wait for.
        let confirmed = async { tokio::try_join!(mark, replicas) };
        if let Err(error) = confirmed.await {
            tracing::error!(error, updates = updates.len(), "a batch is not safe in Redis");
            outcomes.fill(StoreOutcome::Failed(error));
        }
        outcomes
    }
}

fn have_succeeded(outcomes: &[StoreOutcome]) -> bool {
    !outcomes.iter().any(|outcome| matches!(outcome, StoreOutcome::Failed(_)))
}

/// The outcomes of `count` updates, from the responses to their pipeline.
fn outcomes_of(responses: RedisResult<Vec<RedisResult<bool>>>, count: usize) -> Vec<StoreOutcome> {
    match responses {
        Ok(responses) if responses.len() == count => responses
            .into_iter()
            .map(|response| match response {
                Ok(true) => StoreOutcome::Stored,
                Ok(false) => StoreOutcome::Superseded,
                Err(error) => StoreOutcome::Failed(error.to_string()),
            })
            .collect(),
        Ok(responses) => {
            let error = format!("Redis gave {} responses to {count} commands", responses.len());
            vec![StoreOutcome::Failed(error); count]
        }
        Err(error) => {
            tracing::error!(%error, updates = count, "Redis did not take a pipeline");
            vec![StoreOutcome::Failed(error.to_string()); count]
        }
    }
}
