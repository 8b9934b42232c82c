//! Redis: where programs are stored and updates published.

use std::time::Duration;

use adtrack_proto::program::Update;
use adtrack_proto::{keys, store_script};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline, RedisResult, Script, Value};
use tokio::sync::Mutex;

/// Updates per round trip. At about 1 KB each, half a megabyte.
const UPDATES_PER_PIPELINE: usize = 500;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For one pipeline.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Redis, over one connection that lives as long as the function's sandbox.
pub struct ProgramStore {
    client: Client,
    channel: String,
    script: Script,
    connection: Mutex<Option<MultiplexedConnection>>,
}

/// What became of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// It is in Redis, and published.
    Stored,
    /// Redis holds a newer version: nothing to do.
    Superseded,
    /// Redis did not take it: a retry may mend that.
    Failed(String),
}

impl ProgramStore {
    /// Redis at `url`; connects when it is first needed.
    pub fn new(url: &str, channel: String) -> RedisResult<Self> {
        Ok(Self {
            client: Client::open(url)?,
            channel,
            script: Script::new(store_script::SOURCE),
            connection: Mutex::new(None),
        })
    }

    /// Stores and publishes `updates` in their order. The answer has one entry for each.
    pub async fn store(&self, updates: &[Update]) -> Vec<Stored> {
        let mut outcomes = Vec::with_capacity(updates.len());
        for chunk in updates.chunks(UPDATES_PER_PIPELINE) {
            let results = self.query(&self.pipeline(chunk)).await;
            outcomes.extend(outcomes_of(results, chunk.len()));
        }
        // Only what holds core data may say so; without the marker trackers believe no absence.
        if outcomes.iter().any(|outcome| !matches!(outcome, Stored::Failed(_))) {
            let mut marker = redis::pipe();
            marker.ignore_errors().cmd("SET").arg(keys::LOADED).arg(1);
            if let [Stored::Failed(error)] = &*outcomes_of(self.query(&marker).await, 1) {
                let failed = Stored::Failed(format!("{}: {error}", keys::LOADED));
                outcomes.fill(failed);
            }
        }
        outcomes
    }

    /// One pipeline. A connection that has died since the last invocation is replaced, and the
    /// pipeline sent once more: the script makes repeating it harmless. A connection on which a
    /// command failed is not kept: its server may be a primary that became a replica.
    async fn query(&self, pipeline: &Pipeline) -> RedisResult<Vec<RedisResult<Value>>> {
        let mut held = self.connection.lock().await;
        if let Some(mut connection) = held.take() {
            match pipeline.query_async(&mut connection).await {
                Ok(results) => return Ok(keep_if_well(&mut held, connection, results)),
                Err(error) => {
                    tracing::warn!(%error, "the connection to Redis is dead; connecting anew");
                }
            }
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let mut connection =
            self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let results = pipeline.query_async(&mut connection).await?;
        Ok(keep_if_well(&mut held, connection, results))
    }

    /// The script is loaded in front of its calls: 2 KB a batch, and no Redis can lack it.
    fn pipeline(&self, chunk: &[Update]) -> Pipeline {
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors().cmd("SCRIPT").arg("LOAD").arg(store_script::SOURCE).ignore();
        for update in chunk {
            let call = store_script::Call::new(update, &self.channel);
            let hash = self.script.get_hash();
            pipeline.cmd("EVALSHA").arg(hash).arg(1).arg(call.key).arg(call.arguments);
        }
        pipeline
    }
}

fn keep_if_well(
    held: &mut Option<MultiplexedConnection>,
    connection: MultiplexedConnection,
    results: Vec<RedisResult<Value>>,
) -> Vec<RedisResult<Value>> {
    if results.iter().all(Result::is_ok) {
        *held = Some(connection);
    }
    results
}

/// What became of `count` updates, by the answers to their pipeline.
fn outcomes_of(results: RedisResult<Vec<RedisResult<Value>>>, count: usize) -> Vec<Stored> {
    match results {
        Ok(results) if results.len() == count => results
            .into_iter()
            .map(|result| match result {
                Ok(Value::Int(0)) => Stored::Superseded,
                Ok(_) => Stored::Stored,
                Err(error) => Stored::Failed(error.to_string()),
            })
            .collect(),
        Ok(results) => {
            let error = format!("Redis gave {} answers to {count} commands", results.len());
            vec![Stored::Failed(error); count]
        }
        Err(error) => {
            tracing::error!(%error, updates = count, "Redis did not take a pipeline");
            vec![Stored::Failed(error.to_string()); count]
        }
    }
}
