//! The archiver: what it writes is read back with Parquet's own reader.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod handler;
mod raw;
mod receipts;

use std::collections::BTreeMap;

use adtrack_proto::aggregate::Aggregate;
use adtrack_proto::event::{EventType, TrackingEvent};
use adtrack_runtime::lambda::StreamRecord;
use bytes::Bytes;
use jiff::Timestamp;
use kinesis_consumer::archive::batch::{Batch, File};
use local_stack::archive::Row;
use parquet::file::reader::{FileReader, SerializedFileReader};
use prost::Message;

const SHARD: &str = "shardId-000000000003";
/// A receipt, and its two rings.
const RECEIPT: &str = "journal000001.2.ring000000001:10+a,ring000000002:0+1";

/// 2026-01-02T03:04:05.678Z.
const RECEIVED_AT: i64 = 1_767_323_045_678;
const HOUR: i64 = 60 * 60 * 1_000;

fn event(id: &str, received_at_ms: i64) -> TrackingEvent {
    TrackingEvent {
        program_id: "p".into(),
        message_id: id.into(),
        event_type: EventType::Event.into(),
        is_valid: true,
        received_at_ms,
        occurred_at_ms: received_at_ms,
        ..TrackingEvent::default()
    }
}

fn record(sequence_number: u32, partition_key: &str, data: Vec<u8>) -> StreamRecord {
    StreamRecord {
        stream_arn: "arn:stream".into(),
        shard_id: SHARD.into(),
        sequence_number: sequence_number.to_string(),
        partition_key: partition_key.into(),
        arrived_at: Timestamp::from_millisecond(RECEIVED_AT + 500).unwrap(),
        data: data.into(),
    }
}

fn aggregate(partition_key: &str, user_records: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut aggregate = Aggregate::default();
    user_records.into_iter().for_each(|data| aggregate.push(data.into()));
    aggregate.encode(partition_key)
}

fn batch(records: &[StreamRecord]) -> Batch<'_> {
    Batch::of(records).unwrap()
}

fn rows_of(file: &Bytes) -> Vec<Row> {
    local_stack::archive::rows(file.clone()).unwrap()
}

/// The columns of a file and their types.
fn types_of(file: &Bytes) -> BTreeMap<String, String> {
    let reader = SerializedFileReader::new(file.clone()).unwrap();
    let schema = reader.metadata().file_metadata().schema();
    let columns = schema.get_fields().iter().map(|field| {
        let logical = field.get_basic_info().logical_type_ref();
        let logical = logical.map(|it| format!("{it:?}")).unwrap_or_default();
        let physical = match field.is_group() {
            true => String::new(),
            false => format!("{:?} ", field.get_physical_type()),
        };
        (field.name().to_owned(), physical + &logical)
    });
    columns.collect()
}

/// The rows of all `files`.
fn rows(files: &[File<'_>]) -> Vec<Row> {
    files.iter().flat_map(|file| rows_of(&file.bytes)).collect()
}

fn paths<'f>(files: &'f [File<'_>]) -> Vec<&'f str> {
    files.iter().map(|file| file.path.as_str()).collect()
}

fn contents(files: &[File<'_>]) -> Vec<(String, Bytes)> {
    files.iter().map(|file| (file.path.clone(), file.bytes.clone())).collect()
}
