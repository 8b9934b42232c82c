//! Handles one invocation: takes a batch of core data, and returns the records to retry.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use adtrack_runtime::backoff::Backoff;
use adtrack_runtime::lambda::{
    BatchMetrics, BatchResponse, FailureStore, KinesisEvent, Poison, records_of, report,
};
use adtrack_runtime::log_sampling::LogSampling;
use adtrack_runtime::telemetry;
use jiff::Timestamp;

use crate::decode::{Updates, bounds_of_stream};
use crate::store::{ProgramStore, StoreOutcome};

/// The function's name in failed records and metrics.
pub const FUNCTION: &str = "redis-updater";

/// The part of the invocation's time that is reserved for the response.
const RESPONSE_RESERVE: Duration = Duration::from_millis(500);

/// The most lines that a batch logs about suspicious members.
const MAX_WARNINGS: usize = 20;

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
        let mut updates = Updates::default();
        let mut poison = Poison::default();
        let of_stream = bounds_of_stream(&records, self.epoch, Timestamp::now());
        for record in &records {
            updates.add_record(record, self.epoch, &of_stream, &mut poison);
        }
        for (program_id, warning) in updates.warnings().take(MAX_WARNINGS) {
            tracing::warn!(
                program = program_id.as_str(),
                warning,
                "core data with a suspicious member"
            );
        }
        let poison_records = poison.take();

        let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
        let work = async {
            tokio::join!(
                self.store.store_bounded(&updates.updates),
                self.failures.keep(&poison_records, deadline)
            )
        };
        let result = tokio::time::timeout(left.saturating_sub(RESPONSE_RESERVE), work).await;
        let mut problems = Vec::new();
        let retry: BTreeSet<String> = match result {
            Ok((outcomes, mut retry)) => {
                for (outcome, sequence_number) in outcomes.into_iter().zip(updates.sequence_numbers)
                {
                    match outcome {
                        StoreOutcome::Stored | StoreOutcome::Superseded => {}
                        StoreOutcome::Failed(problem) => {
                            problems.push(problem);
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

        self.on_stored(&problems, deadline).await;
        let metrics = BatchMetrics {
            namespace: &self.metrics_namespace,
            function: FUNCTION,
            records: &records,
            failures: poison.count(),
            retries: retry.len(),
            differing_repeats: None,
        };
        telemetry::write_line(&metrics.to_emf(Timestamp::now()));
        tracing::debug!(records = records.len(), retries = retry.len(), "batch");
        report(retry)
    }

    /// Logs a failure now and then, and waits after it, longer each time: Lambda invokes again at once.
    async fn on_stored(&self, problems: &[String], deadline: SystemTime) {
        let Some(problem) = problems.first() else {
            self.failed_batches.store(0, Ordering::Relaxed);
            return;
        };
        let failures = self.failed_batches.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if FAILURE_LOG.includes(failures) {
            tracing::error!(
                updates = problems.len(),
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
