//! One invocation: a batch of events in, the records that a retry may mend out.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use adtrack_proto::aggregate;
use adtrack_runtime::lambda::{
    BatchMetrics, BatchResponse, FailureStore, KinesisEvent, PoisonRecord, StreamRecord,
    records_of, report,
};
use bytes::Bytes;
use jiff::Timestamp;

use crate::decode::decode;
use crate::item::{Row, RowSettings};
use crate::store::EventTable;

/// The name under which failed records and metrics go.
pub const FUNCTION: &str = "kinesis-consumer";

/// Kept of the invocation's time for writing to the failure store and answering.
const RESERVE: Duration = Duration::from_secs(2);

/// Kept of it for the answer alone.
const ANSWER_RESERVE: Duration = Duration::from_millis(500);

/// The function.
#[derive(Debug, Clone)]
pub struct Handler {
    table: EventTable,
    failures: FailureStore,
    rows: RowSettings,
    metrics_namespace: String,
}

/// The rows of a batch, in the order of its records, so that a batch that is only written in part
/// is, if it can be, written up to some record. The same event twice is one row: `BatchWriteItem`
/// refuses a call that names a key twice.
#[derive(Debug, Default)]
struct Rows<'a> {
    rows: Vec<Row>,
    /// By id: the row's place, and where it came from.
    sources: HashMap<String, (usize, Vec<Source<'a>>)>,
    events: usize,
    /// Events that repeat one of the batch which stays, and differ from it in what counts.
    differing: usize,
}

/// Where an event came from: a user record of a Kinesis record.
#[derive(Debug)]
struct Source<'a> {
    carrier: &'a StreamRecord,
    sub_sequence_number: u32,
    data: Bytes,
}

impl Source<'_> {
    fn poison(&self, reason: String) -> PoisonRecord {
        self.carrier.poison_within(self.sub_sequence_number, self.data.clone(), reason)
    }
}

impl Handler {
    /// The function over `table` and `failures`, whose rows are as `rows` says, and whose metrics are in
    /// `metrics_namespace`.
    pub fn new(
        table: EventTable,
        failures: FailureStore,
        rows: RowSettings,
        metrics_namespace: String,
    ) -> Self {
        Self { table, failures, rows, metrics_namespace }
    }

    /// Stores the events of a batch and answers before `deadline`.
    pub async fn handle(&self, event: KinesisEvent, deadline: SystemTime) -> BatchResponse {
        let records = records_of(event);
        let (rows, mut poison_records) = self.rows_of(&records);
        let collapsed = rows.events - rows.rows.len();

        let write_deadline = write_deadline(deadline);
        let (unwritten, mut retry) = tokio::join!(
            self.table.write(&rows.rows, write_deadline),
            self.failures.keep(&poison_records, write_deadline),
        );

        let mut refused = Vec::new();
        for (row, reason) in &unwritten.refused {
            for source in rows.sources_of(row) {
                refused.push(source.poison(format!("DynamoDB refuses it: {reason}")));
            }
        }
        retry.extend(self.failures.keep(&refused, deadline - ANSWER_RESERVE).await);
        poison_records.extend(refused);

        let differing = rows.differing + unwritten.differing.len();
        if differing > 0 {
            let id = unwritten.differing.first().map(|row| row.id());
            tracing::warn!(differing, id, "repeats differ from the first of their id, which stays");
        }

        let unwritten = unwritten.retryable.iter().flat_map(|row| rows.sources_of(row));
        retry.extend(unwritten.map(|source| source.carrier.sequence_number.clone()));

        self.log(&records, poison_records.len(), &retry, collapsed, differing);
        report(retry)
    }

    fn log(
        &self,
        records: &[StreamRecord],
        failures: usize,
        retry: &BTreeSet<String>,
        collapsed: usize,
        differing: usize,
    ) {
        let metrics = BatchMetrics {
            namespace: &self.metrics_namespace,
            function: FUNCTION,
            records,
            failures,
            retries: retry.len(),
            differing_repeats: Some(differing),
        };
        println!("{}", metrics.to_emf(Timestamp::now()));
        tracing::debug!(
            records = records.len(),
            failures,
            retries = retry.len(),
            collapsed,
            "batch"
        );
    }

    fn rows_of<'a>(&self, records: &'a [StreamRecord]) -> (Rows<'a>, Vec<PoisonRecord>) {
        let stored_at = Timestamp::now();
        let mut rows = Rows::default();
        let mut poison_records = Vec::new();
        for record in records {
            let Some(user_records) = aggregate::user_records(&record.data) else {
                let reason = "an aggregate with the right checksum that is no protobuf";
                poison_records.push(record.poison(reason.to_owned()));
                continue;
            };
            for (sub_sequence_number, data) in (0..).zip(user_records) {
                let source = Source { carrier: record, sub_sequence_number, data };
                match decode(&source.data) {
                    Ok(event) => {
                        let (arrived_at, settings) = (record.arrived_at, self.rows);
                        rows.add(Row { event, arrived_at, stored_at, settings }, source);
                    }
                    Err(reason) => poison_records.push(source.poison(reason)),
                }
            }
        }
        (rows, poison_records)
    }
}

impl<'a> Rows<'a> {
    /// Adds a row, in place of one of the same event; but of those that are written once the first
    /// stays.
    fn add(&mut self, row: Row, source: Source<'a>) {
        self.events += 1;
        match self.sources.entry(row.id().to_owned()) {
            Entry::Occupied(mut known) => {
                let (place, sources) = known.get_mut();
                sources.push(source);
                if !row.is_written_once() {
                    self.rows[*place] = row;
                } else if row.differs_from(&self.rows[*place].item()) {
                    self.differing += 1;
                }
            }
            Entry::Vacant(new) => {
                new.insert((self.rows.len(), vec![source]));
                self.rows.push(row);
            }
        }
    }

    fn sources_of(&self, row: &Row) -> &[Source<'a>] {
        self.sources.get(row.id()).map_or(&[], |(_, sources)| sources)
    }
}

/// The reserve comes off, but never more than half of what is left of a short invocation.
fn write_deadline(deadline: SystemTime) -> SystemTime {
    let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
    deadline - RESERVE.min(left / 2)
}
