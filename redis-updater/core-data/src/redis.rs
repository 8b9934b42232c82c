//! Redis for `get`, `watch`, `verify` and `mark-loaded`. No other module of the command knows Redis.

use std::time::Duration;

use adtrack_proto::ProgramId;
use adtrack_proto::program::Update;
use adtrack_runtime::redis_access::{
    CoreDataState, Mark, RedisAccess, RedisConnection, RedisTimeouts, hash_of, is_marked_command,
    is_wrong_type, within,
};
use adtrack_runtime::redis_settings::RedisSettings;
use futures::StreamExt;
use redis::aio::{PubSub, PubSubSink};
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, Value};

use super::exit::{Exit, Failure};

const TIMEOUTS: RedisTimeouts =
    RedisTimeouts { connect: Duration::from_secs(3), response: Duration::from_secs(10) };
/// The time between two pings of a subscription, which does not notice a dead link on its own.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// What Redis holds for a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredValue {
    /// Nothing.
    Nothing,
    /// A program or its tombstone.
    Update(Box<Update>),
    /// Something else, and why it is not a valid program.
    Unreadable(String),
}

/// Redis and its address.
pub struct Redis {
    access: RedisAccess,
    address: String,
}

impl Redis {
    /// Checks the settings; does not connect yet.
    pub fn new(settings: &RedisSettings) -> Result<Self, Failure> {
        let usage = |error: String| Failure::new(Exit::Usage, error);
        let urls = settings.urls().map_err(|error| usage(error.to_string()))?;
        // Without user and password, because messages end up in logs.
        let addresses = urls.iter().map(|url| {
            let host = url.host_str().unwrap_or_default();
            format!("{}://{host}:{}", url.scheme(), url.port().unwrap_or(6379))
        });
        let address = addresses.collect::<Vec<_>>().join(", ");
        let access =
            RedisAccess::new(settings, TIMEOUTS).map_err(|error| usage(error.to_string()))?;
        Ok(Self { access, address })
    }

    /// Opens a connection for reads.
    pub async fn connect(&self) -> Result<Reader<'_>, Failure> {
        let connection = self.access.connect().await.map_err(|error| self.failure(&error))?;
        Ok(Reader { redis: self, connection })
    }

    /// Subscribes to the updates.
    pub async fn subscribe(&self) -> Result<Subscription<'_>, Failure> {
        let subscription = self.access.subscribe().await.map_err(|error| self.failure(&error))?;
        Ok(Subscription { redis: self, subscription })
    }

    fn failure(&self, error: &RedisError) -> Failure {
        let address = &self.address;
        let remedy = "check REDIS_URL, and that Redis can be reached from here";
        Failure::new(Exit::Unavailable, format!("Redis at {address}: {error}; {remedy}"))
    }
}

/// A connection for reads.
pub struct Reader<'a> {
    redis: &'a Redis,
    connection: RedisConnection,
}

impl Reader<'_> {
    /// Whether Redis is marked as holding core data.
    pub async fn holds_core_data(&self) -> Result<bool, Failure> {
        let responses = self.query(vec![is_marked_command()]).await?;
        let is_marked = responses.into_iter().next().map_or(Ok(false), value);
        is_marked.map_err(|error| self.redis.failure(&error))
    }

    /// Sets the number of programs that Redis should hold.
    pub async fn mark_loaded(&self, programs: u64) -> Result<(), Failure> {
        self.connection.mark_loaded(programs).await.map_err(|error| self.redis.failure(&error))
    }

    /// How many programs Redis holds if that is far fewer than its mark says.
    pub async fn too_few_held(&self, mark: u64) -> Result<Option<u64>, Failure> {
        match self.connection.core_data_state(Mark::Programs(mark)).await {
            Ok(CoreDataState::Depleted { held, .. }) => Ok(Some(held)),
            Ok(_) => Ok(None),
            Err(error) => Err(self.redis.failure(&error)),
        }
    }

    /// Reads what Redis holds for each program, in their order, in one round trip.
    pub async fn read(&self, program_ids: &[ProgramId]) -> Result<Vec<StoredValue>, Failure> {
        if program_ids.is_empty() {
            // The crate redis rejects an empty pipeline.
            return Ok(Vec::new());
        }
        let responses = self.query(program_ids.iter().map(hash_of).collect()).await?;
        let stored = program_ids.iter().zip(responses);
        stored.map(|(id, response)| self.stored_value(id, value(response))).collect()
    }

    async fn query(&self, commands: Vec<Cmd>) -> Result<Vec<RedisResult<Value>>, Failure> {
        let responses = self.connection.query_each(commands).await;
        responses.map_err(|error| self.redis.failure(&error))
    }

    fn stored_value(
        &self,
        program_id: &ProgramId,
        response: RedisResult<Vec<Option<String>>>,
    ) -> Result<StoredValue, Failure> {
        match response.map(Update::from_hash) {
            Ok(Ok(None)) => Ok(StoredValue::Nothing),
            Ok(Ok(Some(update))) if update.core_data.program_id() != program_id => {
                let other = update.core_data.program_id();
                Ok(StoredValue::Unreadable(format!("it names another program, {other}")))
            }
            Ok(Ok(Some(update))) => Ok(StoredValue::Update(Box::new(update))),
            Ok(Err(error)) => Ok(StoredValue::Unreadable(error.to_string())),
            Err(error) if is_wrong_type(&error) => {
                Ok(StoredValue::Unreadable("the key does not hold a hash".to_owned()))
            }
            Err(error) => Err(self.redis.failure(&error)),
        }
    }
}

fn value<T: FromRedisValue>(response: RedisResult<Value>) -> RedisResult<T> {
    Ok(T::from_redis_value(response?)?)
}

/// A subscription to the updates.
pub struct Subscription<'a> {
    redis: &'a Redis,
    subscription: PubSub,
}

impl Subscription<'_> {
    /// Passes each message to `handle` until that returns false. Fails if the connection breaks.
    pub async fn run(self, mut handle: impl FnMut(&[u8]) -> bool) -> Result<(), Failure> {
        let (sink, mut messages) = self.subscription.split();
        let handle_all = async {
            while let Some(message) = messages.next().await {
                if !handle(message.get_payload_bytes()) {
                    return Ok(());
                }
            }
            Err(RedisError::from((ErrorKind::Io, "the connection was closed")))
        };
        let result = tokio::select! {
            result = handle_all => result,
            error = watch_link(sink) => Err(error),
        };
        result.map_err(|error| self.redis.failure(&error))
    }
}

/// Pings until a ping fails; returns the error.
async fn watch_link(mut sink: PubSubSink) -> RedisError {
    loop {
        tokio::time::sleep(PING_INTERVAL).await;
        if let Err(error) = within(TIMEOUTS.connect, sink.ping::<redis::Value>()).await {
            return error;
        }
    }
}
