//! `PutRecords`, for everything that writes to a stream. Client settings, error classes and partial
//! failures are handled here; callers decide whether and when to retry.

use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::error::{ConnectorError, ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};

/// Error codes that only an operator can fix: no such stream, no permission, a wrong key.
const PERMANENT: [&str; 12] = [
    "AccessDeniedException",
    "IncompleteSignature",
    "InvalidArgumentException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "KMSAccessDeniedException",
    "KMSDisabledException",
    "KMSNotFoundException",
    "KMSOptInRequired",
    "ResourceNotFoundException",
    "UnrecognizedClientException",
    "ValidationException",
];
/// The error code of a record that the response does not account for.
const NO_RESULT: &str = "NoResult";

/// Timeouts of a call.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For connecting.
    pub connect: Duration,
    /// For the whole call. Kinesis may still execute a call that was given up.
    pub call: Duration,
}

/// A stream to write to.
#[derive(Debug, Clone)]
pub struct Stream {
    client: Client,
    name: String,
}

/// A record to put on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// 1 to 256 characters. Its hash decides the shard.
    pub partition_key: String,
    /// What readers get: at most 1 MiB, including the key.
    pub data: Vec<u8>,
}

/// What a call did with each of its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutOutcome {
    /// For each record, in order: `None` if the stream has it, otherwise the error code.
    rejections: Vec<Option<String>>,
}

/// Why a call failed as a whole.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct PutError {
    /// Whether a retry fails too, until an operator fixes the cause: no such stream, no permission.
    pub permanent: bool,
    /// Whether the call was never sent: no credentials, no endpoint for the region, and the like.
    pub unsent: bool,
    /// A short name for metrics: the service's error code, `timeout` or `connection`.
    pub cause: String,
    /// What failed and why, in one line.
    pub text: String,
}

impl Stream {
    /// Opens the stream `name`. The SDK's retries are off: they would repeat whole calls, including the
    /// records that were taken, and hide from the caller that the stream is failing.
    pub fn new(shared: &SdkConfig, name: String, timeouts: Timeouts) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(timeouts.connect)
            .operation_timeout(timeouts.call)
            .build();
        let config = aws_sdk_kinesis::config::Builder::from(shared)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .build();
        Self { client: Client::from_conf(config), name }
    }

    /// The stream's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One `PutRecords`: at most 500 records and 5 MiB.
    pub async fn put(
        &self,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<PutOutcome, PutError> {
        let entries = entries.into_iter().map(|entry| {
            PutRecordsRequestEntry::builder()
                .partition_key(entry.partition_key)
                .data(Blob::new(entry.data))
                .build()
        });
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(|error| PutError {
            permanent: true,
            unsent: true,
            cause: "request".to_owned(),
            text: error.to_string(),
        })?;
        let count = entries.len();
        let request = self.client.put_records().stream_name(&self.name).set_records(Some(entries));
        let output = request.send().await.map_err(|error| PutError::of(&error))?;
        Ok(PutOutcome::of(output.records, count))
    }
}

impl PutOutcome {
    /// Reads the response to a call with `count` records. The stream has a record only if the response
    /// names its sequence number. Kinesis' responses have an entry for each record, in the same order; with
    /// any other number of entries, none says which record it is about.
    fn of(results: Vec<PutRecordsResultEntry>, count: usize) -> Self {
        if results.len() != count {
            return Self { rejections: vec![Some(NO_RESULT.to_owned()); count] };
        }
        let rejection = |result: PutRecordsResultEntry| match result {
            PutRecordsResultEntry { error_code: Some(code), .. } => Some(code),
            PutRecordsResultEntry { sequence_number: Some(number), .. } if !number.is_empty() => {
                None
            }
            _ => Some(NO_RESULT.to_owned()),
        };
        Self { rejections: results.into_iter().map(rejection).collect() }
    }

    /// See [`Self::rejections`].
    pub fn new(rejections: Vec<Option<String>>) -> Self {
        Self { rejections }
    }

    /// Whether the stream has the record at `position` of the call.
    pub fn is_delivered(&self, position: usize) -> bool {
        matches!(self.rejections.get(position), Some(None))
    }

    /// For each record, in order: `None` if the stream has it, otherwise the error code.
    pub fn rejections(&self) -> &[Option<String>] {
        &self.rejections
    }

    /// The error codes of the records that the stream does not have.
    pub fn error_codes(&self) -> impl Iterator<Item = &str> {
        self.rejections.iter().flatten().map(String::as_str)
    }
}

impl PutError {
    fn of<E, R>(error: &SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: Debug + 'static,
    {
        let code = error.code();
        let text = match (code, error.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            (None, _) => causes(error),
        };
        let cause = match error {
            SdkError::TimeoutError(_) => "timeout",
            SdkError::DispatchFailure(_) => "connection",
            _ => code.unwrap_or("response"),
        };
        Self {
            permanent: code.is_some_and(|code| PERMANENT.contains(&code)),
            unsent: is_unsent(error),
            cause: cause.to_owned(),
            text,
        }
    }
}

fn is_unsent<E, R>(error: &SdkError<E, R>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => true,
        SdkError::DispatchFailure(failure) => {
            // A broken connection is `other` too, but the SDK gives it an error kind: transient.
            let kind = failure.as_connector_error().and_then(ConnectorError::as_other);
            failure.is_user() || failure.is_other() && kind.is_none()
        }
        _ => false,
    }
}

/// The error and its causes, in one line.
fn causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(sequence_number: Option<&str>, error_code: Option<&str>) -> PutRecordsResultEntry {
        PutRecordsResultEntry::builder()
            .set_sequence_number(sequence_number.map(str::to_owned))
            .set_error_code(error_code.map(str::to_owned))
            .build()
    }

    #[test]
    fn counts_only_records_with_a_sequence_number_as_delivered() {
        let results = vec![
            result(Some("49590"), None),
            result(None, Some("ProvisionedThroughputExceededException")),
            result(None, None),
            result(Some(""), None),
            result(Some("49591"), Some("InternalFailure")),
        ];
        let outcome = PutOutcome::of(results, 5);
        let delivered: Vec<_> = (0..6).map(|position| outcome.is_delivered(position)).collect();
        assert_eq!(delivered, [true, false, false, false, false, false]);
        let codes: Vec<_> = outcome.error_codes().collect();
        let throttled = "ProvisionedThroughputExceededException";
        assert_eq!(codes, [throttled, NO_RESULT, NO_RESULT, "InternalFailure"]);
    }

    #[test]
    fn counts_nothing_as_delivered_if_the_response_has_another_number_of_records() {
        let results = vec![result(Some("49590"), None), result(Some("49591"), None)];
        for count in [1, 3] {
            let outcome = PutOutcome::of(results.clone(), count);
            assert_eq!(outcome.error_codes().collect::<Vec<_>>(), vec![NO_RESULT; count]);
        }
    }
}
