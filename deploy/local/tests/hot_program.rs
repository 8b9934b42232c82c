//! One program gets nearly all events, and so needs more index writes than a partition of the index
//! takes. DynamoDB then rejects the rows themselves.
//!
//! The long form runs with `make prove`, which sets `ADTRACK_PROVE`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod helpers;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use adtrack_proto::aggregate::Aggregate;
use adtrack_proto::event::{EventType, TrackingEvent};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use helpers::{run_alone, until};
use local_stack::aws::INDEX;
use local_stack::faults::Fault;
use local_stack::index_partitions::PartitionWrites;
use local_stack::stack::{EVENT_STREAM, TABLE};
use local_stack::{Stack, StackOptions};
use prost::Message;
use tempfile::TempDir;

/// 2026-01-02T03:04:05.678Z
const TIME_MS: i64 = 1_767_323_045_678;
const HOUR: &str = "2026-01-02T03";
const HOT: usize = 1_000;
const OTHERS: usize = 100;
const RECORDS: usize = 5;

async fn start(index_buckets: u32, tracker: bool) -> (Stack, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_local-stack")).parent().unwrap();
    let options = StackOptions {
        faults: true,
        index_buckets: Some(index_buckets),
        tracker_environment: tracker.then(Vec::new),
        ..StackOptions::new(binaries, folder.path())
    };
    (Stack::start(&options).await.unwrap(), folder)
}

fn event(program_id: &str, number: usize) -> TrackingEvent {
    TrackingEvent {
        program_id: program_id.to_owned(),
        message_id: format!("{program_id}-{number}"),
        event_type: EventType::Event.into(),
        is_valid: true,
        occurred_at_ms: TIME_MS,
        received_at_ms: TIME_MS,
        ..TrackingEvent::default()
    }
}

/// Puts all events on the stream in one call. In each record, the hot program's events come first.
async fn put(stack: &Stack) {
    let hot: Vec<_> = (0..HOT).map(|number| event("hot", number)).collect();
    let others: Vec<_> =
        (0..OTHERS).map(|number| event(&format!("other-{number}"), number)).collect();
    let records = hot.chunks(HOT / RECORDS).zip(others.chunks(OTHERS / RECORDS)).enumerate();
    let records = records.map(|(number, (hot, others))| {
        let mut aggregate = Aggregate::default();
        for event in hot.iter().chain(others) {
            aggregate.push(event.encode_to_vec().into());
        }
        let key = number.to_string();
        let data = Blob::new(aggregate.encode(&key));
        PutRecordsRequestEntry::builder().partition_key(key).data(data).build().unwrap()
    });
    let kinesis = stack.kinesis().await;
    let put = kinesis.put_records().stream_name(EVENT_STREAM).set_records(Some(records.collect()));
    assert_eq!(put.send().await.unwrap().failed_record_count, Some(0));
}

/// Rows whose id starts with `prefix`: id and partition of the index.
async fn rows(stack: &Stack, prefix: &str) -> BTreeMap<String, String> {
    let scan = stack.dynamodb().await.scan().table_name(TABLE);
    let rows = scan.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.unwrap();
    let text = |row: &HashMap<_, AttributeValue>, name| row[name].as_s().unwrap().clone();
    let rows = rows.iter().map(|row| (text(row, "id"), text(row, "program_bucket")));
    rows.filter(|(id, _)| id.starts_with(prefix)).collect()
}

/// Counts the entries in a partition of the index.
async fn count_entries(stack: &Stack, partition: &str) -> usize {
    let dynamodb = stack.dynamodb().await;
    let query = dynamodb
        .query()
        .table_name(TABLE)
        .index_name(INDEX)
        .key_condition_expression("program_bucket = :partition")
        .expression_attribute_values(":partition", AttributeValue::S(partition.to_owned()));
    let pages = query.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await;
    pages.unwrap().len()
}

