//! L2: programs in Redis.

use adtrack_proto::program::Update;
use adtrack_proto::{ProgramId, Version, keys};
use adtrack_runtime::redis_access::{Scan, hash_of};
use redis::{Cmd, FromRedisValue, RedisError, RedisResult, Value};

use super::link::RedisLink;
use super::local::ProgramState;

/// Reads programs in Redis. Writes only sample programs.
#[derive(Debug, Clone)]
pub struct RedisPrograms {
    link: RedisLink,
}

/// Why a program cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no connection.
    #[error("Redis is unavailable")]
    Unavailable,
    /// The command failed.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The hash of a program is not valid.
    #[error("the hash of program {0} is malformed: {1}")]
    Malformed(ProgramId, adtrack_proto::program::InvalidCoreData),
    /// Redis holds no core data at all, so a missing program is not known to be absent.
    #[error("Redis is empty: the key `{}` is missing; load core data", keys::LOADED)]
    NotLoaded,
}

impl RedisPrograms {
    /// The programs in the Redis that `link` connects to.
    pub fn new(link: RedisLink) -> Self {
        Self { link }
    }

    /// What Redis holds for each of `ids`, in their order; one round trip. The outer error is the round trip's,
    /// an inner one that of a single program.
    pub async fn read(
        &self,
        ids: &[ProgramId],
    ) -> Result<Vec<Result<ProgramState, ReadError>>, ReadError> {
        let commands = ids.iter().map(hash_of).chain([loaded_command()]);
        let mut replies = self.query(commands.collect()).await?;
        let loaded: RedisResult<bool> = value(replies.pop());
        let state = |(id, reply)| match (state_of(id, value(Some(reply))?)?, &loaded) {
            (Some(state), _) => Ok(state),
            (None, Ok(true)) => Ok(ProgramState::Absent),
            (None, Ok(false)) => Err(ReadError::NotLoaded),
            (None, Err(error)) => Err(error.clone().into()),
        };
        Ok(ids.iter().zip(replies).map(state).collect())
    }

    /// The versions that Redis holds for `ids`, in their order.
    pub async fn versions(&self, ids: &[ProgramId]) -> Result<Vec<Option<Version>>, ReadError> {
        let version_of = |id: &ProgramId| {
            let mut command = redis::cmd("HGET");
            command.arg(keys::program(id)).arg("version");
            command
        };
        let replies = self.query(ids.iter().map(version_of).collect()).await?;
        let version = |reply| {
            let text: Option<String> = value(Some(reply))?;
            // An invalid version counts as none. A read of the whole program reports it as malformed.
            Ok(text.and_then(|text| text.parse().ok()))
        };
        replies.into_iter().map(version).collect()
    }

    /// The next programs of a scan. The list may be empty before the end; none at the end.
    pub async fn next_ids(&self, scan: &mut Scan) -> Result<Option<Vec<ProgramId>>, ReadError> {
        let connection = self.link.connection().ok_or(ReadError::Unavailable)?;
        let keys = connection.next_keys(scan, keys::EVERY_PROGRAM).await?;
        let id = |key: String| keys::program_id(&key);
        Ok(keys.map(|keys| keys.into_iter().filter_map(id).collect()))
    }

    /// Starts a scan of all programs that Redis holds.
    pub async fn scan(&self) -> Result<Scan, ReadError> {
        Ok(self.link.connection().ok_or(ReadError::Unavailable)?.scan().await?)
    }

    /// Stores and publishes `updates`, as redis-updater does.
    pub async fn store(&self, updates: &[Update], channel: &str) -> Result<(), ReadError> {
        let connection = self.link.connection().ok_or(ReadError::Unavailable)?;
        for reply in connection.store(updates, channel).await? {
            reply?;
        }
        Ok(connection.mark_loaded().await?)
    }

    async fn query(&self, commands: Vec<Cmd>) -> Result<Vec<RedisResult<Value>>, ReadError> {
        let connection = self.link.connection().ok_or(ReadError::Unavailable)?;
        let replies = connection.query_each(commands).await;
        let is_connection_error = |error: &RedisError| {
            error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
        };
        let is_doubtful = match &replies {
            Ok(replies) => {
                replies.iter().any(|reply| reply.as_ref().is_err_and(is_connection_error))
            }
            Err(error) => is_connection_error(error),
        };
        if is_doubtful {
            self.link.request_probe();
        }
        Ok(replies?)
    }
}

fn loaded_command() -> Cmd {
    let mut command = redis::cmd("EXISTS");
    command.arg(keys::LOADED);
    command
}

fn value<T: FromRedisValue>(reply: Option<RedisResult<Value>>) -> RedisResult<T> {
    Ok(T::from_redis_value(reply.unwrap_or(Ok(Value::Nil))?)?)
}

fn state_of(id: &ProgramId, hash: Vec<Option<String>>) -> Result<Option<ProgramState>, ReadError> {
    let update = Update::from_hash(hash);
    let update = update.map_err(|error| ReadError::Malformed(id.clone(), error))?;
    Ok(update.map(ProgramState::of))
}
