//! End-to-end tests of a whole stack: the real binaries, with the AWS SDKs over the wire.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use adtrack_proto::event::TrackingEvent;
use adtrack_proto::failed_record::FailedRecord;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::Blob;
use local_stack::stack::{CORE_DATA_STREAM, EVENT_STREAM, TABLE};
use local_stack::{Stack, StackOptions};
use prost::Message;
use serde_json::{Value, json};
use tempfile::TempDir;

struct Pipeline {
    stack: Stack,
    kinesis: aws_sdk_kinesis::Client,
    dynamodb: aws_sdk_dynamodb::Client,
    client: reqwest::Client,
    _folder: TempDir,
}

type Row = HashMap<String, AttributeValue>;

impl Pipeline {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let binaries = Path::new(env!("CARGO_BIN_EXE_local-stack")).parent().unwrap();
        let stack = Stack::start(&StackOptions::new(binaries, folder.path())).await.unwrap();
        stack.load_samples().await.unwrap();
        Self {
            kinesis: stack.kinesis().await,
            dynamodb: stack.dynamodb().await,
            stack,
            client: reqwest::Client::new(),
            _folder: folder,
        }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let url = format!("{}{path}", self.stack.tracker_url());
        let response = self.client.get(url).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    async fn put(&self, stream: &str, key: &str, data: impl Into<Vec<u8>>) -> String {
        let put = self.kinesis.put_record().stream_name(stream).partition_key(key);
        put.data(Blob::new(data)).send().await.unwrap().sequence_number
    }

    async fn row(&self, id: &str) -> Option<Row> {
        let key = AttributeValue::S(id.to_owned());
        self.dynamodb.get_item().table_name(TABLE).key("id", key).send().await.unwrap().item
    }

    async fn wait_for_row(&self, id: &str) -> Row {
        let found = std::cell::Cell::new(None);
        until("the row is stored", Duration::from_secs(5), async || {
            found.set(self.row(id).await);
            let row = found.take();
            let is_stored = row.is_some();
            found.set(row);
            is_stored
        })
        .await;
        found.take().unwrap()
    }

    async fn row_count(&self) -> i32 {
        self.dynamodb.scan().table_name(TABLE).send().await.unwrap().count
    }

    fn failed_records(&self) -> Vec<FailedRecord> {
        files(&self.stack.failed_records)
            .iter()
            .map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
            .collect()
    }

