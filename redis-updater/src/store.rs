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
            match self.store_chunk(chunk).await {
                Ok(results) => outcomes.extend(outcomes_of(results)),
                Err(error) => {
                    tracing::error!(%error, updates = chunk.len(), "Redis did not take a pipeline");
                    outcomes.extend(chunk.iter().map(|_| Stored::Failed(error.to_string())));
                }
            }
        }
        outcomes
    }

    /// One pipeline. A connection that has died since the last invocation is replaced, and the
    /// pipeline sent once more: the script makes repeating it harmless.
    async fn store_chunk(&self, chunk: &[Update]) -> RedisResult<Vec<RedisResult<Value>>> {
        let pipeline = self.pipeline(chunk);
        let mut held = self.connection.lock().await;
        if let Some(connection) = held.as_mut() {
            match pipeline.query_async(connection).await {
                Ok(results) => return Ok(results),
                Err(error) => {
                    tracing::warn!(%error, "the connection to Redis is dead; connecting anew");
                    *held = None;
                }
            }
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let mut connection =
            self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let results = pipeline.query_async(&mut connection).await?;
        *held = Some(connection);
        Ok(results)
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
        pipeline.cmd("SET").arg(keys::LOADED).arg(1);
        pipeline
    }
}

/// The script's answers, and behind them the marker's. Without the marker the trackers believe
/// nothing that they do not find, so a marker that was not set fails the whole pipeline.
fn outcomes_of(mut results: Vec<RedisResult<Value>>) -> Vec<Stored> {
    let marker = results.pop();
    let outcomes = results.iter().map(|result| match (result, &marker) {
        (Err(error), _) | (_, Some(Err(error))) => Stored::Failed(error.to_string()),
        (Ok(Value::Int(0)), _) => Stored::Superseded,
        (Ok(_), _) => Stored::Stored,
    });
    outcomes.collect()
}
