//! The commands that read and write whole programs in Redis.

use adtrack_proto::program::Update;
use adtrack_proto::store_script::{self, Bounds, Call};
use adtrack_proto::{ProgramId, keys};
use redis::{Cmd, FromRedisValue, RedisError, RedisResult, Script, Value};

use super::connection::{NodeSize, RedisConnection, SLOTS};

/// Below this many programs, chance decides how many of them are on a node of a cluster.
const FEWEST_TO_COMPARE: u64 = 100;

/// An update to store, and what it may replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundedUpdate {
    /// The update.
    pub update: Update,
    /// Which versions cannot be true.
    pub bounds: Bounds,
}

impl From<Update> for BoundedUpdate {
    fn from(update: Update) -> Self {
        Self { update, bounds: Bounds::default() }
    }
}

/// Whether Redis holds the core data that it should, so that an absent program is an unknown one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoreDataState {
    /// It does.
    Loaded,
    /// There is no mark: nothing was ever loaded, or Redis was emptied.
    Unmarked,
    /// There is a mark, but it is not a number of programs.
    InvalidMark,
    /// There are far fewer programs than the mark says: some were lost, or have not arrived yet.
    Depleted {
        /// The mark.
        expected: u64,
        /// Keys that Redis holds, or the share of a cluster's node that holds too few.
        held: u64,
    },
}

/// The command that reads a program's hash; [`Update::from_hash`] parses the response.
pub fn hash_of(program_id: &ProgramId) -> Cmd {
    let mut command = redis::cmd("HMGET");
    command.arg(keys::program(program_id)).arg(&Update::HASH_FIELDS);
    command
}

/// The mark of loaded core data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// There is none.
    Missing,
    /// Something else is at its key.
    Invalid,
    /// How many programs Redis should hold.
    Programs(u64),
}

impl Mark {
    /// The greatest number of programs: far more than Redis can hold, and exact in Lua.
    pub const MAX: u64 = 9_999_999_999;

    /// The number of programs, if the mark has one.
    pub fn programs(self) -> Option<u64> {
        match self {
            Self::Programs(programs) => Some(programs),
            Self::Missing | Self::Invalid => None,
        }
    }

    fn parse(text: &str) -> Self {
        // `parse` alone would accept a sign.
        let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(programs) if is_decimal && programs <= Self::MAX => Self::Programs(programs),
            _ => Self::Invalid,
        }
    }
}

/// The command that asks whether there is a mark of loaded core data.
pub fn is_marked_command() -> Cmd {
    let mut command = redis::cmd("EXISTS");
    command.arg(keys::LOADED);
    command
}

/// The command that reads the mark of loaded core data; [`mark_of`] parses the response.
pub fn mark_command() -> Cmd {
    let mut command = redis::cmd("GET");
    command.arg(keys::LOADED);
    command
}

/// The mark in the response to [`mark_command`].
pub fn mark_of(response: RedisResult<Value>) -> RedisResult<Mark> {
    match response {
        Err(error) if is_wrong_type(&error) => Ok(Mark::Invalid),
        response => {
            let bytes = Option::<Vec<u8>>::from_redis_value(response?)?;
            Ok(bytes.map_or(Mark::Missing, |bytes| Mark::parse(&String::from_utf8_lossy(&bytes))))
        }
    }
}

/// Whether a command failed because its key holds a value of another type.
pub fn is_wrong_type(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

impl RedisConnection {
    /// Stores `updates` and publishes them on `channel`, in one round trip. Returns for each, in order,
    /// true if it was stored and false if Redis holds a newer version. Updates the number of programs in the
    /// mark of loaded core data, if there is one.
    pub async fn store(
        &self,
        updates: &[BoundedUpdate],
        channel: &str,
    ) -> RedisResult<Vec<RedisResult<bool>>> {
        let script = Script::new(store_script::SOURCE);
        let is_cluster = matches!(self, Self::Cluster(_));
        let calls = updates.iter().map(|BoundedUpdate { update, bounds }| {
            let mut command = redis::cmd("EVALSHA");
            command.arg(script.get_hash());
            let call = Call::new(update, channel).within(bounds);
            if is_cluster {
                // The mark is on another node.
                let call = call.count();
                command.arg(1).arg(call.key).arg(call.arguments);
            } else {
                command.arg(2).arg(call.key).arg(keys::LOADED).arg(call.arguments);
            }
            command
        });
        let responses = self.query_each_with_script(store_script::SOURCE, calls.collect()).await?;
        let responses: Vec<RedisResult<i64>> =
            responses.into_iter().map(|response| Ok(i64::from_redis_value(response?)?)).collect();
        let times = |code| responses.iter().flatten().filter(|response| **response == code).count();
        let (added, removed) = (times(store_script::ADDED), times(store_script::REMOVED));
        if is_cluster && added + removed > 0 {
            // A retry would find nothing to count, so a failed count does not fail the updates.
            if let Err(error) = self.count(added, removed).await {
                tracing::warn!(%error, added, removed, key = keys::LOADED, "programs were not counted");
            }
        }
        Ok(responses.into_iter().map(|response| Ok(response? != 0)).collect())
    }

    async fn count(&self, added: usize, removed: usize) -> RedisResult<()> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(Script::new(store_script::COUNT_SOURCE).get_hash()).arg(1).arg(keys::LOADED);
        // One of the keys is the mark. Without it, the script does nothing.
        command.arg(added).arg(removed).arg(self.key_count().await?.saturating_sub(1));
        let responses =
            self.query_each_with_script(store_script::COUNT_SOURCE, vec![command]).await?;
        responses.into_iter().try_for_each(|response| response.map(drop))
    }

    /// How many keys Redis holds: programs, tombstones and the mark.
    pub async fn key_count(&self) -> RedisResult<u64> {
        Ok(self.sizes().await?.iter().map(|node| node.keys).sum())
    }

    /// Sets the mark that Redis holds `programs` programs, or will once they have arrived. From then on,
    /// trackers treat an absent program as unknown, unless Redis holds far fewer.
    pub async fn mark_loaded(&self, programs: u64) -> RedisResult<()> {
        let mut mark = redis::cmd("SET");
        mark.arg(keys::LOADED).arg(programs);
        self.query_each(vec![mark]).await?.into_iter().try_for_each(|response| response.map(drop))
    }

    /// Compares what Redis holds with its `mark`.
    pub async fn core_data_state(&self, mark: Mark) -> RedisResult<CoreDataState> {
        match mark {
            Mark::Missing => Ok(CoreDataState::Unmarked),
            Mark::Invalid => Ok(CoreDataState::InvalidMark),
            Mark::Programs(expected) => Ok(compare(expected, &self.sizes().await?)),
        }
    }
}