fn assert_no_failed_records(stack: &Stack) {
    for folder in [&stack.failed_records, &stack.on_failure] {
        assert_eq!(std::fs::read_dir(folder).into_iter().flatten().count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_program_in_one_partition_does_not_delay_others() {
    let _alone = run_alone().await;
    let (stack, _folder) = start(1, false).await;
    let dynamodb = &stack.faults.as_ref().unwrap().dynamodb;
    // At this rate, each other program's row fits at once; the hot one's last row takes 17 minutes.
    dynamodb.set(&[(Fault::HotIndex(1.0), 1.0)]);
    put(&stack).await;
    until("the other programs' rows are stored", async || {
        rows(&stack, "other-").await.len() == OTHERS
    })
    .await;
    assert!(rows(&stack, "hot-").await.len() < HOT);
    dynamodb.set(&[]);
    until("the hot program's rows are stored", async || rows(&stack, "hot-").await.len() == HOT)
        .await;
    let writes = dynamodb.index_writes();
    for (partition, writes) in &writes {
        let is_hot = partition == &format!("hot#{HOUR}#0");
        assert_eq!(writes.throttled > 0, is_hot, "{partition}");
    }
    assert_eq!(count_entries(&stack, &format!("hot#{HOUR}#0")).await, HOT);
    assert_no_failed_records(&stack);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enough_partitions_avoid_throttling_and_spread_rows_as_computed() {
    const BUCKETS: u32 = 16;
    let _alone = run_alone().await;
    let (stack, _folder) = start(BUCKETS, false).await;
    let dynamodb = &stack.faults.as_ref().unwrap().dynamodb;
    // A sixteenth of the rows, plus half of that as a margin for chance.
    dynamodb.set(&[(Fault::HotIndex((HOT / 16) as f64 * 1.5), 1.0)]);
    put(&stack).await;
    until("all rows are stored", async || rows(&stack, "").await.len() == HOT + OTHERS).await;
    let mut computed = BTreeMap::<String, usize>::new();
    for (id, partition) in rows(&stack, "hot-").await {
        let bucket = crc32fast::hash(id.as_bytes()) % BUCKETS;
        assert_eq!(partition, format!("hot#{HOUR}#{bucket}"));
        *computed.entry(partition).or_default() += 1;
    }
    let writes = dynamodb.index_writes();
    assert_eq!(computed.len(), BUCKETS as usize);
    for (partition, rows) in computed {
        assert_eq!((writes[&partition].taken, writes[&partition].throttled), (rows, 0));
        assert_eq!(count_entries(&stack, &partition).await, rows);
    }
    assert_no_failed_records(&stack);
    stack.stop().await;
}

/// 10,000 real requests/s for one program, and a few hundred for others. A partition of the index takes
/// 1,000 writes/s.
#[tokio::test(flavor = "multi_thread")]
async fn loses_nothing_at_ten_thousand_requests_per_second() {
    if std::env::var_os("ADTRACK_PROVE").is_none() {
        return;
    }
    let _alone = run_alone().await;
    for buckets in [1, 16] {
        let (stack, folder) = start(buckets, true).await;
        stack.load_samples().await.unwrap();
        let dynamodb = &stack.faults.as_ref().unwrap().dynamodb;
        dynamodb.set(&[(Fault::HotIndex(1_000.0), 1.0)]);
        let scenario = folder.path().join("hot.toml");
        std::fs::write(&scenario, SCENARIO).unwrap();
        let loadtest = Path::new(env!("CARGO_BIN_EXE_local-stack")).with_file_name("loadtest");
        let mut run = tokio::process::Command::new(loadtest);
        run.arg("run").arg(scenario).arg("--report").arg(folder.path().join("report"));
        run.args(["--url", stack.tracker_url(), "--fail-if", "lost>0", "--fail-if", "doubled>0"]);
        let started_at = Instant::now();
        let output = run.envs(stack.environment.iter().cloned()).output();
        tokio::pin!(output);
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        let output = loop {
            tokio::select! {
                output = &mut output => break output.unwrap(),
                _ = ticks.tick() => println!(
                    "{buckets} buckets, {:>3.0} s: rows {:?}",
                    started_at.elapsed().as_secs_f64(),
                    by_program(&dynamodb.index_writes()),
                ),
            }
        };
        println!("{}", String::from_utf8_lossy(&output.stdout));
        // 3: the machine was too busy to send on time, which this test does not check.
        assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
        let writes = dynamodb.index_writes();
        for (partition, writes) in &writes {
            println!("{partition}: {writes:?}");
            assert_eq!(count_entries(&stack, partition).await, writes.taken);
        }
        assert_no_failed_records(&stack);
        stack.stop().await;
    }
}

/// With this exponent of Zipf's law, 965 of 1,000 requests are for the first program.
const SCENARIO: &str = r#"
description = "one program gets 10,000 requests per second"
arrivals = "uniform"
[[phase]]
kind = "constant"
rate = 10400
duration = "10s"
[programs]
ids = ["212313", "212312", "212314"]
zipf = 5.0
[requests]
max_in_flight = 4096
[verify]
settle = "10m"
"#;

/// Number of rows in the index, by program.
fn by_program(writes: &BTreeMap<String, PartitionWrites>) -> BTreeMap<&str, usize> {
    let mut rows = BTreeMap::new();
    for (partition, writes) in writes {
        *rows.entry(partition.split('#').next().unwrap()).or_default() += writes.taken;
    }
    rows
}
