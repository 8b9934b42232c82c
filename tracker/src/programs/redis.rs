//! L2: programs in Redis.

use std::collections::HashMap;

use adtrack_proto::program::Update;
use adtrack_proto::{ProgramId, Version, keys, store_script};
use redis::{Pipeline, RedisError, RedisResult, Script};

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

    /// What Redis holds for `id`.
    pub async fn read(&self, id: &ProgramId) -> Result<Known, ReadError> {
        let mut pipeline = redis::pipe();
        pipeline.hgetall(keys::program(id)).exists(keys::LOADED);
        let (hash, loaded): (HashMap<String, String>, bool) = self.query(&pipeline).await?;
        let update =
            Update::from_hash(hash).map_err(|error| ReadError::Malformed(id.clone(), error))?;
        match update {
            Some(update) => Ok(Known::of(update)),
            None if loaded => Ok(Known::Absent),
            None => Err(ReadError::NotLoaded),
        }
    }

    /// The versions that Redis holds for `ids`, in their order.
    pub async fn versions(&self, ids: &[ProgramId]) -> Result<Vec<Option<Version>>, ReadError> {
        let mut pipeline = redis::pipe();
        for id in ids {
            pipeline.hget(keys::program(id), "version");
        }
        let versions: Vec<Option<String>> = self.query(&pipeline).await?;
        // A version that cannot be read is none: the program is read whole, and found malformed.
        Ok(versions.into_iter().map(|text| text?.parse().ok()).collect())
    }

    /// Stores and publishes `updates`, as redis-updater does.
    pub async fn store(&self, updates: &[Update], channel: &str) -> Result<(), ReadError> {
        let script = Script::new(store_script::SOURCE);
        let mut pipeline = redis::pipe();
        pipeline.cmd("SCRIPT").arg("LOAD").arg(store_script::SOURCE).ignore();
        for update in updates {
            let call = store_script::Call::new(update, channel);
            let hash = script.get_hash();
            pipeline.cmd("EVALSHA").arg(hash).arg(1).arg(call.key).arg(call.arguments).ignore();
        }
        pipeline.set(keys::LOADED, 1).ignore();
        self.query(&pipeline).await
    }

    async fn query<T: redis::FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, ReadError> {
        let mut connection = self.link.connection().ok_or(ReadError::Away)?;
        let result: RedisResult<T> = pipeline.query_async(&mut connection).await;
        result.map_err(|error| {
            if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() {
                self.link.doubt();
            }
            error.into()
        })
    }
}
