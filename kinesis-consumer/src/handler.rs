//! One invocation: a batch of events in, the records that a retry may mend out.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use adtrack_runtime::lambda::{
    BatchMetrics, BatchResponse, FailureStore, KinesisEvent, PoisonRecord, StreamRecord,
    records_of, report,
};
use jiff::Timestamp;

use crate::decode::decode;
use crate::item::{Item, item};
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
    ttl_days: Option<u32>,
}

/// The rows of a batch. The same event twice is one row: `BatchWriteItem` refuses a call that
/// names a key twice.
#[derive(Debug, Default)]
struct Rows<'a> {
    items: HashMap<String, Item>,
    carriers: HashMap<String, Vec<&'a StreamRecord>>,
}

impl Handler {
    /// The function over `table` and `failures`, whose rows expire after `ttl_days`.
    pub fn new(table: EventTable, failures: FailureStore, ttl_days: Option<u32>) -> Self {
        Self { table, failures, ttl_days }
    }

    /// Stores the events of a batch and answers before `deadline`.
    pub async fn handle(&self, event: KinesisEvent, deadline: SystemTime) -> BatchResponse {
        let records = records_of(event);
        let (rows, mut poison_records) = self.rows_of(&records);
        let collapsed = records.len() - poison_records.len() - rows.items.len();

        let write_deadline = write_deadline(deadline);
        let (unwritten, mut retry) = tokio::join!(
            self.table.write(rows.items, write_deadline),
            self.failures.keep(&poison_records, write_deadline),
        );

        let mut refused = Vec::new();
        for (id, reason) in &unwritten.refused {
            for carrier in rows.carriers.get(id).into_iter().flatten() {
                refused.push(carrier.poison(format!("DynamoDB refuses it: {reason}")));
            }
        }
        retry.extend(self.failures.keep(&refused, deadline - ANSWER_RESERVE).await);
        poison_records.extend(refused);

        let unwritten_carriers =
            unwritten.retryable.iter().filter_map(|id| rows.carriers.get(id)).flatten();
        retry.extend(unwritten_carriers.map(|record| record.sequence_number.clone()));

        log(&records, poison_records.len(), &retry, collapsed);
        report(retry)
    }

    fn rows_of<'a>(&self, records: &'a [StreamRecord]) -> (Rows<'a>, Vec<PoisonRecord>) {
        let now = Timestamp::now();
        let mut rows = Rows::default();
        let mut poison_records = Vec::new();
        for record in records {
            match decode(&record.data) {
                Ok(event) => {
                    let id = event.message_id.clone();
                    let item = item(event, record.arrived_at, now, self.ttl_days);
                    rows.items.insert(id.clone(), item);
                    rows.carriers.entry(id).or_default().push(record);
                }
                Err(reason) => poison_records.push(record.poison(reason)),
            }
        }
        (rows, poison_records)
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