    /// The metrics of reads from Redis.
    async fn l2_loads(&self) -> String {
        let url = format!("{}/metrics", self.stack.management_url());
        let text = self.client.get(url).send().await.unwrap().text().await.unwrap();
        text.lines().filter(|line| line.starts_with("adtrack_l2_loads_total")).collect()
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        // A file has another extension while it is being written.
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect()
}

async fn until(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + limit;
    while !holds().await {
        assert!(Instant::now() < give_up, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_an_event_with_every_attribute() {
    let pipeline = Pipeline::start().await;
    let url = format!(
        "{}/event/212313?checksum=124&customerId=9124&campaign=autumn",
        pipeline.stack.tracker_url()
    );
    let request = pipeline
        .client
        .get(&url)
        .header("user-agent", "Mozilla/5.0")
        .header("referer", "https://r.example/p");
    let body: Value = request.send().await.unwrap().json().await.unwrap();
    let id = body["messageId"].as_str().unwrap();
    let mut row = pipeline.wait_for_row(id).await;

    let mut number = |name: &str| {
        let Some(AttributeValue::N(text)) = row.remove(name) else { panic!("{name}") };
        text.parse::<i64>().unwrap()
    };
    let (occurred, received, stored) =
        (number("occurred_at"), number("received_at"), number("stored_at"));
    assert_eq!(occurred, received);
    assert!(received <= stored && stored - received < 60_000);
    let expected = Row::from([
        ("id".into(), s(id)),
        ("message_id".into(), s(id)),
        ("program_id".into(), s("212313")),
        ("program_name".into(), s("program2")),
        ("checksum".into(), s("124")),
        ("customer_id".into(), AttributeValue::N("9124".into())),
        ("customer_name".into(), s("Customer2")),
        ("user_agent".into(), s("Mozilla/5.0")),
        ("is_valid".into(), AttributeValue::Bool(true)),
        ("event_type".into(), s("event")),
        ("referrer".into(), s("https://r.example/p")),
        ("host".into(), s("127.0.0.1")),
        ("client_ip".into(), s("127.0.0.0")),
        ("parameters".into(), AttributeValue::M([("campaign".into(), s("autumn"))].into())),
    ]);
    assert_eq!(row, expected);
    pipeline.stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_valid_and_invalid_events_but_no_refused_requests() {
    let pipeline = Pipeline::start().await;
    let mut rows = 0;
    for (path, status, reason) in [
        ("/event/212312", 200, None),
        ("/event/disabled", 200, Some("program_disabled")),
        ("/event/not-started", 200, Some("program_not_started")),
        ("/event/ended", 200, Some("program_ended")),
        ("/event/unknown", 404, None),
        ("/event/212312?checksum=wrong", 400, None),
    ] {
        let (actual, body) = pipeline.get(path).await;
        assert_eq!(actual, status, "{path}");
        if status == 200 {
            assert_eq!(body["valid"], reason.is_none(), "{path}");
            let row = pipeline.wait_for_row(body["messageId"].as_str().unwrap()).await;
            assert_eq!(row["is_valid"], AttributeValue::Bool(reason.is_none()), "{path}");
            assert_eq!(row.get("invalid_reason"), reason.map(s).as_ref(), "{path}");
            rows += 1;
        }
    }
    assert_eq!(pipeline.row_count().await, rows);
    pipeline.stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn core_data_change_reaches_the_tracker_without_reading_redis() {
    let pipeline = Pipeline::start().await;
    assert_eq!(pipeline.get("/event/212313").await.1["programName"], "program2");
    let loads = pipeline.l2_loads().await;
    // As the reference's feed writes it: the customer id is a string, and some members are unknown.
    let json = json!({"userAgent": "u", "programId": "212313", "programName": "renamed",
        "checksum": "124", "customerId": "9124", "customerName": "Customer2",
        "messageId": "06bc2944-886c-4e56-907c-fa248c8af023", "valid": true});
    pipeline.put(CORE_DATA_STREAM, "212313", json.to_string()).await;
    until("a response has the new name", Duration::from_secs(2), async || {
        pipeline.get("/event/212313").await.1["programName"] == "renamed"
    })
    .await;
    assert_eq!(pipeline.l2_loads().await, loads);

    let tombstone = json!({"programId": "212313", "deleted": true}).to_string();
    pipeline.put(CORE_DATA_STREAM, "212313", tombstone).await;
    until("the program is gone", Duration::from_secs(2), async || {
        pipeline.get("/event/212313").await.0 == 404
    })
    .await;
    assert_eq!(pipeline.l2_loads().await, loads);
    pipeline.stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_a_poison_record_once_as_failed_and_its_neighbours_as_rows() {
    let pipeline = Pipeline::start().await;
    let event = |id: &str| {
        TrackingEvent { message_id: id.into(), ..TrackingEvent::default() }.encode_to_vec()
    };
    // One partition key, so that the poison record is between its neighbours in one shard.
    pipeline.put(EVENT_STREAM, "k", event("before")).await;
    let poison = pipeline.put(EVENT_STREAM, "k", b"\xffpoison".to_vec()).await;
    pipeline.put(EVENT_STREAM, "k", event("after")).await;
    let poison_core = pipeline.put(CORE_DATA_STREAM, "c", "{\"programId\":\"x\"}").await;
    let json = json!({"programId": "neighbour", "programName": "n", "checksum": "1",
        "customerId": 1, "customerName": "c", "valid": true});
    pipeline.put(CORE_DATA_STREAM, "c", json.to_string()).await;

    pipeline.wait_for_row("before").await;
    pipeline.wait_for_row("after").await;
    until("the neighbour is known", Duration::from_secs(5), async || {
        pipeline.get("/event/neighbour").await.0 == 200
    })
    .await;
    until("all are kept", Duration::from_secs(5), async || pipeline.failed_records().len() == 3)
        .await;
    // If the function also reported it to Lambda, it would be retried and stored again later.
    let kept = |records: Vec<FailedRecord>| -> BTreeMap<_, _> {
        records.into_iter().map(|record| (record.function.clone(), record)).collect()
    };
    let first = kept(pipeline.failed_records());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let kept = kept(pipeline.failed_records());
    assert_eq!(kept, first);
    assert_eq!(kept["kinesis-consumer"].sequence_number, poison);
    assert_eq!(kept["kinesis-consumer"].data, "/3BvaXNvbg==");
    assert_eq!(kept["archiver"].sequence_number, poison);
    assert_eq!(kept["redis-updater"].sequence_number, poison_core);
    assert_eq!(kept["redis-updater"].reason, "member `programName` is missing");
    assert_eq!(files(&pipeline.stack.on_failure), Vec::<PathBuf>::new());
    pipeline.stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_a_duplicate_on_the_stream_once() {
    let pipeline = Pipeline::start().await;
    let event = TrackingEvent { message_id: "m".into(), ..TrackingEvent::default() };
    for key in ["a", "b", "c", "a"] {
        pipeline.put(EVENT_STREAM, key, event.encode_to_vec()).await;
    }
    pipeline
        .put(
            EVENT_STREAM,
            "a",
            TrackingEvent { message_id: "last".into(), ..event }.encode_to_vec(),
        )
        .await;
    pipeline.wait_for_row("last").await;
    pipeline.wait_for_row("m").await;
    assert_eq!(pipeline.row_count().await, 2);
    pipeline.stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loses_nothing_if_redis_restarts() {
    let mut pipeline = Pipeline::start().await;
    assert_eq!(pipeline.get("/event/212313").await.0, 200);
    pipeline.stack.redis.kill().await;
    let (status, body) = pipeline.get("/event/212313").await;
    assert_eq!(status, 200, "served from L1");
    pipeline.wait_for_row(body["messageId"].as_str().unwrap()).await;
    // The mapping retries a change until Redis is back.
    let json = json!({"programId": "212313", "programName": "changed", "checksum": "124",
        "customerId": 9124, "customerName": "Customer2", "valid": true});
    pipeline.put(CORE_DATA_STREAM, "212313", json.to_string()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    pipeline.stack.redis.start_again().await.unwrap();
    until("a response has the change", Duration::from_secs(10), async || {
        pipeline.get("/event/212313").await.1["programName"] == "changed"
    })
    .await;
    pipeline.stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loses_nothing_if_stopped_under_traffic() {
    let mut pipeline = Pipeline::start().await;
    let url = format!("{}/event/212313", pipeline.stack.tracker_url());
    let client = pipeline.client.clone();
    let traffic = tokio::spawn(async move {
        let mut accepted = Vec::new();
        // Ends when the tracker ends.
        while let Ok(response) = client.get(&url).send().await {
            let body: Value = response.json().await.unwrap_or_default();
            accepted.extend(body["messageId"].as_str().map(str::to_owned));
        }
        accepted
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let tracker = pipeline.stack.tracker().unwrap();
    tracker.signal(local_stack::process::Signal::TERM);
    assert!(tracker.wait().await.unwrap().success(), "drained");
    let accepted = traffic.await.unwrap();
    assert!(accepted.len() > 20, "{}", accepted.len());
    for id in accepted {
        pipeline.wait_for_row(&id).await;
    }
    pipeline.stack.stop().await;
}
