//! Handles one invocation: takes a batch of core data, and returns the records to retry.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use adtrack_runtime::lambda::{
    BatchMetrics, BatchResponse, FailureStore, KinesisEvent, records_of, report,
};
use adtrack_runtime::telemetry;
use jiff::Timestamp;

use crate::decode::decode;
use crate::store::{ProgramStore, StoreOutcome};

/// The function's name in failed records and metrics.
pub const FUNCTION: &str = "redis-updater";

/// The part of the invocation's time that is reserved for the response.
const RESPONSE_RESERVE: Duration = Duration::from_millis(500);

/// The Lambda function `redis-updater`.
pub struct Handler {
    store: ProgramStore,
    failures: FailureStore,
    epoch: u64,
    metrics_namespace: String,
}

impl Handler {
    /// Writes programs to `store` and invalid records to `failures`. `epoch` is that of the core-data
    /// stream; metrics go to `metrics_namespace`.
    pub fn new(
        store: ProgramStore,
        failures: FailureStore,
        epoch: u64,
        metrics_namespace: String,
    ) -> Self {
        Self { store, failures, epoch, metrics_namespace }
    }

    /// Stores and publishes the updates of a batch, and responds before `deadline`.
    pub async fn handle(&self, event: KinesisEvent, deadline: SystemTime) -> BatchResponse {
        let records = records_of(event);
        let mut updates = Vec::with_capacity(records.len());
        let mut carriers = Vec::with_capacity(records.len());
        let mut poison_records = Vec::new();
        for record in &records {
            match decode(&record.data, self.epoch, &record.sequence_number) {
                Ok(update) => {
                    updates.push(update);
                    carriers.push(record.sequence_number.clone());
                }
                Err(error) => poison_records.push(record.poison(error.to_string())),
            }
        }

        let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
        let work = async {
            tokio::join!(self.store.store(&updates), self.failures.keep(&poison_records, deadline))
        };
        let result = tokio::time::timeout(left.saturating_sub(RESPONSE_RESERVE), work).await;
        let mut superseded = 0;
        let retry: BTreeSet<String> = match result {
            Ok((outcomes, mut retry)) => {
                for (outcome, sequence_number) in outcomes.into_iter().zip(carriers) {
                    match outcome {
                        StoreOutcome::Stored => {}
                        StoreOutcome::Superseded => superseded += 1,
                        StoreOutcome::Failed(error) => {
                            tracing::warn!(sequence_number, error, "an update was not stored");
                            retry.insert(sequence_number);
                        }
                    }
                }
                retry
            }
            // The outcome of every record is unknown; retrying them all is harmless.
            Err(_) => {
                tracing::error!(
                    records = records.len(),
                    "out of time; the batch is left for a retry"
                );
                records.iter().map(|record| record.sequence_number.clone()).collect()
            }
        };

        let metrics = BatchMetrics {
            namespace: &self.metrics_namespace,
            function: FUNCTION,
            records: &records,
            failures: poison_records.len(),
            retries: retry.len(),
            differing_repeats: None,
        };
        telemetry::write_line(&metrics.to_emf(Timestamp::now()));
        tracing::debug!(records = records.len(), superseded, retries = retry.len(), "batch");
        report(retry)
    }
}
