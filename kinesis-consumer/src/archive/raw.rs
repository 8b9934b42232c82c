//! Raw rows: events as they came, each with its place in the stream. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use adtrack_proto::event::TrackingEvent;
use adtrack_proto::rank::rank;
use adtrack_runtime::lambda::UserRecord;
use parquet::basic::Encoding;
use parquet::errors::Result;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::schema::types::{ColumnPath, TypePtr};

use super::columns::{Columns, Value};
use super::hour::bounded;
use super::parquet_settings::{properties, schema};
use crate::item::{Attributes, RANK, write_event_attributes};

/// The columns, with the names of the table's attributes.
const SCHEMA: &str = "
message raw {
    optional binary message_id (STRING);
    optional binary event_type (STRING);
    optional int64 received_at (TIMESTAMP(MILLIS, true));
    optional int64 occurred_at (TIMESTAMP(MILLIS, true));
    optional binary program_id (STRING);
    optional binary program_name (STRING);
    optional binary checksum (STRING);
    optional int64 customer_id;
    optional binary customer_name (STRING);
    optional boolean is_valid;
    optional binary invalid_reason (STRING);
    optional boolean is_test;
    optional binary visitor_id (STRING);
    optional binary click_id (STRING);
    optional binary impression_id (STRING);
    optional binary client_event_id (STRING);
    optional binary transaction_id (STRING);
    optional binary event_name (STRING);
    optional binary status (STRING);
    optional int64 amount_micros;
    optional binary currency (STRING);
    optional binary host (STRING);
    optional binary referrer (STRING);
    optional binary user_agent (STRING);
    optional binary client_ip (STRING);
    optional group traffic_flags (LIST) {
        repeated group list {
            required binary element (STRING);
        }
    }
    optional group parameters (MAP) {
        repeated group key_value {
            required binary key (STRING);
            required binary value (STRING);
        }
    }
    optional binary rank (STRING);
    optional binary shard (STRING);
    optional binary sequence_number (STRING);
    optional int32 sub_sequence_number;
}";

/// Columns whose values hardly repeat. A dictionary would be longer than they are.
const DISTINCT: [&str; 7] = [
    "message_id",
    "visitor_id",
    "click_id",
    "impression_id",
    "client_event_id",
    "transaction_id",
    "rank",
];

/// Columns of numbers that are close to those of the row before.
const GRADUAL: [&str; 3] = ["received_at", "occurred_at", "sub_sequence_number"];

static TABLE: LazyLock<TypePtr> = LazyLock::new(|| schema(SCHEMA));
static PROPERTIES: LazyLock<WriterPropertiesPtr> = LazyLock::new(|| {
    let properties = DISTINCT.into_iter().fold(properties(), |properties, name| {
        let column = ColumnPath::from(name);
        properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BYTE_ARRAY)
    });
    let properties = GRADUAL.into_iter().fold(properties, |properties, name| {
        let column = ColumnPath::from(name);
        properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
    });
    Arc::new(properties.build())
});

/// Raw rows of an hour.
#[derive(Debug)]
pub struct RawRows(Columns);

impl Default for RawRows {
    fn default() -> Self {
        Self(Columns::new(Arc::clone(&TABLE)))
    }
}

impl RawRows {
    /// Adds `event`, which is what `source` contains.
    pub fn add(&mut self, event: &TrackingEvent, source: &UserRecord<'_>) {
        let record = source.kinesis_record;
        write_event_attributes(event, &event.message_id, record.arrived_at, self);
        self.text(RANK, &rank(event.received_at_ms, &source.data));
        self.text("shard", &record.shard_id);
        self.text("sequence_number", &record.sequence_number);
        let number = i32::try_from(source.sub_sequence_number).unwrap_or(i32::MAX);
        self.0.set("sub_sequence_number", Value::Integer(number));
        self.0.end_row();
    }

    /// The rows as a Parquet file.
    pub fn encode(self) -> Result<Vec<u8>> {
        self.0.encode(Arc::clone(&PROPERTIES))
    }
}

impl Attributes for RawRows {
    fn text(&mut self, name: &'static str, value: &str) {
        self.0.set(name, Value::Text(value));
    }

    fn number(&mut self, name: &'static str, value: i64) {
        let is_time = matches!(name, "occurred_at" | "received_at");
        self.0.set(name, Value::Long(if is_time { bounded(value) } else { value }));
    }

    fn bool(&mut self, name: &'static str, value: bool) {
        self.0.set(name, Value::Flag(value));
    }

    fn texts(&mut self, name: &'static str, values: &BTreeSet<&str>) {
        self.0.set_list(name, values.iter().copied());
    }

    fn map(&mut self, name: &'static str, values: &BTreeMap<String, String>) {
        let entries = values.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        self.0.set_map(name, entries);
    }
}
