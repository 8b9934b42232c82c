//! Handles one invocation: takes a batch of core data, and returns the records to retry.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use adtrack_runtime::backoff::Backoff;
use adtrack_runtime::lambda::{
    BatchMetrics, BatchResponse, FailureStore, KinesisEvent, records_of, report,
};
use adtrack_runtime::log_sampling::LogSampling;
use adtrack_runtime::telemetry;
use jiff::Timestamp;

use crate::decode::{bounds_of_stream, decode_bounded};
use crate::store::{ProgramStore, StoreOutcome};

/// The function's name in failed records and metrics.
pub const FUNCTION: &str = "redis-updater";

/// The part of the invocation's time that is reserved for the response.
const RESPONSE_RESERVE: Duration = Duration::from_millis(500);

/// How long a batch that was not stored, in part or as a whole, is held back before it is reported.
const BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(100), ceiling: Duration::from_secs(5) };
/// With the ceiling above, one line in about two minutes.
const FAILURE_LOG: LogSampling = LogSampling { first: 3, every: 50 };

/// The Lambda function `redis-updater`.
pub struct Handler {
    store: ProgramStore,
    failures: FailureStore,
    epoch: u64,
    metrics_namespace: String,
    /// Batches in a row that were not stored as a whole.
    failed_batches: AtomicU32,
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
        Self { store, failures, epoch, metrics_namespace, failed_batches: AtomicU32::new(0) }
    }

    /// Stores and publishes the updates of a batch, and responds before `deadline`.
    pub async fn handle(&self, event: KinesisEvent, deadline: SystemTime) -> BatchResponse {
        let records = records_of(event);
        let mut updates = Vec::with_capacity(records.len());
        let mut carriers = Vec::with_capacity(records.len());
        let mut poison_records = Vec::new();
        let of_stream = bounds_of_stream(&records, self.epoch, Timestamp::now());
        for record in &records {
            match decode_bounded(record, self.epoch, &of_stream) {
                Ok(update) => {
                    updates.push(update);
                    carriers.push(record.sequence_number.clone());
                }
                Err(error) => poison_records.push(record.poison(error.to_string())),
            }
        }

        let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
        let work = async {
            tokio::join!(
                self.store.store_bounded(&updates),
                self.failures.keep(&poison_records, deadline)
            )
        };
        let result = tokio::time::timeout(left.saturating_sub(RESPONSE_RESERVE), work).await;
        let (mut superseded, mut failed, mut problem) = (0, 0_usize, None);
        let retry: BTreeSet<String> = match result {
            Ok((outcomes, mut retry)) => {
                for (outcome, sequence_number) in outcomes.into_iter().zip(carriers) {
                    match outcome {
                        StoreOutcome::Stored => {}
                        StoreOutcome::Superseded => superseded += 1,
                        StoreOutcome::Failed(error) => {
                            failed += 1;
                            problem.get_or_insert(error);
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

        self.on_stored(failed, problem, deadline).await;
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

    /// Logs a failure now and then, and waits after it, longer each time: Lambda invokes again at once.
    async fn on_stored(&self, failed: usize, problem: Option<String>, deadline: SystemTime) {
        let Some(problem) = problem else {
            self.failed_batches.store(0, Ordering::Relaxed);
            return;
        };
        let failures = self.failed_batches.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if FAILURE_LOG.includes(failures) {
            tracing::error!(
                updates = failed,
                batches = failures,
                error = problem,
                "updates were not stored; they are left for a retry"
            );
        }
        let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
        tokio::time::sleep(BACKOFF.delay(failures).min(left.saturating_sub(RESPONSE_RESERVE)))
            .await;
    }
}
