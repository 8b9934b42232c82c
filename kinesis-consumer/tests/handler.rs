//! The function, invoked as Lambda does it, with an embedded DynamoDB. A proxy in front of it injects the
//! faults that it never has (throttles, unprocessed items).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod faults;
mod poison;
mod repeats;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use adtrack_proto::aggregate::{Aggregate, encode_notice};
use adtrack_proto::event::{EventType, TrackingEvent};
use adtrack_proto::failed_record::FailedRecord;
use adtrack_proto::journal::JournalNotice;
use adtrack_runtime::lambda::{FailureStore, records_of};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use faults::{Fault, FaultyDynamoDb};
use kinesis_consumer::handler::{FUNCTION, Handler};
use kinesis_consumer::item::{Row, RowSettings};
use kinesis_consumer::row_types::{RowTypes, parse_row_types};
use kinesis_consumer::store::EventTable;
use local_stack::aws::{self, EmbeddedServer};
use local_stack::lambda::{Record, payload};
use local_stack::ports::Port;
use prost::Message;
use tempfile::TempDir;

const TABLE: &str = "events";
const SHARD: &str = "shardId-000000000003";

struct Function {
    handler: Handler,
    table: Client,
    proxy: FaultyDynamoDb,
    folder: TempDir,
    _dynamodb: EmbeddedServer,
}

impl Function {
    /// Starts with an empty table; its first calls get one of `faults` each.
    async fn start(faults: Vec<Fault>) -> Self {
        Self::start_with(faults, RowTypes::all()).await
    }

    async fn start_with(faults: Vec<Fault>, row_types: RowTypes) -> Self {
        let dynamodb = aws::dynamodb(Port::Any).await.unwrap();
        let table = Client::new(&aws::sdk_config(&dynamodb.url).await);
        aws::create_table(&table, TABLE).await.unwrap();
        let proxy = FaultyDynamoDb::start(dynamodb.url.clone(), faults).await;
        let folder = tempfile::tempdir().unwrap();
        let failures =
            FailureStore::open(FUNCTION, &format!("file://{}", folder.path().display())).unwrap();
        let events = EventTable::new(&aws::sdk_config(&proxy.url).await, TABLE.to_owned());
        let handler = Handler::new(
            events,
            failures,
            RowSettings {
                ttl_days: Some(30),
                index_buckets: None,
                earlier_ids_until: Some(jiff::Timestamp::MAX),
            },
            row_types,
            "adtrack".to_owned(),
        );
        Self { handler, table, proxy, folder, _dynamodb: dynamodb }
    }

    /// Invokes the function; returns the sequence numbers that it reports.
    async fn invoke(&self, records: &[Record]) -> Vec<String> {
        self.invoke_within(records, Duration::from_secs(20)).await
    }

    async fn invoke_within(&self, records: &[Record], time: Duration) -> Vec<String> {
        let event = serde_json::from_slice(&payload("arn:stream", SHARD, records)).unwrap();
        let response = self.handler.handle(event, SystemTime::now() + time).await;
        response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect()
    }

    /// Stores a batch; returns how many of its repeats differ.
    async fn differing(&self, records: &[Record]) -> usize {
        let event = serde_json::from_slice(&payload("arn:stream", SHARD, records)).unwrap();
        let deadline = SystemTime::now() + Duration::from_secs(20);
        self.handler.store(&records_of(event), deadline).await.differing
    }

    async fn row(&self, id: &str) -> Option<HashMap<String, AttributeValue>> {
        let key = AttributeValue::S(id.to_owned());
        self.table.get_item().table_name(TABLE).key("id", key).send().await.unwrap().item
    }

    async fn row_count(&self) -> i32 {
        self.table.scan().table_name(TABLE).send().await.unwrap().count
    }

