//! Handles one invocation: takes a batch of events, and returns the records to retry.

use std::collections::BTreeSet;
use std::time::SystemTime;

use adtrack_runtime::lambda::{
    BatchMetrics, BatchResponse, FailureStore, KinesisEvent, StreamRecord, records_of, report,
};
use adtrack_runtime::telemetry;
use jiff::Timestamp;

use super::batch::{Batch, File};
use super::store::Archive;
use crate::handler::{RESPONSE_RESERVE, write_deadline};

/// The function's name in failed records and metrics.
pub const FUNCTION: &str = "archiver";

/// Writes batches of events to the archive.
#[derive(Debug, Clone)]
pub struct Handler {
    archive: Archive,
    failures: FailureStore,
    metrics_namespace: String,
}

impl Handler {
    /// Writes events to `archive` and invalid records to `failures`; metrics go to `metrics_namespace`.
    pub fn new(archive: Archive, failures: FailureStore, metrics_namespace: String) -> Self {
        Self { archive, failures, metrics_namespace }
    }

    /// Archives the events of a batch, and responds before `deadline`.
    pub async fn handle(&self, event: KinesisEvent, deadline: SystemTime) -> BatchResponse {
        let records = records_of(event);
        let (retry, failures) = match Batch::of(&records) {
            Ok(batch) => self.store(&records, batch, deadline).await,
            Err(error) => {
                let records_left = records.len();
                tracing::error!(%error, records_left, "a batch cannot be written as Parquet; left for a retry");
                (all(&records), 0)
            }
        };
        let metrics = BatchMetrics {
            namespace: &self.metrics_namespace,
            function: FUNCTION,
            records: &records,
            failures,
            retries: retry.len(),
            differing_repeats: None,
        };
        telemetry::write_line(&metrics.to_emf(Timestamp::now()));
        report(retry)
    }

    /// Stores a batch. Returns the sequence numbers of the records to retry, and the number of user records that can
    /// never succeed.
    async fn store(
        &self,
        records: &[StreamRecord],
        mut batch: Batch<'_>,
        deadline: SystemTime,
    ) -> (BTreeSet<String>, usize) {
        let raw_deadline = write_deadline(SystemTime::now(), deadline);
        let invalid = batch.poison.take();
        let (raw, mut retry) = tokio::join!(
            self.archive.put_all(&batch.raw, raw_deadline),
            self.failures.keep(&invalid, raw_deadline),
        );
        if raw.is_empty() {
            let receipts = self.archive.put_all(&batch.receipts, deadline - RESPONSE_RESERVE).await;
            retry.extend(receipts.into_iter().flat_map(sequence_numbers));
        } else {
            // No record has a receipt before all rows of the batch are there.
            retry.extend(all(records));
        }
        let (failures, retries) = (batch.poison.count(), retry.len());
        let Batch { events, raw, receipts, .. } = batch;
        let bytes: usize = raw.iter().chain(&receipts).map(|file| file.bytes.len()).sum();
        tracing::debug!(
            records = records.len(),
            events,
            failures,
            retries,
            hours = raw.len(),
            bytes,
            "batch"
        );
        (retry, failures)
    }
}

fn all(records: &[StreamRecord]) -> BTreeSet<String> {
    records.iter().map(|record| record.sequence_number.clone()).collect()
}

fn sequence_numbers(file: &File<'_>) -> impl Iterator<Item = String> {
    file.sequence_numbers.iter().map(|number| (*number).to_owned())
}
