//! One invocation: a batch of events in, the records that a retry may mend out.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use adtrack_proto::aggregate;
use adtrack_proto::event::TrackingEvent;
use adtrack_runtime::lambda::{
    BatchMetrics, BatchResponse, FailureStore, KinesisEvent, PoisonRecord, StreamRecord,
    records_of, report,
};
use bytes::Bytes;
use jiff::Timestamp;

use crate::decode::decode;
use crate::item::{Item, RowSettings, item};
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
}

/// The rows of a batch. The same event twice is one row: `BatchWriteItem` refuses a call that
/// names a key twice.
#[derive(Debug, Default)]
struct Rows<'a> {
    items: HashMap<String, Item>,
    sources: HashMap<String, Vec<Source<'a>>>,
    events: usize,
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
    /// The function over `table` and `failures`, whose rows are as `rows` says.
    pub fn new(table: EventTable, failures: FailureStore, rows: RowSettings) -> Self {
        Self { table, failures, rows }
    }

    /// Stores the events of a batch and answers before `deadline`.
    pub async fn handle(&self, event: KinesisEvent, deadline: SystemTime) -> BatchResponse {
        let records = records_of(event);
        let (rows, mut poison_records) = self.rows_of(&records);
        let collapsed = rows.events - rows.items.len();

        let write_deadline = write_deadline(deadline);
        let (unwritten, mut retry) = tokio::join!(
            self.table.write(rows.items, write_deadline),
            self.failures.keep(&poison_records, write_deadline),
        );

        let mut refused = Vec::new();
        for (id, reason) in &unwritten.refused {
            for source in rows.sources.get(id).into_iter().flatten() {
                refused.push(source.poison(format!("DynamoDB refuses it: {reason}")));
            }
        }
        retry.extend(self.failures.keep(&refused, deadline - ANSWER_RESERVE).await);
        poison_records.extend(refused);

        let unwritten = unwritten.retryable.iter().filter_map(|id| rows.sources.get(id)).flatten();
        retry.extend(unwritten.map(|source| source.carrier.sequence_number.clone()));

        log(&records, poison_records.len(), &retry, collapsed);
        report(retry)
    }

    fn rows_of<'a>(&self, records: &'a [StreamRecord]) -> (Rows<'a>, Vec<PoisonRecord>) {
        let now = Timestamp::now();
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
                    Ok(event) => rows.add(event, source, now, self.rows),
                    Err(reason) => poison_records.push(source.poison(reason)),
                }
            }
        }
        (rows, poison_records)
    }
}

impl<'a> Rows<'a> {
    fn add(
        &mut self,
        event: TrackingEvent,
        source: Source<'a>,
        now: Timestamp,
        settings: RowSettings,
    ) {
        let id = event.message_id.clone();
        let item = item(event, source.carrier.arrived_at, now, settings);
        self.items.insert(id.clone(), item);
        self.sources.entry(id).or_default().push(source);
        self.events += 1;
    }
}

/// The reserve comes off, but never more than half of what is left of a short invocation.
fn write_deadline(deadline: SystemTime) -> SystemTime {
    let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
    deadline - RESERVE.min(left / 2)
}

fn log(records: &[StreamRecord], failures: usize, retry: &BTreeSet<String>, collapsed: usize) {
    let now = Timestamp::now();
    let oldest = records.iter().map(|record| record.arrived_at).min().unwrap_or(now);
    let metrics = BatchMetrics {
        function: FUNCTION,
        records: records.len(),
        failures,
        retries: retry.len(),
        oldest_age_ms: now.as_millisecond() - oldest.as_millisecond(),
    };
    println!("{}", metrics.to_emf(now));
    tracing::debug!(records = records.len(), failures, retries = retry.len(), collapsed, "batch");
}