/// Compares the mark with what each node holds. Half is a wide margin: shares vary by a few per cent,
/// tombstones count as held, and a node that was emptied holds next to nothing.
fn compare(expected: u64, nodes: &[NodeSize]) -> CoreDataState {
    let keys: u64 = nodes.iter().map(|node| node.keys).sum();
    // One of the keys is the mark.
    let held = keys.saturating_sub(1);
    if held < expected.div_ceil(2) {
        return CoreDataState::Depleted { expected, held };
    }
    for node in nodes {
        let share = expected * node.slots / SLOTS;
        if nodes.len() > 1 && share >= FEWEST_TO_COMPARE && node.keys < share / 2 {
            return CoreDataState::Depleted { expected: share, held: node.keys };
        }
    }
    CoreDataState::Loaded
}

/// Whether Redis refused a command because its memory is used up (`maxmemory` with `noeviction`).
pub fn is_full(error: &RedisError) -> bool {
    // A script reports it as its own error, with the code at the head of the message.
    error.code() == Some("OOM") || error.to_string().contains("OOM command not allowed")
}

#[cfg(test)]
mod tests {
    use redis::{ErrorKind, ServerErrorKind};

    use super::*;

    fn text(text: &str) -> RedisResult<Value> {
        Ok(Value::BulkString(text.into()))
    }

    #[test]
    fn reads_the_mark() {
        assert_eq!(mark_of(Ok(Value::Nil)).unwrap(), Mark::Missing);
        for (mark, programs) in [("0", 0), ("212", 212), ("007", 7), ("9999999999", Mark::MAX)] {
            assert_eq!(mark_of(text(mark)).unwrap(), Mark::Programs(programs), "{mark}");
        }
        let nines = "9".repeat(23);
        for mark in ["", "yes", "-5", "+5", "6.0", "NaN", " 6", "10000000000", &nines] {
            assert_eq!(mark_of(text(mark)).unwrap(), Mark::Invalid, "{mark:?}");
        }
        let not_text = Ok(Value::BulkString(vec![0xFF]));
        assert_eq!(mark_of(not_text).unwrap(), Mark::Invalid);
        let refused = |kind| RedisError::from((kind, "refused"));
        assert!(mark_of(Err(refused(ErrorKind::Server(ServerErrorKind::ReadOnly)))).is_err());
    }

    #[test]
    fn far_fewer_programs_than_the_mark_count_as_not_loaded() {
        let is_loaded = |expected, nodes: &[(u64, u64)]| {
            let nodes: Vec<_> =
                nodes.iter().map(|&(keys, slots)| NodeSize { keys, slots }).collect();
            compare(expected, &nodes) == CoreDataState::Loaded
        };
        for (expected, keys, loaded) in [
            (0, 1, true),
            (1, 1, false),
            (1, 2, true),
            (6, 7, true),
            (200, 2, false),
            (200, 100, false),
            (200, 101, true),
            (1, 200_001, true),
        ] {
            assert_eq!(is_loaded(expected, &[(keys, SLOTS)]), loaded, "{expected} {keys}");
        }
        let third = SLOTS / 3;
        assert!(is_loaded(3_000, &[(1_010, third), (990, third), (1_001, third)]));
        assert!(
            !is_loaded(3_000, &[(1_010, third), (3, third), (1_001, third)]),
            "one was emptied"
        );
        assert!(
            !is_loaded(3_000, &[(9_999, third), (3, third), (9_999, third)]),
            "with tombstones"
        );
        assert!(is_loaded(3, &[(3, third), (0, third), (1, third)]), "too few to tell");
    }
}
