//! Handles one invocation: takes a batch of events, and returns the records to retry.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use adtrack_runtime::lambda::{
    BatchMetrics, BatchResponse, FailureStore, KinesisEvent, Poison, StreamRecord, UserRecord,
    records_of, report,
};
use adtrack_runtime::telemetry;
use jiff::Timestamp;

use crate::decode::decode;
use crate::item::{Row, RowSettings};
use crate::row_types::RowTypes;
use crate::store::{EventTable, Unwritten};

/// The function's name in failed records and metrics.
pub const FUNCTION: &str = "kinesis-consumer";

/// Time before the deadline reserved for the failure store and the response.
const RESERVE: Duration = Duration::from_secs(2);

/// Time before the deadline reserved for the response alone.
pub(crate) const RESPONSE_RESERVE: Duration = Duration::from_millis(500);

/// Turns batches of events into rows of the table.
#[derive(Debug, Clone)]
pub struct Handler {
    table: EventTable,
    failures: FailureStore,
    rows: RowSettings,
    row_types: RowTypes,
    metrics_namespace: String,
}

/// The rows of a batch. They are in record order, so that a partial write is, if possible, a prefix of the
/// batch. Copies of an event become one row, because `BatchWriteItem` rejects a call that has a key twice.
#[derive(Debug, Default)]
struct Rows<'a> {
    rows: Vec<Row>,
    /// By id: the row's index in `rows`, and the records that it came from.
    sources: HashMap<String, (usize, Vec<UserRecord<'a>>)>,
    /// Repeated events that differ from the others of their id in a field that must not change.
    differing: usize,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Stored {
    /// User records in the failure store.
    pub failures: usize,
    /// Sequence numbers of the records to retry.
    pub retry: BTreeSet<String>,
    /// Repeats that differ from the first event of their id, within the batch or from the table's row.
    pub differing: usize,
}

impl Handler {
    /// Writes rows of `row_types` to `table` and invalid records to `failures`; metrics go to
    /// `metrics_namespace`.
    pub fn new(
        table: EventTable,
        failures: FailureStore,
        rows: RowSettings,
        row_types: RowTypes,
        metrics_namespace: String,
    ) -> Self {
        Self { table, failures, rows, row_types, metrics_namespace }
    }

    /// Stores the events of a batch, reports metrics, and responds before `deadline`.
    pub async fn handle(&self, event: KinesisEvent, deadline: SystemTime) -> BatchResponse {
        let records = records_of(event);
        let stored = self.store(&records, deadline).await;

        let (failures, retries) = (stored.failures, stored.retry.len());
        let metrics = BatchMetrics {
            namespace: &self.metrics_namespace,
            function: FUNCTION,
            records: &records,
            failures,
            retries,
            differing_repeats: Some(stored.differing),
        };
        telemetry::write_line(&metrics.to_emf(Timestamp::now()));
        tracing::debug!(records = records.len(), failures, retries, "batch");
        report(stored.retry)
    }

    /// Stores the events of `records` before `deadline`.
    pub async fn store(&self, records: &[StreamRecord], deadline: SystemTime) -> Stored {
        let (rows, mut poison) = self.rows_of(records);

        let write_deadline = write_deadline(SystemTime::now(), deadline);
        let invalid = poison.take();
        let (unwritten, mut retry) = tokio::join!(
            self.table.write(&rows.rows, write_deadline),
            self.failures.keep(&invalid, write_deadline),
        );

        for (row, reason) in &unwritten.refused {
            for source in rows.sources_of(row) {
                poison.add(source, format!("DynamoDB refuses it: {reason}"));
            }
        }
        retry.extend(self.failures.keep(&poison.take(), deadline - RESPONSE_RESERVE).await);
        retry.extend(rows.retryable_sequence_numbers(&unwritten));

        let differing = rows.differing + unwritten.differing.len();
        if let Some(row) = unwritten.differing.first() {
            let id = row.id();
            tracing::warn!(
                differing,
                id,
                "repeats differ from the first of their id, which is kept"
            );
        }
        Stored { failures: poison.count(), retry, differing }
    }

    fn rows_of<'a>(&self, records: &'a [StreamRecord]) -> (Rows<'a>, Poison<'a>) {
        let stored_at = Timestamp::now();
        let mut rows = Rows::default();
        let mut poison = Poison::default();
        for record in records {
            let user_records = match UserRecord::all_of(record) {
                Ok(user_records) => user_records,
                Err(error) => {
                    poison.add(&UserRecord::whole(record), error.to_string());
                    continue;
                }
            };
            for user_record in user_records {
                match decode(&user_record.data) {
                    Ok(event) => {
                        let (arrived_at, settings) = (record.arrived_at, self.rows);
                        let row =
                            Row::new(event, &user_record.data, arrived_at, stored_at, settings);
                        if self.row_types.include(&row) {
                            rows.add(row, user_record);
                        }
                    }
                    Err(error) => poison.add(&user_record, error.to_string()),
                }
            }
        }
        (rows, poison)
    }
}

impl<'a> Rows<'a> {
    /// Adds a row, replacing an earlier one of the same event. Rows that are written once are combined
    /// instead.
    fn add(&mut self, row: Row, source: UserRecord<'a>) {
        match self.sources.entry(row.id().to_owned()) {
            Entry::Occupied(mut known) => {
                let (index, sources) = known.get_mut();
                sources.push(source);
                let earlier = &mut self.rows[*index];
                if !row.is_written_once() {
                    *earlier = row;
                    return;
                }
                if row.differs_from(&earlier.item()) {
                    self.differing += 1;
                }
                earlier.add_copy(row);
            }
            Entry::Vacant(new) => {
                new.insert((self.rows.len(), vec![source]));
                self.rows.push(row);
            }
        }
    }

    fn retryable_sequence_numbers(&self, unwritten: &Unwritten<'_>) -> Vec<String> {
        let sources = unwritten.retryable.iter().flat_map(|row| self.sources_of(row));
        sources.map(|source| source.kinesis_record.sequence_number.clone()).collect()
    }

    fn sources_of(&self, row: &Row) -> &[UserRecord<'a>] {
        self.sources.get(row.id()).map_or(&[], |(_, sources)| sources)
    }
}

/// Subtracts the reserve, but at most half of the time left.
pub(crate) fn write_deadline(now: SystemTime, deadline: SystemTime) -> SystemTime {
    let left = deadline.duration_since(now).unwrap_or_default();
    deadline - RESERVE.min(left / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserves_two_seconds_but_at_most_half_of_the_time_left() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        for (left, expected) in [(20, 18), (4, 2), (2, 1), (0, 0)] {
            let deadline = write_deadline(now, now + Duration::from_secs(left));
            assert_eq!(deadline, now + Duration::from_secs(expected), "{left} s left");
        }
        let past = now - Duration::from_secs(5);
        assert_eq!(write_deadline(now, past), past);
    }
}
