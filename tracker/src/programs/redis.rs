//! L2: programs in Redis.

use adtrack_proto::program::{REPLACES, Update};
use adtrack_proto::{ProgramId, Version, keys};
use adtrack_runtime::redis_access::{
    BoundedUpdate, CoreDataState, Scan, hash_of, is_marked_command, is_wrong_type, mark_command,
    mark_of,
};
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
    /// Its key holds something else.
    #[error("the key of program {0} does not hold a hash")]
    NotAHash(ProgramId),
    /// The hash is another program's.
    #[error("the hash of program {0} names the program {1}")]
    OfAnother(ProgramId, ProgramId),
    /// Redis does not hold the core data that it should, so a missing program is not known to be absent.
    #[error(
        "Redis does not hold all core data: the key `{}` is missing or invalid, or there are far fewer programs than it says",
        keys::LOADED
    )]
    NotLoaded,
}

/// What Redis holds of a program's versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersion {
    /// The version; `None` if Redis does not hold the program.
    pub version: Option<Version>,
    /// An impossible version that was replaced. A tracker that holds it has to let go of it.
    pub replaced: Option<Version>,
    /// Its key holds something else than a hash.
    pub is_foreign: bool,
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
        let commands = ids.iter().map(hash_of).chain([is_marked_command()]);
        let mut replies = self.query(commands.collect()).await?;
        let loaded = match value(replies.pop()) {
            // The mark is newer than the last probe, or too few programs have arrived since it was set.
            Ok(true) if !self.link.is_loaded() => self.is_loaded().await,
            is_marked => is_marked,
        };
        let state = |(id, reply)| {
            if is_foreign(&reply) {
                return Err(ReadError::NotAHash(ProgramId::clone(id)));
            }
            match (state_of(id, value(Some(reply))?)?, &loaded) {
                (Some(state), _) => Ok(state),
                (None, Ok(true)) => Ok(ProgramState::Absent),
                (None, Ok(false)) => Err(ReadError::NotLoaded),
                (None, Err(error)) => Err(error.clone().into()),
            }
        };
        Ok(ids.iter().zip(replies).map(state).collect())
    }

    /// Whether Redis holds the core data that its mark says.
    async fn is_loaded(&self) -> RedisResult<bool> {
        let Some(connection) = self.link.connection() else { return Ok(false) };
        let mark = connection.query_each(vec![mark_command()]).await?.pop();
        let state = connection.core_data_state(mark_of(mark.unwrap_or(Ok(Value::Nil)))?).await?;
        Ok(state == CoreDataState::Loaded)
    }

    /// The versions that Redis holds for `ids`, in their order.
    pub async fn versions(&self, ids: &[ProgramId]) -> Result<Vec<StoredVersion>, ReadError> {
        let field_of = |id: &ProgramId, field| {
            let mut command = redis::cmd("HGET");
            command.arg(keys::program(id)).arg(field);
            command
        };
        let commands = ids.iter().flat_map(|id| [field_of(id, "version"), field_of(id, REPLACES)]);
        let mut replies = self.query(commands.collect()).await?.into_iter();
        let stored = |_| {
            let (version, replaced) = (replies.next(), replies.next());
            let is_foreign = version.as_ref().is_some_and(is_foreign);
            if is_foreign {
                return Ok(StoredVersion { version: None, replaced: None, is_foreign });
            }
            // An invalid version counts as none. A read of the whole program reports it as malformed.
            let parse = |text: Option<String>| text.and_then(|text| text.parse().ok());
            let (version, replaced) = (parse(value(version)?), parse(value(replaced)?));
            Ok(StoredVersion { version, replaced, is_foreign })
        };
        ids.iter().map(stored).collect()
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

    /// Stores and publishes `updates`, as redis-updater does, and marks Redis as holding core data if it is
    /// not marked yet.
    pub async fn store(&self, updates: Vec<Update>, channel: &str) -> Result<(), ReadError> {
        let connection = self.link.connection().ok_or(ReadError::Unavailable)?;
        let updates: Vec<_> = updates.into_iter().map(BoundedUpdate::from).collect();
        for reply in connection.store(&updates, channel).await? {
            reply?;
        }
        let mark = connection.query_each(vec![mark_command()]).await?.pop();
        if mark_of(mark.unwrap_or(Ok(Value::Nil)))?.programs().is_none() {
            connection.mark_loaded(connection.key_count().await?).await?;
        }
        self.link.request_probe();
        Ok(())
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

fn value<T: FromRedisValue>(reply: Option<RedisResult<Value>>) -> RedisResult<T> {
    Ok(T::from_redis_value(reply.unwrap_or(Ok(Value::Nil))?)?)
}

fn is_foreign(reply: &RedisResult<Value>) -> bool {
    reply.as_ref().is_err_and(is_wrong_type)
}

fn state_of(id: &ProgramId, hash: Vec<Option<String>>) -> Result<Option<ProgramState>, ReadError> {
    let update = Update::from_hash(hash);
    let update = update.map_err(|error| ReadError::Malformed(id.clone(), error))?;
    match update.as_ref().map(|update| update.core_data.program_id()) {
        Some(other) if other != id => Err(ReadError::OfAnother(id.clone(), other.clone())),
        _ => Ok(update.map(ProgramState::of)),
    }
}
