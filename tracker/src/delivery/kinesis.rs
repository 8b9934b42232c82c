//! The event stream on Amazon Kinesis.

use std::time::Duration;

use adtrack_proto::aggregate;
use adtrack_runtime::kinesis::{Entry, PutError, PutOutcome, Stream, Timeouts};
use aws_config::SdkConfig;

use super::batch::{Batch, StreamRecord};
use super::receipt::Label;

/// `PutRecords` usually takes tens of milliseconds. Short, so that a full journal accepts events again within
/// 3 s after the stream recovers, even if every event is in a call that never completes.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(1), call: Duration::from_secs(2) };

/// A client of the event stream.
#[derive(Debug, Clone)]
pub struct EventStream(Stream);

impl EventStream {
    /// A client of the stream `name`. Makes no call.
    pub fn new(shared: &SdkConfig, name: String) -> Self {
        Self(Stream::new(shared, name, TIMEOUTS))
    }

    /// Sends the batch in one call. Each record with events gets another partition key in every attempt, its receipt:
    /// aggregates spread evenly over the shards, and one that a throttled shard rejected probably goes to another
    /// next time.
    pub async fn put(&self, batch: &Batch, attempt: u32) -> Result<PutOutcome, PutError> {
        self.0.put(batch.records.iter().map(|record| entry(record, attempt))).await
    }
}

/// The key is the same outside and inside, as [`Aggregate::encode`](adtrack_proto::aggregate::Aggregate::encode)
/// asks.
fn entry(record: &StreamRecord, attempt: u32) -> Entry {
    let partition_key = record.label.partition_key(attempt);
    let data = match &record.label {
        Label::Notice(notice) => aggregate::encode_notice(&partition_key, notice),
        _ => record.aggregate.encode(&partition_key),
    };
    Entry { data, partition_key }
}
