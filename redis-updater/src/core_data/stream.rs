//! The core-data stream of one region, on Amazon Kinesis.

use std::error::Error;
use std::time::Duration;

use adtrack_runtime::kinesis_errors::is_lasting;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::error::{ConnectorError, ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;

use super::spool::Spooled;
use super::{Exit, Failure};

/// For one `PutRecords`, which takes tens of milliseconds as a rule. Long: a call that was given up
/// may still be carried out, after a later record of the same program.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Errors of the credentials, which a service waits out for the SDK to refresh them: a person who
/// waits at a terminal is told at once.
const CREDENTIALS: [&str; 2] = ["ExpiredTokenException", "SignatureDoesNotMatch"];

/// The stream of one region.
#[derive(Debug, Clone)]
pub struct Stream {
    /// The region's name.
    pub region: String,
    client: Client,
    name: String,
}

/// What one `PutRecords` did: for each record none where the stream has it, else the error's code.
pub type Put = Vec<Option<String>>;

/// Why a `PutRecords` failed as a whole.
#[derive(Debug)]
pub struct PutError {
    /// Whether it will fail again until a person does something.
    pub lasting: bool,
    /// The whole story.
    pub text: String,
}

impl Stream {
    /// The stream `name` in each of `regions`, once however often it is named; where none is, in
    /// the region of the SDK's own chain.
    pub async fn open(regions: &[String], name: &str) -> Result<Vec<Self>, Failure> {
        let shared = aws_config::load_defaults(BehaviorVersion::latest()).await;
        let mut names: Vec<String> = Vec::new();
        for region in regions {
            if !names.contains(region) {
                names.push(region.clone());
            }
        }
        if let (true, Some(region)) = (names.is_empty(), shared.region()) {
            names.push(region.to_string());
        }
        if names.is_empty() {
            let message = "no region is set: name it with --region or AWS_REGION";
            return Err(Failure::new(Exit::Usage, message));
        }
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_timeout(CALL_TIMEOUT)
            .build();
        let streams = names.into_iter().map(|region| {
            let config = aws_sdk_kinesis::config::Builder::from(&shared)
                .region(Region::new(region.clone()))
                // The SDK would repeat whole calls, with the records that were taken.
                .retry_config(RetryConfig::disabled())
                .timeout_config(timeouts.clone())
                .build();
            Self { region, client: Client::from_conf(config), name: name.to_owned() }
        });
        Ok(streams.collect())
    }

    /// One `PutRecords`.
    pub async fn put(&self, records: &[Spooled]) -> Result<Put, PutError> {
        let entries = records.iter().map(|record| {
            PutRecordsRequestEntry::builder()
                .partition_key(record.program_id.as_str())
                .data(Blob::new(record.json.as_bytes()))
                .build()
        });
        let entries = entries
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| PutError { lasting: true, text: error.to_string() })?;
        let request = self.client.put_records().stream_name(&self.name).set_records(Some(entries));
        let output = request.send().await.map_err(|error| self.error(&error))?;
        let mut put: Put = output.records.into_iter().map(|entry| entry.error_code).collect();
        // What it does not answer for is not known to be there.
        put.resize(records.len(), Some("no answer for this record".to_owned()));
        Ok(put)
    }

    fn error<E, R>(&self, error: &SdkError<E, R>) -> PutError
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        let code = error.code();
        // No credentials, no endpoint for this region, and the like: no call was made.
        let unsendable = match error {
            SdkError::ConstructionFailure(_) => true,
            SdkError::DispatchFailure(failure) => {
                // A connection that breaks is `other` too, but the SDK says that it is transient.
                let kind = failure.as_connector_error().and_then(ConnectorError::as_other);
                failure.is_user() || failure.is_other() && kind.is_none()
            }
            _ => false,
        };
        let lasting =
            unsendable || code.is_some_and(|code| is_lasting(code) || CREDENTIALS.contains(&code));
        let remedy = if lasting {
            "; see region, stream name, credentials and the permission kinesis:PutRecords"
        } else {
            ""
        };
        let text = match (code, error.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            (None, _) => causes(error),
        };
        PutError { lasting, text: format!("stream {:?}: {text}{remedy}", self.name) }
    }
}

/// The error and what caused it, in one line.
fn causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ").split_whitespace().collect::<Vec<_>>().join(" ")
}
