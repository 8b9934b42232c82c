//! The event stream on Amazon Kinesis.

use std::time::Duration;

use adtrack_runtime::kinesis_errors::is_lasting;
use aws_config::SdkConfig;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;

use super::batch::Batch;

/// For one `PutRecords`, which takes tens of milliseconds as a rule. Low enough that a full journal
/// takes events again within 3 s of the stream's return also where all its events are in calls that
/// will never be answered.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// The stream.
#[derive(Debug, Clone)]
pub struct KinesisStream {
    client: Client,
    name: String,
}

/// What one `PutRecords` did.
#[derive(Debug)]
pub struct Put {
    /// For each record, in order: whether the stream has it.
    pub acknowledged: Vec<bool>,
    /// The error codes of the others.
    pub error_codes: Vec<String>,
}

/// Why a `PutRecords` failed as a whole.
#[derive(Debug)]
pub struct PutError {
    /// Whether it will fail again until a person does something: no such stream, no permission.
    pub lasting: bool,
    /// A short name for metrics: the service's error code, `timeout` or `connection`.
    pub cause: String,
    /// The whole story, for the log.
    pub text: String,
}

impl KinesisStream {
    /// The stream `name`. The SDK does not retry: it would repeat whole requests, and hide from
    /// the producer that the stream is ill.
    pub fn new(shared: &SdkConfig, name: String) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(1))
            .operation_timeout(CALL_TIMEOUT)
            .build();
        let config = aws_sdk_kinesis::config::Builder::from(shared)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .build();
        Self { client: Client::from_conf(config), name }
    }

    /// One `PutRecords`.
    pub async fn put(&self, batch: &Batch) -> Result<Put, PutError> {
        let entries = batch.records.iter().map(|record| {
            PutRecordsRequestEntry::builder()
                .partition_key(record.partition_key.to_string())
                .data(Blob::new(&*record.data))
                .build()
        });
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(|error| PutError {
            lasting: true,
            cause: "request".to_owned(),
            text: error.to_string(),
        })?;
        let request = self.client.put_records().stream_name(&self.name).set_records(Some(entries));
        let output = request.send().await.map_err(|error| PutError {
            lasting: error.code().is_some_and(is_lasting),
            cause: cause(&error),
            text: DisplayErrorContext(&error).to_string(),
        })?;
        let acknowledged = output.records.iter().map(|entry| entry.error_code.is_none()).collect();
        let error_codes = output.records.into_iter().filter_map(|entry| entry.error_code).collect();
        Ok(Put { acknowledged, error_codes })
    }
}

fn cause<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    match error {
        SdkError::TimeoutError(_) => "timeout".to_owned(),
        SdkError::DispatchFailure(_) => "connection".to_owned(),
        _ => error.code().unwrap_or("response").to_owned(),
    }
}
