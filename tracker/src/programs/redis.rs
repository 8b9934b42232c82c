//! L2: programs in Redis.

use adtrack_proto::program::Update;
use adtrack_proto::{ProgramId, Version, keys};
use adtrack_runtime::redis_access::{Scan, hash_of};
use redis::{Cmd, FromRedisValue, RedisError, RedisResult, Value};

use super::link::RedisLink;
use super::local::Known;

/// Reads and, for the sample programs, writes Redis.
#[derive(Debug, Clone)]
pub struct RedisPrograms {
    link: RedisLink,
}

/// Why Redis gives no answer that can be believed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no connection.
    #[error("Redis is away")]
    Away,
    /// The command failed.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// What Redis holds for a program is no program.
    #[error("the hash of program {0} is malformed: {1}")]
    Malformed(ProgramId, adtrack_proto::program::InvalidCoreData),
    /// Redis holds no core data at all: that a program is not there says nothing.
    #[error("Redis is empty: the key `{}` is not there; load core data", keys::LOADED)]
    NotLoaded,
}

impl RedisPrograms {
    /// Redis behind `link`.
    pub fn new(link: RedisLink) -> Self {
        Self { link }
    }

    /// What Redis holds for each of `ids`, in their order; one round trip.
    pub async fn read(
        &self,
        ids: &[ProgramId],
    ) -> Result<Vec<Result<Known, ReadError>>, ReadError> {
        let commands = ids.iter().map(hash_of).chain([loaded()]);
        let mut answers = self.query(commands.collect()).await?;
        let loaded: RedisResult<bool> = value(answers.pop());
        let known = |(id, answer)| match (known_of(id, value(Some(answer))?)?, &loaded) {
            (Some(known), _) => Ok(known),
            (None, Ok(true)) => Ok(Known::Absent),
            (None, Ok(false)) => Err(ReadError::NotLoaded),
            (None, Err(error)) => Err(error.clone().into()),
        };
        Ok(ids.iter().zip(answers).map(known).collect())
    }

    /// The versions that Redis holds for `ids`, in their order.
    pub async fn versions(&self, ids: &[ProgramId]) -> Result<Vec<Option<Version>>, ReadError> {
        let version_of = |id: &ProgramId| {
            let mut command = redis::cmd("HGET");
            command.arg(keys::program(id)).arg("version");
            command
        };
        let answers = self.query(ids.iter().map(version_of).collect()).await?;
        let version = |answer| {
            let text: Option<String> = value(Some(answer))?;
            // A version that cannot be read is none: the program is read whole, and found malformed.
            Ok(text.and_then(|text| text.parse().ok()))
        };
        answers.into_iter().map(version).collect()
    }

    /// The next programs of a walk over all that Redis holds, perhaps none yet; none at its end.
    pub async fn next_ids(&self, scan: &mut Scan) -> Result<Option<Vec<ProgramId>>, ReadError> {
        let connection = self.link.connection().ok_or(ReadError::Away)?;
        let keys = connection.next_keys(scan, keys::EVERY_PROGRAM).await?;
        let id = |key: String| keys::program_id(&key);
        Ok(keys.map(|keys| keys.into_iter().filter_map(id).collect()))
    }

    /// A walk over all programs that Redis holds.
    pub async fn scan(&self) -> Result<Scan, ReadError> {
        Ok(self.link.connection().ok_or(ReadError::Away)?.scan().await?)
    }

    /// Stores and publishes `updates`, as redis-updater does.
    pub async fn store(&self, updates: &[Update], channel: &str) -> Result<(), ReadError> {
        let connection = self.link.connection().ok_or(ReadError::Away)?;
        for answer in connection.store(updates, channel).await? {
            answer?;
        }
        Ok(connection.mark_loaded().await?)
    }

    async fn query(&self, commands: Vec<Cmd>) -> Result<Vec<RedisResult<Value>>, ReadError> {
        let connection = self.link.connection().ok_or(ReadError::Away)?;
        let answers = connection.query_each(commands).await;
        let broken = |error: &RedisError| {
            error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
        };
        let doubtful = match &answers {
            Ok(answers) => answers.iter().any(|answer| answer.as_ref().is_err_and(broken)),
            Err(error) => broken(error),
        };
        if doubtful {
            self.link.doubt();
        }
        Ok(answers?)
    }
}

fn loaded() -> Cmd {
    let mut command = redis::cmd("EXISTS");
    command.arg(keys::LOADED);
    command
}

fn value<T: FromRedisValue>(answer: Option<RedisResult<Value>>) -> RedisResult<T> {
    Ok(T::from_redis_value(answer.unwrap_or(Ok(Value::Nil))?)?)
}

fn known_of(id: &ProgramId, hash: Vec<Option<String>>) -> Result<Option<Known>, ReadError> {
    let update = Update::from_hash(hash);
    let update = update.map_err(|error| ReadError::Malformed(id.clone(), error))?;
    Ok(update.map(Known::of))
}
