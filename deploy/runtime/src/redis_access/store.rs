//! The commands that read and write whole programs in Redis.

use adtrack_proto::program::Update;
use adtrack_proto::{ProgramId, keys, store_script};
use redis::{Cmd, RedisResult, Script, Value};

use super::RedisConnection;

/// The command that reads a program's hash; [`Update::from_hash`] parses the response.
pub fn hash_of(program_id: &ProgramId) -> Cmd {
    let mut command = redis::cmd("HMGET");
    command.arg(keys::program(program_id)).arg(&Update::HASH_FIELDS);
    command
}

impl RedisConnection {
    /// Stores `updates` and publishes them on `channel`, in one round trip. Returns for each, in order,
    /// true if it was stored and false if Redis holds a newer version.
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
        let responses = self.query_each_with_script(store_script::SOURCE, calls.collect()).await?;
        Ok(responses.into_iter().map(|response| Ok(response? != Value::Int(0))).collect())
    }

    /// Sets the mark that core data is present. From then on, trackers treat an absent program as unknown.
    pub async fn mark_loaded(&self) -> RedisResult<()> {
        let mut mark = redis::cmd("SET");
        mark.arg(keys::LOADED).arg(1);
        self.query_each(vec![mark]).await?.into_iter().try_for_each(|response| response.map(drop))
    }
}
