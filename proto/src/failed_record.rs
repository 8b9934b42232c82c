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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_name_depends_only_on_the_place_in_the_stream() {
        let record = FailedRecord {
            function: "f".into(),
            stream_arn: "arn".into(),
            shard_id: "shardId-000000000001".into(),
            sequence_number: "4959".into(),
            sub_sequence_number: 3,
            partition_key: "k".into(),
            arrived_at: "2026-01-02T03:04:05Z".into(),
            failed_at: "2026-01-03T00:00:00Z".into(),
            reason: "r".into(),
            data: "AA==".into(),
        };
        assert_eq!(record.object_name(), "f/2026-01-02/shardId-000000000001/4959-3.json");
        let later = FailedRecord {
            failed_at: "2026-01-04T00:00:00Z".into(),
            reason: "other".into(),
            ..record
        };
        assert_eq!(later.object_name(), "f/2026-01-02/shardId-000000000001/4959-3.json");
        let unknown = FailedRecord { arrived_at: "?".into(), ..later };
        assert_eq!(unknown.object_name(), "f/unknown-day/shardId-000000000001/4959-3.json");
    }
}
