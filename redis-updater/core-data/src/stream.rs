//! The core-data stream of one region, in Amazon Kinesis.

use std::time::Duration;

use adtrack_runtime::kinesis::{self, Entry, PutOutcome, Timeouts};
use aws_config::{BehaviorVersion, Region};

use super::exit::{Exit, Failure};
use super::spool::SpooledRecord;

/// `PutRecords` usually takes tens of milliseconds. The limit is long, because Kinesis may still execute
/// a call that was given up, after a later record of the same program.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(3), call: Duration::from_secs(15) };

/// Error codes that a long-running service retries, because the SDK refreshes credentials. This command
/// reports them at once to the person at the terminal.
const CREDENTIALS: [&str; 2] = ["ExpiredTokenException", "SignatureDoesNotMatch"];

/// The stream of one region.
#[derive(Debug, Clone)]
pub struct Stream {
    /// The region's name.
    pub region: String,
    stream: kinesis::Stream,
}

/// Why a call failed as a whole.
#[derive(Debug)]
pub struct PutError {
    /// Whether a retry fails too, until somebody fixes the cause.
    pub permanent: bool,
    /// What failed, on which stream, why, and what to do.
    pub text: String,
}

impl Stream {
    /// Opens the stream `name` in each of `regions`; a region that is named twice counts once. Without
    /// regions, the AWS SDK's own chain decides.
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
        let streams = names.into_iter().map(|region| {
            let shared = shared.to_builder().region(Region::new(region.clone())).build();
            Self { region, stream: kinesis::Stream::new(&shared, name.to_owned(), TIMEOUTS) }
        });
        Ok(streams.collect())
    }

    /// Puts the records on the stream in one call.
    pub async fn put(&self, records: &[SpooledRecord]) -> Result<PutOutcome, PutError> {
        let entry = |record: &SpooledRecord| Entry {
            partition_key: record.program_id.as_str().to_owned(),
            data: record.json.clone().into_bytes(),
        };
        self.stream.put(records.iter().map(entry)).await.map_err(|error| self.put_error(&error))
    }

    fn put_error(&self, error: &kinesis::PutError) -> PutError {
        let permanent =
            error.permanent || error.unsent || CREDENTIALS.contains(&error.cause.as_str());
        let remedy = if permanent {
            "; check region, stream name, credentials and the permission kinesis:PutRecords"
        } else {
            ""
        };
        PutError {
            permanent,
            text: format!("stream {:?}: {}{remedy}", self.stream.name(), error.text),
        }
    }
}
