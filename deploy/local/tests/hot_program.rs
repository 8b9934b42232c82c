//! One program takes nearly all events, and its index entries more writes than a partition of the
//! index takes: DynamoDB then refuses the rows themselves.
//!
//! In short here; at length by `make prove`, which sets `ADTRACK_PROVE`.
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
use helpers::{alone, until};
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
        tracker: tracker.then(Vec::new),
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

/// Puts all events on the stream in one call, those of the hot program in front of the others in each
/// record.
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
        let data = Blob::new(aggregate.finish("key"));
        let record = PutRecordsRequestEntry::builder().partition_key(number.to_string());
        record.data(data).build().unwrap()
    });
    let kinesis = stack.kinesis().await;
    let put = kinesis.put_records().stream_name(EVENT_STREAM).set_records(Some(records.collect()));
    assert_eq!(put.send().await.unwrap().failed_record_count, Some(0));
}

/// Rows whose id begins with `prefix`: id and partition of the index.
async fn rows(stack: &Stack, prefix: &str) -> BTreeMap<String, String> {
    let scan = stack.dynamodb().await.scan().table_name(TABLE);
    let rows = scan.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.unwrap();
    let text = |row: &HashMap<_, AttributeValue>, name| row[name].as_s().unwrap().clone();
    let rows = rows.iter().map(|row| (text(row, "id"), text(row, "program_bucket")));
    rows.filter(|(id, _)| id.starts_with(prefix)).collect()
}

/// How many entries a partition of the index has.
async fn entries(stack: &Stack, partition: &str) -> usize {
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

fn nothing_is_given_up(stack: &Stack) {
    for folder in [&stack.failed_records, &stack.on_failure] {
        assert_eq!(std::fs::read_dir(folder).into_iter().flatten().count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_partition_a_hot_program_waits_and_the_others_do_not() {
    let _alone = alone().await;
    let (stack, _folder) = start(1, false).await;
    let dynamodb = &stack.faults.as_ref().unwrap().dynamodb;
    // The one row of each other program at once, the last of the hot one after a quarter of an hour.
    dynamodb.set(&[(Fault::HotIndex(1.0), 1.0)]);
    put(&stack).await;
    until("the other programs' rows are there", async || {
        rows(&stack, "other-").await.len() == OTHERS
    })
    .await;
    assert!(rows(&stack, "hot-").await.len() < HOT);
    dynamodb.set(&[]);
    until("the hot program's rows are there", async || rows(&stack, "hot-").await.len() == HOT)
        .await;
    let writes = dynamodb.index_writes();
    for (partition, writes) in &writes {
        let is_hot = partition == &format!("hot#{HOUR}#0");
        assert_eq!(writes.throttled > 0, is_hot, "{partition}");
    }
    assert_eq!(entries(&stack, &format!("hot#{HOUR}#0")).await, HOT);
    nothing_is_given_up(&stack);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_enough_partitions_nothing_waits_and_the_rows_spread_as_computed() {
    const BUCKETS: u32 = 16;
    let _alone = alone().await;
    let (stack, _folder) = start(BUCKETS, false).await;
    let dynamodb = &stack.faults.as_ref().unwrap().dynamodb;
    // A sixteenth of the rows, and half as many again for chance.
    dynamodb.set(&[(Fault::HotIndex((HOT / 16) as f64 * 1.5), 1.0)]);
    put(&stack).await;
    until("all rows are there", async || rows(&stack, "").await.len() == HOT + OTHERS).await;
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
        assert_eq!(entries(&stack, &partition).await, rows);
    }
    nothing_is_given_up(&stack);
    stack.stop().await;
}

/// 10,000 requests/s for one program, real ones, and a few hundred for others; a partition of the index
/// takes 1,000 writes/s.
#[tokio::test(flavor = "multi_thread")]
async fn at_ten_thousand_a_second_nothing_is_lost() {
    if std::env::var_os("ADTRACK_PROVE").is_none() {
        return;
    }
    let _alone = alone().await;
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
        let begun = Instant::now();
        let output = run.envs(stack.environment.iter().cloned()).output();
        tokio::pin!(output);
        let mut second = tokio::time::interval(Duration::from_secs(5));
        let output = loop {
            tokio::select! {
                output = &mut output => break output.unwrap(),
                _ = second.tick() => println!(
                    "{buckets} buckets, {:>3.0} s: rows {:?}",
                    begun.elapsed().as_secs_f64(),
                    by_program(&dynamodb.index_writes()),
                ),
            }
        };
        println!("{}", String::from_utf8_lossy(&output.stdout));
        // 3: the machine was too busy to send on time, which is not what is shown here.
        assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
        let writes = dynamodb.index_writes();
        for (partition, writes) in &writes {
            println!("{partition}: {writes:?}");
            assert_eq!(entries(&stack, partition).await, writes.taken);
        }
        nothing_is_given_up(&stack);
        stack.stop().await;
    }
}

/// By Zipf's law with this exponent 965 of 1,000 requests are for the first program.
const SCENARIO: &str = r#"
description = "one program takes 10,000 requests a second"
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

/// Rows that the index took, by program.
fn by_program(writes: &BTreeMap<String, PartitionWrites>) -> BTreeMap<&str, usize> {
    let mut rows = BTreeMap::new();
    for (partition, writes) in writes {
        *rows.entry(partition.split('#').next().unwrap()).or_default() += writes.taken;
    }
    rows
}
