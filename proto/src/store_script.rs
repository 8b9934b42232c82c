//! The Lua scripts: one stores an update in Redis and publishes it in one atomic step, the other counts
//! programs in a cluster.

use crate::program::{CoreData, Update};
use crate::{Version, keys};

/// The script's source. [`Call`] has its keys and arguments. It returns 0 if Redis holds a newer version,
/// otherwise [`STORED`] or, if [`Call::count`] asks for it, [`ADDED`] or [`REMOVED`].
pub const SOURCE: &str = include_str!("store_program.lua");

/// The update was stored; Redis holds as many programs as before.
pub const STORED: i64 = 1;
/// The update was stored, and Redis holds one program more.
pub const ADDED: i64 = 2;
/// The update was stored, and Redis holds one program fewer.
pub const REMOVED: i64 = 3;

/// The source of the script that updates the number of programs in a cluster's mark. Its key is
/// [`keys::LOADED`]; its arguments are the numbers of programs added, of programs removed, and of keys that
/// Redis holds.
pub const COUNT_SOURCE: &str = include_str!("count_programs.lua");

/// How long Redis keeps a tombstone, in seconds: longer than a Kinesis stream can retain records (365
/// days), so that no replay restores a deleted program.
pub const TOMBSTONE_SECONDS: u32 = 400 * 24 * 60 * 60;

/// The versions that no record of the stream can have had. Such a version was forged or written by mistake;
/// without a bound it would block all true updates of its program. The default bounds nothing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// The highest epoch.
    pub highest_epoch: Option<u64>,
    /// The highest sequence number in the update's own epoch.
    pub highest_sequence: Option<String>,
    /// A version that an operator knows to be wrong.
    pub replaces: Option<Version>,
}

/// One call of the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `KEYS[1]`. `KEYS[2]`, except in a cluster, is [`keys::LOADED`].
    pub key: String,
    /// `ARGV`.
    pub arguments: Vec<String>,
}

impl Call {
    /// Stores `update` and publishes it on `channel`.
    pub fn new(update: &Update, channel: &str) -> Self {
        let expiry = match update.core_data {
            CoreData::Program(_) => 0,
            CoreData::Deleted(_) => TOMBSTONE_SECONDS,
        };
        let mut arguments = vec![
            update.version.epoch().to_string(),
            update.version.sequence().to_owned(),
            channel.to_owned(),
            update.to_json(),
            expiry.to_string(),
        ];
        for (field, value) in update.to_hash() {
            arguments.push(field.to_owned());
            arguments.push(value);
        }
        Self { key: keys::program(update.core_data.program_id()), arguments }
    }

    /// Stores the update also in place of a version that is out of `bounds`.
    #[must_use]
    pub fn within(self, bounds: &Bounds) -> Self {
        self.option("?highestEpoch", bounds.highest_epoch.map(|epoch| epoch.to_string()))
            .option("?highestSequence", bounds.highest_sequence.clone())
            .option("?replaces", bounds.replaces.as_ref().map(Version::to_string))
    }

    /// Makes the script return whether the number of programs changes.
    #[must_use]
    pub fn count(self) -> Self {
        self.option("?count", Some("1".to_owned()))
    }

    fn option(mut self, name: &str, value: Option<String>) -> Self {
        if let Some(value) = value {
            self.arguments.extend([name.to_owned(), value]);
        }
        self
    }
}
