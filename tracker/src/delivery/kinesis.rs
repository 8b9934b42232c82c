//! The event stream on Amazon Kinesis.

use std::time::Duration;

use adtrack_runtime::kinesis::{Entry, PutError, PutOutcome, Stream, Timeouts};
use aws_config::SdkConfig;

use super::batch::Batch;

/// `PutRecords` usually takes tens of milliseconds. Low enough that a full journal takes events again within
/// 3 s of the stream's return, even if all its events are in calls that will never get a response.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(1), call: Duration::from_secs(2) };

/// The event stream.
#[derive(Debug, Clone)]
pub struct EventStream(Stream);

impl EventStream {
    /// The stream `name`.
    pub fn new(shared: &SdkConfig, name: String) -> Self {
        Self(Stream::new(shared, name, TIMEOUTS))
    }

    /// Sends the batch in one call.
    pub async fn put(&self, batch: &Batch) -> Result<PutOutcome, PutError> {
        let entry = |record: &super::batch::Record| Entry {
            partition_key: record.partition_key.to_string(),
            data: record.data.to_vec(),
        };
        self.0.put(batch.records.iter().map(entry)).await
    }
}
