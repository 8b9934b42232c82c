//! Redis as `get`, `watch` and `verify` see it. No other module of the command knows it.

use std::time::Duration;

use adtrack_proto::program::Update;
use adtrack_proto::{ProgramId, keys};
use adtrack_runtime::redis_access::{RedisAccess, RedisConnection, RedisTimeouts, hash_of, within};
use adtrack_runtime::redis_settings::RedisSettings;
use futures::StreamExt;
use redis::aio::{PubSub, PubSubSink};
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, Value};

use super::exit::{Exit, Failure};

const TIMEOUTS: RedisTimeouts =
    RedisTimeouts { connect: Duration::from_secs(3), answer: Duration::from_secs(10) };
/// Between two pings of a subscription, which says nothing by itself when its link is dead.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// What Redis holds for a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// A program or its tombstone.
    Update(Box<Update>),
    /// Something else, and why it is no program.
    Unreadable(String),
}

/// Redis, and where it is.
pub struct Redis {
    access: RedisAccess,
    place: String,
}

impl Redis {
    /// By the settings; does not connect.
    pub fn new(settings: &RedisSettings) -> Result<Self, Failure> {
        let usage = |error: String| Failure::new(Exit::Usage, error);
        let url = settings.url().map_err(|error| usage(error.to_string()))?;
        // Without user and password: messages end in logs.
        let host = url.host_str().unwrap_or_default();
        let place = format!("{}://{host}:{}", url.scheme(), url.port().unwrap_or(6379));
        let access =
            RedisAccess::new(settings, TIMEOUTS).map_err(|error| usage(error.to_string()))?;
        Ok(Self { access, place })
    }

    /// Connects for reads.
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
        let place = &self.place;
        let remedy = "see whether REDIS_URL is right and Redis can be reached from here";
        Failure::new(Exit::Unavailable, format!("Redis at {place}: {error}; {remedy}"))
    }
}

/// A connection for reads.
pub struct Reader<'a> {
    redis: &'a Redis,
    connection: RedisConnection,
}

impl Reader<'_> {
    /// Whether Redis holds core data at all.
    pub async fn holds_core_data(&self) -> Result<bool, Failure> {
        let mut exists = redis::cmd("EXISTS");
        exists.arg(keys::LOADED);
        let answers = self.query(vec![exists]).await?;
        let exists: RedisResult<bool> = answers.into_iter().next().map_or(Ok(false), value);
        exists.map_err(|error| self.redis.failure(&error))
    }

    /// What Redis holds for each program, in their order; one round trip.
    pub async fn read(&self, program_ids: &[ProgramId]) -> Result<Vec<Held>, Failure> {
        if program_ids.is_empty() {
            // Nothing to ask, which redis takes for an error.
            return Ok(Vec::new());
        }
        let answers = self.query(program_ids.iter().map(hash_of).collect()).await?;
        answers.into_iter().map(|answer| self.held(value(answer))).collect()
    }

    async fn query(&self, commands: Vec<Cmd>) -> Result<Vec<RedisResult<Value>>, Failure> {
        let answers = self.connection.query_each(commands).await;
        answers.map_err(|error| self.redis.failure(&error))
    }

    fn held(&self, answer: RedisResult<Vec<Option<String>>>) -> Result<Held, Failure> {
        match answer.map(Update::from_hash) {
            Ok(Ok(None)) => Ok(Held::Nothing),
            Ok(Ok(Some(update))) => Ok(Held::Update(Box::new(update))),
            Ok(Err(error)) => Ok(Held::Unreadable(error.to_string())),
            Err(error) if error.code() == Some("WRONGTYPE") => {
                Ok(Held::Unreadable("the key holds no hash".to_owned()))
            }
            Err(error) => Err(self.redis.failure(&error)),
        }
    }
}

fn value<T: FromRedisValue>(answer: RedisResult<Value>) -> RedisResult<T> {
    Ok(T::from_redis_value(answer?)?)
}

/// A subscription to the updates.
pub struct Subscription<'a> {
    redis: &'a Redis,
    subscription: PubSub,
}

impl Subscription<'_> {
    /// Hands on each message until one is not wanted, which is no error, or the link is dead.
    pub async fn serve(self, mut wants: impl FnMut(&[u8]) -> bool) -> Result<(), Failure> {
        let (sink, mut messages) = self.subscription.split();
        let serve = async {
            while let Some(message) = messages.next().await {
                if !wants(message.get_payload_bytes()) {
                    return Ok(());
                }
            }
            Err(RedisError::from((ErrorKind::Io, "the connection was closed")))
        };
        let ended = tokio::select! {
            ended = serve => ended,
            error = watch_link(sink) => Err(error),
        };
        ended.map_err(|error| self.redis.failure(&error))
    }
}

/// Pings until no answer comes; returns why.
async fn watch_link(mut sink: PubSubSink) -> RedisError {
    loop {
        tokio::time::sleep(PING_INTERVAL).await;
        if let Err(error) = within(TIMEOUTS.connect, sink.ping::<redis::Value>()).await {
            return error;
        }
    }
}
