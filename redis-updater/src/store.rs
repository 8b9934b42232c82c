//! Redis: where programs are stored and updates published.

use std::time::Duration;

use adtrack_proto::keys;
use adtrack_proto::program::Update;
use adtrack_runtime::redis_access::{RedisAccess, RedisConnection, RedisTimeouts};
use redis::RedisResult;
use tokio::sync::Mutex;

/// Updates per round trip. At about 1 KB each, half a megabyte.
const UPDATES_PER_PIPELINE: usize = 500;
/// For a whole pipeline to be answered.
pub const TIMEOUTS: RedisTimeouts =
    RedisTimeouts { connect: Duration::from_secs(2), answer: Duration::from_secs(5) };
/// For a replica to confirm what was written.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(1);

/// Redis, over one connection that lives as long as the function's sandbox.
pub struct ProgramStore {
    access: RedisAccess,
    connection: Mutex<Option<RedisConnection>>,
}

/// What became of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// It is in Redis, on a replica where there is one, and published.
    Stored,
    /// Redis holds a newer version: nothing to do.
    Superseded,
    /// Redis did not take it: a retry may mend that.
    Failed(String),
}

impl ProgramStore {
    /// Redis by `access`; connects when it is first needed.
    pub fn new(access: RedisAccess) -> Self {
        Self { access, connection: Mutex::new(None) }
    }

    /// Stores and publishes `updates`. The answer has one entry for each, in their order.
    ///
    /// A connection that has died since the last invocation is replaced, and what it did not take
    /// sent once more: the versions make repeating it harmless.
    pub async fn store(&self, updates: &[Update]) -> Vec<Stored> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = held.take() {
            let outcomes = self.store_by(&connection, updates).await;
            if is_well(&outcomes) {
                *held = Some(connection);
                return outcomes;
            }
            // Its server may be gone, or a primary that became a replica.
            tracing::warn!("Redis failed on a connection from before; connecting anew");
        }
        let connection = match self.access.connect().await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::error!(%error, updates = updates.len(), "Redis cannot be reached");
                return vec![Stored::Failed(error.to_string()); updates.len()];
            }
        };
        let outcomes = self.store_by(&connection, updates).await;
        if is_well(&outcomes) {
            *held = Some(connection);
        }
        outcomes
    }

    async fn store_by(&self, connection: &RedisConnection, updates: &[Update]) -> Vec<Stored> {
        let mut outcomes = Vec::with_capacity(updates.len());
        for chunk in updates.chunks(UPDATES_PER_PIPELINE) {
            let answers = connection.store(chunk, self.access.channel()).await;
            outcomes.extend(outcomes_of(answers, chunk.len()));
        }
        if outcomes.iter().all(|outcome| matches!(outcome, Stored::Failed(_))) {
            return outcomes;
        }
        // Only what holds core data may say so; without the mark trackers believe no absence.
        let mark = async {
            connection.mark_loaded().await.map_err(|error| format!("{}: {error}", keys::LOADED))
        };
        // A failover to a replica that lacks it would lose what was reported as stored.
        let replicas = async {
            connection.wait_for_replicas(REPLICA_TIMEOUT).await.map_err(|error| error.to_string())
        };
        // Both in one round trip, where there is no replica to wait for.
        let confirmed = async { tokio::try_join!(mark, replicas) };
        if let Err(error) = confirmed.await {
            tracing::error!(error, updates = updates.len(), "a batch is not safe in Redis");
            outcomes.fill(Stored::Failed(error));
        }
        outcomes
    }
}

fn is_well(outcomes: &[Stored]) -> bool {
    !outcomes.iter().any(|outcome| matches!(outcome, Stored::Failed(_)))
}

/// What became of `count` updates, by the answers to their pipeline.
fn outcomes_of(answers: RedisResult<Vec<RedisResult<bool>>>, count: usize) -> Vec<Stored> {
    match answers {
        Ok(answers) if answers.len() == count => answers
            .into_iter()
            .map(|answer| match answer {
                Ok(true) => Stored::Stored,
                Ok(false) => Stored::Superseded,
                Err(error) => Stored::Failed(error.to_string()),
            })
            .collect(),
        Ok(answers) => {
            let error = format!("Redis gave {} answers to {count} commands", answers.len());
            vec![Stored::Failed(error); count]
        }
        Err(error) => {
            tracing::error!(%error, updates = count, "Redis did not take a pipeline");
            vec![Stored::Failed(error.to_string()); count]
        }
    }
}
