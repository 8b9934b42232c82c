//! The Lua script that stores an update in Redis and publishes it in one atomic step.

use crate::keys;
use crate::program::{CoreData, Update};

/// The script's source. [`Call`] has its keys and arguments. It returns 1 if the update was stored, 0 if
/// Redis holds a newer version.
pub const SOURCE: &str = include_str!("store_program.lua");

/// How long Redis keeps a tombstone, in seconds: longer than a Kinesis stream can retain records (365
/// days), so that no replay restores a deleted program.
pub const TOMBSTONE_SECONDS: u32 = 400 * 24 * 60 * 60;

/// One call of the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `KEYS[1]`.
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
}
