//! The one way in which core data gets into Redis, and out of it.

use adtrack_proto::program::Update;
use adtrack_proto::{ProgramId, keys, store_script};
use redis::{Cmd, RedisResult, Script, Value};

use super::RedisConnection;

/// Asks for what [`Update::from_hash`] reads.
pub fn hash_of(program_id: &ProgramId) -> Cmd {
    let mut command = redis::cmd("HMGET");
    command.arg(keys::program(program_id)).arg(&Update::HASH_FIELDS);
    command
}

impl RedisConnection {
    /// Stores `updates` and publishes them on `channel`, in one round trip. For each, in order:
    /// whether it was stored, or Redis holds a newer version.
    pub async fn store(
        &self,
        updates: &[Update],
        channel: &str,
    ) -> RedisResult<Vec<RedisResult<bool>>> {
        let script = Script::new(store_script::SOURCE);
        let calls = updates.iter().map(|update| {
            let call = store_script::Call::new(update, channel);
            let mut command = redis::cmd("EVALSHA");
            command.arg(script.get_hash()).arg(1).arg(call.key).arg(call.arguments);
            command
        });
        let answers = self.query_each_by_script(store_script::SOURCE, calls.collect()).await?;
        Ok(answers.into_iter().map(|answer| Ok(answer? != Value::Int(0))).collect())
    }

    /// Says that Redis holds core data: from then on trackers believe that what is absent is
    /// unknown.
    pub async fn mark_loaded(&self) -> RedisResult<()> {
        let mut mark = redis::cmd("SET");
        mark.arg(keys::LOADED).arg(1);
        self.query_each(vec![mark]).await?.into_iter().try_for_each(|answer| answer.map(drop))
    }
}
