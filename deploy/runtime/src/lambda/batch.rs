//! A batch of Kinesis records as Lambda delivers it, and the response to it:
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html>.
//!
//! The types are our own, not those of `aws_lambda_events` 1.2, which reads an arrival time of `…650.5`
//! seconds as `…650.005`. Events of the AWS reference have no other timestamp, so it must be exact.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use adtrack_proto::failed_record::FailedRecord;

/// What Lambda passes to the function, without the members that adtrack does not need.
#[derive(Debug, Deserialize)]
pub struct KinesisEvent {
    #[serde(rename = "Records")]
    records: Vec<EventRecord>,
}

#[derive(Debug, Deserialize)]
struct EventRecord {
    kinesis: EventPayload,
    /// `{shard}:{sequence number}`.
    #[serde(rename = "eventID", default)]
    event_id: String,
    #[serde(rename = "eventSourceARN", default)]
    event_source_arn: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventPayload {
    sequence_number: String,
    #[serde(default)]
    partition_key: String,
    #[serde(deserialize_with = "base64")]
    data: Bytes,
    /// Seconds since the Unix epoch, with milliseconds as fraction.
    approximate_arrival_timestamp: f64,
}

fn base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom)
}

/// The response: `ReportBatchItemFailures`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    /// The records to retry. Lambda redelivers everything from the lowest of them on.
    pub batch_item_failures: Vec<BatchItemFailure>,
}

/// A record to retry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchItemFailure {
    /// Its sequence number.
    pub item_identifier: String,
}

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
    /// When Kinesis received it.
    pub arrived_at: Timestamp,
    /// The payload.
    pub data: Bytes,
}

impl StreamRecord {
    /// The record as one that can never succeed.
    pub fn poison(&self, reason: String) -> PoisonRecord {
        self.poison_within(0, self.data.clone(), reason)
    }

    /// One of its user records as one that can never succeed.
    pub fn poison_within(
        &self,
        sub_sequence_number: u32,
        data: Bytes,
        reason: String,
    ) -> PoisonRecord {
        PoisonRecord { carrier: self.clone(), sub_sequence_number, data, reason }
    }
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
    /// The form in which the failure store keeps it.
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

/// The records of an invocation, in the order of the shard.
pub fn records_of(event: KinesisEvent) -> Vec<StreamRecord> {
    event.records.into_iter().map(StreamRecord::from).collect()
}

impl From<EventRecord> for StreamRecord {
    fn from(record: EventRecord) -> Self {
        let shard = record.event_id.split_once(':').map_or("unknown-shard", |(shard, _)| shard);
        let seconds = record.kinesis.approximate_arrival_timestamp;
        #[expect(clippy::cast_possible_truncation, reason = "saturates, and is checked below")]
        let milliseconds = (seconds * 1_000.0).round() as i64;
        Self {
            stream_arn: record.event_source_arn,
            shard_id: shard.to_owned(),
            sequence_number: record.kinesis.sequence_number,
            partition_key: record.kinesis.partition_key,
            arrived_at: Timestamp::from_millisecond(milliseconds).unwrap_or_default(),
            data: record.kinesis.data,
        }
    }
}

/// The response that asks Lambda to retry these records.
pub fn report(sequence_numbers: BTreeSet<String>) -> BatchResponse {
    let batch_item_failures = sequence_numbers
        .into_iter()
        .map(|item_identifier| BatchItemFailure { item_identifier })
        .collect();
    BatchResponse { batch_item_failures }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_records_of_an_invocation() {
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
    fn keeps_the_fraction_of_an_arrival_time() {
        let time = |seconds: &str| {
            let json = format!(
                r#"{{"Records":[{{"kinesis":{{"sequenceNumber":"1","data":"",
                "approximateArrivalTimestamp":{seconds}}}}}]}}"#
            );
            records_of(serde_json::from_str(&json).unwrap())[0].arrived_at.to_string()
        };
        assert_eq!(time("1767323046.5"), "2026-01-02T03:04:06.5Z");
        assert_eq!(time("1767323046"), "2026-01-02T03:04:06Z");
        assert_eq!(time("1767323046.007"), "2026-01-02T03:04:06.007Z");
    }

    #[test]
    fn writes_the_response_that_lambda_reads() {
        let response = report(BTreeSet::from(["4959".to_owned()]));
        assert_eq!(
            serde_json::to_string(&response).unwrap(),
            r#"{"batchItemFailures":[{"itemIdentifier":"4959"}]}"#
        );
    }
}
