//! What a Lambda function stores about a record that can never succeed.

use serde::{Deserialize, Serialize};

/// A user record in the failure store, as JSON. It is kept whole, so that it can be repaired and sent
/// again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedRecord {
    /// The function that gave up on it: `kinesis-consumer` or `redis-updater`.
    pub function: String,
    /// The stream's ARN.
    pub stream_arn: String,
    /// The shard, such as `shardId-000000000000`.
    pub shard_id: String,
    /// The Kinesis record's sequence number.
    pub sequence_number: String,
    /// Which user record of the Kinesis record, from 0.
    pub sub_sequence_number: u32,
    /// The Kinesis record's partition key.
    pub partition_key: String,
    /// When Kinesis received it, RFC 3339.
    pub arrived_at: String,
    /// When the function gave up on it, RFC 3339.
    pub failed_at: String,
    /// What is wrong with it.
    pub reason: String,
    /// The user record's bytes in base64 (RFC 4648, with padding).
    pub data: String,
}

impl FailedRecord {
    /// The object's name below the store's URL. It depends only on the record's place in the stream, so
    /// a redelivered batch overwrites what its first delivery wrote.
    pub fn object_name(&self) -> String {
        let day = self.arrived_at.get(..10).unwrap_or("unknown-day");
        let Self { function, shard_id, sequence_number, sub_sequence_number, .. } = self;
        format!("{function}/{day}/{shard_id}/{sequence_number}-{sub_sequence_number}.json")
    }
}
