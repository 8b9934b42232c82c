//! A batch of Kinesis records, as Lambda delivers it, and the answer to it.

use std::collections::BTreeSet;

use aws_lambda_events::event::kinesis::KinesisEvent;
use aws_lambda_events::event::streams::KinesisEventResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;

use adtrack_proto::failed_record::FailedRecord;

/// One Kinesis record of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRecord {
    /// The stream's ARN.
    pub stream_arn: String,
    /// The shard, such as `shardId-000000000000`.
    pub shard_id: String,
    /// Its sequence number, unique in the stream.
    pub sequence_number: String,
    /// The partition key that its producer gave it.
    pub partition_key: String,
    /// When Kinesis took it.
    pub arrived_at: Timestamp,
    /// The payload.
    pub data: Bytes,
}

/// A user record that can never succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoisonRecord {
    /// The Kinesis record that carried it.
    pub carrier: StreamRecord,
    /// Which user record of the Kinesis record, from 0.
    pub sub_sequence_number: u32,
    /// The user record's own bytes.
    pub data: Bytes,
    /// What is wrong with it.
    pub reason: String,
}

impl PoisonRecord {
    /// As it is kept.
    pub fn to_failed_record(&self, function: &str, failed_at: Timestamp) -> FailedRecord {
        FailedRecord {
            function: function.to_owned(),
            stream_arn: self.carrier.stream_arn.clone(),
            shard_id: self.carrier.shard_id.clone(),
            sequence_number: self.carrier.sequence_number.clone(),
            sub_sequence_number: self.sub_sequence_number,
            partition_key: self.carrier.partition_key.clone(),
            arrived_at: self.carrier.arrived_at.to_string(),
            failed_at: failed_at.to_string(),
            reason: self.reason.clone(),
            data: STANDARD.encode(&self.data),
        }
    }
}

/// The records of an invocation, in the order of their shard.
pub fn records_of(event: KinesisEvent) -> Vec<StreamRecord> {
    event
        .records
        .into_iter()
        .map(|record| StreamRecord {
            stream_arn: record.event_source_arn.unwrap_or_default(),
            shard_id: shard_of(record.event_id.as_deref().unwrap_or_default()),
            sequence_number: record.kinesis.sequence_number,
            partition_key: record.kinesis.partition_key,
            arrived_at: Timestamp::from_millisecond(
                record.kinesis.approximate_arrival_timestamp.timestamp_millis(),
            )
            .unwrap_or_default(),
            data: record.kinesis.data.0.into(),
        })
        .collect()
}

/// An event id is `{shard}:{sequence number}`.
fn shard_of(event_id: &str) -> String {
    event_id.split_once(':').map_or("unknown-shard", |(shard, _)| shard).to_owned()
}

/// The answer to an invocation: the records that a retry may mend. Lambda delivers everything
/// again from the lowest of them on.
pub fn report(sequence_numbers: BTreeSet<String>) -> KinesisEventResponse {
    let mut response = KinesisEventResponse::default();
    response.set_failures(sequence_numbers);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_taken_apart() {
        let json = r#"{"Records":[{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":"k",
            "sequenceNumber":"4959","data":"SGk=","approximateArrivalTimestamp":1545084650.987},
            "eventSource":"aws:kinesis","eventVersion":"1.0",
            "eventID":"shardId-000000000006:4959","eventName":"aws:kinesis:record",
            "awsRegion":"eu-west-1","eventSourceARN":"arn:aws:kinesis:eu-west-1:1:stream/s"}]}"#;
        let records = records_of(serde_json::from_str(json).unwrap());
        assert_eq!(
            records,
            [StreamRecord {
                stream_arn: "arn:aws:kinesis:eu-west-1:1:stream/s".into(),
                shard_id: "shardId-000000000006".into(),
                sequence_number: "4959".into(),
                partition_key: "k".into(),
                arrived_at: "2018-12-17T22:10:50.987Z".parse().unwrap(),
                data: Bytes::from_static(b"Hi"),
            }]
        );
    }

    #[test]
    fn the_answer_is_what_lambda_reads() {
        let answer = report(BTreeSet::from(["4959".to_owned()]));
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            r#"{"batchItemFailures":[{"itemIdentifier":"4959"}]}"#
        );
    }
}