    fn failed_records(&self) -> Vec<FailedRecord> {
        let mut records: Vec<FailedRecord> = files(self.folder.path())
            .iter()
            .map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
            .collect();
        records.sort_by(|a, b| a.sequence_number.cmp(&b.sequence_number));
        records
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

fn event(id: &str) -> TrackingEvent {
    TrackingEvent {
        program_id: "p".into(),
        message_id: id.into(),
        event_type: EventType::Event.into(),
        is_valid: true,
        received_at_ms: 1_767_323_045_678,
        occurred_at_ms: 1_767_323_045_678,
        ..TrackingEvent::default()
    }
}

fn record(sequence_number: u32, data: Vec<u8>) -> Record {
    Record {
        sequence_number: sequence_number.to_string(),
        partition_key: "key".into(),
        data,
        arrived_at: 1_767_323_046.5,
    }
}

fn events(ids: std::ops::Range<u32>) -> Vec<Record> {
    ids.map(|n| record(1_000 + n, event(&format!("m{n}")).encode_to_vec())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_a_batch_as_rows() {
    let function = Function::start(vec![]).await;
    assert_eq!(function.invoke(&events(0..130)).await, Vec::<String>::new());
    assert_eq!(function.row_count().await, 130);
    let row = function.row("m7").await.unwrap();
    assert_eq!(row["program_id"], AttributeValue::S("p".into()));
    assert_eq!(row["expires_at"], AttributeValue::N((1_767_323_045 + 30 * 86_400).to_string()));
    assert!(function.proxy.calls() <= 6, "25 items per call");
    assert_eq!(function.failed_records(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_only_row_types_and_what_is_written_once() {
    let function = Function::start_with(vec![], parse_row_types("click").unwrap()).await;
    let of_type = |id: &str, event_type: EventType| {
        TrackingEvent { event_type: event_type.into(), ..event(id) }.encode_to_vec()
    };
    let batch = [
        record(1, of_type("an impression", EventType::Impression)),
        record(2, of_type("a click", EventType::Click)),
        record(3, conversion(1, 5).encode_to_vec()),
        record(4, b"\xff poison".to_vec()),
    ];

    assert_eq!(function.invoke(&batch).await, Vec::<String>::new());

    assert_eq!(function.row_count().await, 2);
    assert!(function.row("a click").await.is_some());
    assert_eq!(function.amount(1).await, 5);
    assert_eq!(function.failed_records().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_over_what_a_journal_says_of_itself() {
    let function = Function::start(vec![]).await;
    let notice = JournalNotice { kind: 2, journal: "j".into(), ..JournalNotice::default() };

    let reported = function.invoke(&[record(1, encode_notice("j.h", &notice))]).await;

    assert_eq!(reported, Vec::<String>::new());
    assert_eq!((function.row_count().await, function.failed_records()), (0, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_batch_makes_no_call() {
    let function = Function::start(vec![]).await;
    assert_eq!(function.invoke(&[]).await, Vec::<String>::new());
    assert_eq!(function.proxy.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_each_row_once_despite_duplicates_and_redelivery() {
    let function = Function::start(vec![]).await;
    let mut batch = events(0..20);
    batch.extend(events(0..20).into_iter().map(|record| Record {
        sequence_number: format!("9{}", record.sequence_number),
        ..record
    }));
    for _ in 0..2 {
        assert_eq!(function.invoke(&batch).await, Vec::<String>::new());
    }
    assert_eq!(function.row_count().await, 20);
    assert_eq!(function.proxy.calls(), 2, "duplicates are collapsed before they are written");
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_invalid_records_whole_and_stores_the_others() {
    let function = Function::start(vec![]).await;
    let mut batch = events(0..3);
    batch.insert(1, record(5, b"\xff\xfe not protobuf".to_vec()));
    batch.insert(3, record(6, event("").encode_to_vec()));
    for _ in 0..2 {
        assert_eq!(function.invoke(&batch).await, Vec::<String>::new(), "never reported");
    }
    assert_eq!(function.row_count().await, 3);
    let failed = function.failed_records();
    assert_eq!(failed.len(), 2, "redelivery overwrites them");
    assert_eq!((failed[0].sequence_number.as_str(), failed[0].shard_id.as_str()), ("5", SHARD));
    assert_eq!(failed[0].function, "kinesis-consumer");
    assert_eq!(failed[0].data, "//4gbm90IHByb3RvYnVm");
    assert_eq!(failed[0].arrived_at, "2026-01-02T03:04:06.5Z");
    assert!(failed[0].reason.contains("not a TrackingEvent"), "{}", failed[0].reason);
    assert_eq!(failed[1].reason, "message_id is empty");
}

fn aggregate(user_records: Vec<Vec<u8>>) -> Vec<u8> {
    let mut aggregate = Aggregate::default();
    user_records.into_iter().for_each(|data| aggregate.push(data.into()));
    aggregate.encode("key")
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_aggregates_and_plain_records() {
    let function = Function::start(vec![]).await;
    let user_records = |ids: std::ops::Range<u32>| {
        ids.map(|n| event(&format!("m{n}")).encode_to_vec()).collect::<Vec<_>>()
    };
    let batch = [
        record(1, aggregate(user_records(0..40))),
        record(2, event("plain").encode_to_vec()),
        // Sent again, in other aggregates, by a producer that saw no response.
        record(3, aggregate(user_records(20..60))),
    ];
    assert_eq!(function.invoke(&batch).await, Vec::<String>::new());
    assert_eq!(function.row_count().await, 61);
    assert_eq!(function.failed_records(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_only_the_invalid_user_records_of_an_aggregate() {
    let function = Function::start(vec![]).await;
    let good = |id: &str| event(id).encode_to_vec();
    let data = aggregate(vec![good("a"), b"\xff poison".to_vec(), good("b"), good("")]);
    let broken = [&b"\xf3\x89\x9a\xc2"[..], b"\xff", &md5_of(b"\xff")].concat();
    let batch = [record(8, data), record(9, broken)];
    assert_eq!(function.invoke(&batch).await, Vec::<String>::new());
    assert_eq!(function.row_count().await, 2);
    let mut failed = function.failed_records();
    failed.sort_by_key(|record| (record.sequence_number.clone(), record.sub_sequence_number));
    let kept: Vec<_> = failed
        .iter()
        .map(|record| (record.sequence_number.as_str(), record.sub_sequence_number))
        .collect();
    assert_eq!(kept, [("8", 1), ("8", 3), ("9", 0)]);
    assert_eq!(failed[0].data, "/yBwb2lzb24=", "only the user record");
}

fn md5_of(data: &[u8]) -> Vec<u8> {
    use md5::Digest;
    md5::Md5::digest(data).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_an_aggregate_with_unwritten_rows_once() {
    let function = Function::start(vec![Fault::Throttled; 1_000]).await;
    let data = aggregate(vec![event("a").encode_to_vec(), event("b").encode_to_vec()]);
    let reported = function.invoke_within(&[record(8, data)], Duration::from_secs(1)).await;
    assert_eq!(reported, ["8"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_rows_that_dynamodb_refuses_and_stores_the_others() {
    let function = Function::start(vec![]).await;
    let mut batch = events(0..24);
    // DynamoDB accepts items of up to 400 KB.
    let large = TrackingEvent { user_agent: "x".repeat(420_000), ..event("large") };
    batch.insert(10, record(7, large.encode_to_vec()));
    assert_eq!(function.invoke(&batch).await, Vec::<String>::new());
    assert_eq!(function.row_count().await, 24);
    let failed = function.failed_records();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].sequence_number, "7");
    assert!(failed[0].reason.starts_with("DynamoDB refuses it"), "{}", failed[0].reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_only_unprocessed_items() {
    let function = Function::start(vec![Fault::Unprocessed(10), Fault::Unprocessed(3)]).await;
    assert_eq!(function.invoke(&events(0..25)).await, Vec::<String>::new());
    assert_eq!(function.row_count().await, 25);
    assert_eq!(function.proxy.items_per_call(), [25, 10, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_throttles_and_service_errors() {
    let function = Function::start(vec![Fault::Throttled, Fault::ServerError, Fault::Reset]).await;
    assert_eq!(function.invoke(&events(0..5)).await, Vec::<String>::new());
    assert_eq!(function.row_count().await, 5);
    assert_eq!(function.proxy.calls(), 4);
}

/// Bodies of a 200 that do not say that anything was written.
const LIES: [&str; 7] = [
    "",
    "{}",
    "<html>It works!</html>",
    r#"{"message":"ok"}"#,
    r#"{"UnprocessedItems":null}"#,
    r#"{"UnprocessedItems":{"events":[{"PutRequest":{"Item":{"id":{"S":"another's"}}}}]}}"#,
    r#"{"UnprocessedItems":{"events":[{"PutRequest":{"Item":{}}}]}}"#,
];

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_does_not_say_so_writes_no_rows() {
    let function = Function::start(LIES.map(Fault::Lie).to_vec()).await;
    assert_eq!(function.invoke(&events(0..5)).await, Vec::<String>::new());
    assert_eq!(function.row_count().await, 5);
    assert_eq!(function.proxy.items_per_call(), [5; LIES.len() + 1], "all rows each time");

    let endless = LIES.iter().cycle().copied().map(Fault::Lie).take(1_000).collect();
    let function = Function::start(endless).await;
    let batch = [events(0..2), vec![record(9, conversion(1, 1).encode_to_vec())]].concat();
    let reported = function.invoke_within(&batch, Duration::from_secs(2)).await;
    assert_eq!(reported, ["1000", "1001", "9"]);
    assert_eq!(function.row_count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_does_not_say_so_writes_no_row_that_is_written_once() {
    let lies = LIES.map(Fault::Lie).to_vec();
    let calls = lies.len() + 1;
    let function = Function::start(lies).await;
    let batch = [record(1, conversion(1, 5).encode_to_vec())];
    assert_eq!(function.invoke(&batch).await, Vec::<String>::new());
    assert_eq!((function.row_count().await, function.amount(1).await), (1, 5));
    assert_eq!(function.proxy.calls(), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_records_not_written_by_the_deadline() {
    let function = Function::start(vec![Fault::Throttled; 1_000]).await;
    let started_at = Instant::now();
    let mut batch = events(0..3);
    batch.push(record(1, b"\xff poison".to_vec()));
    let reported = function.invoke_within(&batch, Duration::from_secs(2)).await;
    assert_eq!(reported, ["1000", "1001", "1002"], "but not the invalid record, which is kept");
    assert!(started_at.elapsed() < Duration::from_secs(2));
    assert_eq!(function.failed_records().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_records_in_time_if_a_call_gets_no_response() {
    let function = Function::start(vec![Fault::Silence; 1_000]).await;
    let started_at = Instant::now();
    let reported = function.invoke_within(&events(0..2), Duration::from_secs(2)).await;
    assert_eq!(reported, ["1000", "1001"]);
    assert!(started_at.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_records_while_the_table_is_missing() {
    let function = Function::start(vec![]).await;
    function.table.delete_table().table_name(TABLE).send().await.unwrap();
    let reported = function.invoke_within(&events(0..2), Duration::from_secs(1)).await;
    assert_eq!(reported, ["1000", "1001"]);
    aws::create_table(&function.table, TABLE).await.unwrap();
    assert_eq!(function.invoke(&events(0..2)).await, Vec::<String>::new());
    assert_eq!(function.row_count().await, 2);
}

/// A conversion whose id is a hash of data from the client.
fn conversion(number: u32, amount_micros: i64) -> TrackingEvent {
    TrackingEvent {
        event_type: EventType::Conversion.into(),
        amount_micros,
        currency: "EUR".into(),
        ..event(&format!("6b0c9a2e-1111-8222-9333-{number:012}"))
    }
}

impl Function {
    async fn amount(&self, number: u32) -> i64 {
        let row = self.row(&conversion(number, 0).message_id).await.unwrap();
        row["amount_micros"].as_n().unwrap().parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_first_event_with_a_clients_id() {
    let function = Function::start(vec![]).await;
    let mut batch = events(0..30);
    let first: Vec<_> = (0..100)
        .map(|n| record(5_000 + n, conversion(n, i64::from(n) + 1).encode_to_vec()))
        .collect();
    batch.extend(first.clone());
    // Repeated in the same batch, after the first, with another amount.
    let repeat = |n| TrackingEvent { received_at_ms: 1_767_323_045_679, ..conversion(n, 999) };
    batch.extend((0..100).map(|n| record(6_000 + n, repeat(n).encode_to_vec())));
    assert_eq!(function.invoke(&batch).await, Vec::<String>::new());
    assert_eq!(function.row_count().await, 130);
    let stored_at = function.row(&conversion(7, 0).message_id).await.unwrap()["stored_at"].clone();

    // A replay, a repetition at another time, and one that differs.
    let later = |number: u32, amount| TrackingEvent {
        received_at_ms: 1_767_323_099_999,
        user_agent: "retry".into(),
        ..conversion(number, amount)
    };
    assert_eq!(function.invoke(&first).await, Vec::<String>::new());
    let again = [record(1, later(7, 8).encode_to_vec()), record(2, later(8, 999).encode_to_vec())];
    assert_eq!(function.invoke(&again).await, Vec::<String>::new());
    assert_eq!(function.row_count().await, 130);
    for number in [0, 7, 8, 99] {
        assert_eq!(function.amount(number).await, i64::from(number) + 1);
    }
    let row = function.row(&conversion(7, 0).message_id).await.unwrap();
    assert_eq!((&row["stored_at"], row["user_agent"].as_s().unwrap().as_str()), (&stored_at, ""));
    assert_eq!(function.failed_records(), []);
    // Other rows are still replaced.
    let other = TrackingEvent { user_agent: "replayed".into(), ..event("m7") };
    function.invoke(&[record(3, other.encode_to_vec())]).await;
    assert_eq!(function.row("m7").await.unwrap()["user_agent"].as_s().unwrap(), "replayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_rows_that_are_written_once() {
    let faults = vec![Fault::Throttled, Fault::ServerError, Fault::Reset];
    let function = Function::start(faults).await;
    let batch: Vec<_> = (0..5).map(|n| record(n + 1, conversion(n, 1).encode_to_vec())).collect();
    assert_eq!(function.invoke(&batch).await, Vec::<String>::new());
    assert_eq!(function.row_count().await, 5);
    assert_eq!(function.proxy.calls(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_deadline_and_refusal_of_rows_that_are_written_once() {
    let function = Function::start(vec![Fault::Throttled; 1_000]).await;
    let started_at = Instant::now();
    let batch =
        [record(1, conversion(1, 1).encode_to_vec()), record(2, event("m").encode_to_vec())];
    let reported = function.invoke_within(&batch, Duration::from_secs(2)).await;
    assert_eq!(reported, ["1", "2"]);
    assert!(started_at.elapsed() < Duration::from_secs(2));

    let function = Function::start(vec![]).await;
    let large = TrackingEvent { user_agent: "x".repeat(420_000), ..conversion(1, 1) };
    let batch = [record(1, large.encode_to_vec()), record(2, conversion(2, 1).encode_to_vec())];
    assert_eq!(function.invoke(&batch).await, Vec::<String>::new());
    assert_eq!(function.row_count().await, 1);
    assert!(function.failed_records()[0].reason.starts_with("DynamoDB refuses it"));
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_repeats_that_differ_within_a_batch_and_from_the_table() {
    let function = Function::start(vec![]).await;
    let copy = |number, amount| record(number, conversion(number % 10, amount).encode_to_vec());
    let first: Vec<_> = (0..10).map(|number| copy(number, 5)).collect();
    assert_eq!(function.differing(&first).await, 0);
    assert_eq!(function.differing(&first).await, 0, "the same again");

    let mut mixed: Vec<_> = (0..4).map(|number| copy(number, 6)).collect();
    mixed.extend((4..7).map(|number| copy(number, 5)));
    // Of each of these pairs, both copies or one differ from the other and from the table's row.
    mixed.extend((17..20).flat_map(|number| [copy(number, 7), copy(number + 10, 8)]));
    assert_eq!(function.differing(&mixed).await, 4 + 3 + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_an_event_of_the_reference() {
    let function = Function::start(vec![]).await;
    let reference = TrackingEvent {
        program_id: "212313".into(),
        checksum: "124".into(),
        customer_id: 9124,
        user_agent: "u".into(),
        program_name: "program2".into(),
        customer_name: "Customer2".into(),
        message_id: "06bc2944-886c-4e56-907c-fa248c8af023".into(),
        ..TrackingEvent::default()
    };
    assert_eq!(
        function.invoke(&[record(1, reference.encode_to_vec())]).await,
        Vec::<String>::new()
    );
    let row = function.row("06bc2944-886c-4e56-907c-fa248c8af023").await.unwrap();
    assert_eq!(row["event_type"], AttributeValue::S("unspecified".into()));
    assert_eq!(row["customer_id"], AttributeValue::N("9124".into()));
    assert!(!row.contains_key("is_valid"));
}

#[test]
fn names_the_missing_or_invalid_setting() {
    let run = |environment: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_kinesis-consumer"))
            .env_clear()
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, errors) = run(&[]);
    assert_eq!((status, errors.lines().count()), (Some(64), 1));
    assert!(errors.contains("TABLE_NAME, FAILED_RECORDS_URL is required"), "{errors}");
    let (status, errors) = run(&[("TABLE_NAME", "t"), ("FAILED_RECORDS_URL", "ftp://x")]);
    assert_eq!(status, Some(64));
    assert!(errors.contains("FAILED_RECORDS_URL") && errors.contains("expected s3://"), "{errors}");
    let valid = [("TABLE_NAME", "t"), ("FAILED_RECORDS_URL", "file:///tmp/")];
    let (status, errors) = run(&[valid[0], valid[1], ("ROW_TYPES", "click,clicks")]);
    assert_eq!(status, Some(64));
    assert!(
        errors.contains("ROW_TYPES=\"click,clicks\": expected one or more of event, impression"),
        "{errors}"
    );
    let (status, errors) = run(&valid);
    assert_eq!(status, Some(64));
    assert!(errors.contains("AWS_LAMBDA_RUNTIME_API"), "{errors}");
}
