//! Receipt rows: which events of which journal each Kinesis record has, and what journals say of themselves. Pure.

use std::sync::{Arc, LazyLock};

use adtrack_proto::receipt::{Receipt, RingRange};
use adtrack_runtime::lambda::StreamRecord;
use parquet::errors::Result;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::schema::types::TypePtr;

use super::columns::{Columns, Value};
use super::hour::bounded;
use super::notice::Notice;
use super::parquet_settings::{properties, schema};

/// The columns. `events` and `poison` are those of the whole Kinesis record, in each of its rows.
const SCHEMA: &str = "
message receipts {
    optional binary kind (STRING);
    optional binary journal (STRING);
    optional binary ring (STRING);
    optional int64 from_position;
    optional int64 to_position;
    optional int32 attempt;
    optional int32 events;
    optional int32 poison;
    optional int64 first_received_at (TIMESTAMP(MILLIS, true));
    optional int64 last_received_at (TIMESTAMP(MILLIS, true));
    optional int64 at (TIMESTAMP(MILLIS, true));
    optional binary reason (STRING);
    optional int64 clock_from (TIMESTAMP(MILLIS, true));
    optional int64 clock_to (TIMESTAMP(MILLIS, true));
    optional binary shard (STRING);
    optional binary sequence_number (STRING);
}";

static TABLE: LazyLock<TypePtr> = LazyLock::new(|| schema(SCHEMA));
static PROPERTIES: LazyLock<WriterPropertiesPtr> = LazyLock::new(|| Arc::new(properties().build()));

/// What a Kinesis record has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events.
    pub events: usize,
    /// User records that can never succeed.
    pub poison: usize,
    /// The first and the last time at which one of the events was received, in milliseconds since the Unix epoch.
    pub received_at: Option<(i64, i64)>,
}

impl Tally {
    /// Adds an event that was received at `received_at`.
    pub fn add_event(&mut self, received_at: i64) {
        self.events += 1;
        let (first, last) = self.received_at.unwrap_or((received_at, received_at));
        self.received_at = Some((first.min(received_at), last.max(received_at)));
    }
}

/// Receipt rows of an hour.
#[derive(Debug)]
pub struct ReceiptRows(Columns);

impl Default for ReceiptRows {
    fn default() -> Self {
        Self(Columns::new(Arc::clone(&TABLE)))
    }
}

impl ReceiptRows {
    /// Adds the receipt of a Kinesis record with events: a row for each stretch in its partition key. One whose key is no
    /// receipt has a row without a journal.
    pub fn add_events(&mut self, record: &StreamRecord, tally: Tally) {
        let receipt = record.partition_key.parse::<Receipt>().ok();
        let Some(Receipt { journal, attempt, ranges }) = receipt else {
            return self.add_stretch(record, tally, |_| {});
        };
        for range in &ranges {
            self.add_stretch(record, tally, |columns| {
                columns.set("journal", Value::Text(&journal));
                columns.set("attempt", Value::Integer(attempt.cast_signed()));
                set_range(columns, range);
            });
        }
    }

    fn add_stretch(&mut self, record: &StreamRecord, tally: Tally, set: impl Fn(&mut Columns)) {
        let columns = &mut self.0;
        columns.set("kind", Value::Text("events"));
        set(columns);
        columns.set("events", Value::Integer(integer(tally.events)));
        columns.set("poison", Value::Integer(integer(tally.poison)));
        if let Some((first, last)) = tally.received_at {
            columns.set("first_received_at", Value::Long(bounded(first)));
            columns.set("last_received_at", Value::Long(bounded(last)));
        }
        end_row(columns, record);
    }

    /// Adds what a journal says of itself: a row for each ring, or one without a ring if there are none.
    pub fn add_notice(&mut self, record: &StreamRecord, Notice { kind, message }: &Notice) {
        let ranges = message.rings.iter().map(|ring| RingRange {
            ring: ring.ring.clone(),
            from: ring.from_position,
            to: ring.to_position,
        });
        let mut ranges: Vec<_> = ranges.map(Some).collect();
        if ranges.is_empty() {
            ranges.push(None);
        }
        for range in ranges {
            let columns = &mut self.0;
            columns.set("kind", Value::Text(kind));
            columns.set("journal", Value::Text(&message.journal));
            if let Some(range) = range {
                set_range(columns, &range);
            }
            columns.set("at", Value::Long(bounded(message.at_ms)));
            columns.set("reason", Value::Text(&message.reason));
            if (message.clock_from_ms, message.clock_to_ms) != (0, 0) {
                columns.set("clock_from", Value::Long(bounded(message.clock_from_ms)));
                columns.set("clock_to", Value::Long(bounded(message.clock_to_ms)));
            }
            end_row(columns, record);
        }
    }

    /// The rows as a Parquet file.
    pub fn encode(self) -> Result<Vec<u8>> {
        self.0.encode(Arc::clone(&PROPERTIES))
    }
}

fn set_range(columns: &mut Columns, RingRange { ring, from, to }: &RingRange) {
    columns.set("ring", Value::Text(ring));
    columns.set("from_position", Value::Long(*from));
    columns.set("to_position", Value::Long(*to));
}

fn end_row(columns: &mut Columns, record: &StreamRecord) {
    columns.set("shard", Value::Text(&record.shard_id));
    columns.set("sequence_number", Value::Text(&record.sequence_number));
    columns.end_row();
}

/// A Kinesis record has at most 1 MiB, and so far fewer user records.
fn integer(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
