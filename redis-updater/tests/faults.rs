//! What the function does with a Redis that lost its data, is full, or holds foreign or forged data.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod harness;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use adtrack_proto::program::{CoreData, replaced_by};
use futures::StreamExt;
use harness::{Function, NONE, next, program, record};
use local_stack::lambda::Record;
use serde_json::{Value, json};

fn deleted(id: &str) -> Value {
    json!({"programId": id, "deleted": true})
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_programs_in_the_mark() {
    let function = Function::start().await;
    let _: () = function.redis.command(&["SET", "adtrack:loaded", "0"]).await.unwrap();
    for (sequence_number, json, expected) in [
        ("1", program("a", "new"), "1"),
        ("2", program("b", "new"), "2"),
        ("2", program("b", "a retry"), "2"),
        ("3", program("b", "changed"), "2"),
        ("1", program("b", "older"), "2"),
        ("4", deleted("b"), "1"),
        ("4", deleted("b"), "1"),
        ("5", deleted("never-there"), "1"),
        ("6", program("b", "back"), "2"),
        ("7", deleted("a"), "1"),
        ("8", deleted("b"), "0"),
    ] {
        assert_eq!(function.invoke(&[record(sequence_number, &json)]).await, NONE);
        assert_eq!(function.mark().await.as_deref(), Some(expected), "{sequence_number} {json}");
    }
}

/// The mark may be set right after a publish, while most programs are still on the stream.
#[tokio::test(flavor = "multi_thread")]
async fn does_not_count_programs_twice_that_the_mark_already_includes() {
    let function = Function::start().await;
    function.invoke(&[record("1", &program("p0", "early"))]).await;
    let _: () = function.redis.command(&["SET", "adtrack:loaded", "100"]).await.unwrap();
    let batch: Vec<_> =
        (0..100).map(|n| record(&(n + 2).to_string(), &program(&format!("p{n}"), "n"))).collect();
    assert_eq!(function.invoke(&batch).await, NONE);
    assert_eq!(function.mark().await.as_deref(), Some("100"));
    function.invoke(&[record("999", &program("another", "n"))]).await;
    assert_eq!(function.mark().await.as_deref(), Some("101"));
}

/// Before it counted, redis-updater set the mark to 1 after each batch, whatever Redis held.
#[tokio::test(flavor = "multi_thread")]
async fn works_with_marks_of_earlier_versions_and_foreign_ones() {
    let function = Function::start().await;
    for (number, command, expected) in [
        (1, &["SET", "adtrack:loaded", "1"][..], Some("1")),
        (2, &["SET", "adtrack:loaded", "1"], Some("2")),
        (3, &["SET", "adtrack:loaded", "yes"], Some("yes")),
        (4, &["DEL", "adtrack:loaded"], None),
    ] {
        let _: redis::Value = function.redis.command(command).await.unwrap();
        let batch = [record(&number.to_string(), &program(&format!("p{number}"), "n"))];
        assert_eq!(function.invoke(&batch).await, NONE);
        assert_eq!(function.mark().await.as_deref(), expected, "{command:?}");
    }
    let _: u64 = function.redis.command(&["LPUSH", "adtrack:loaded", "1"]).await.unwrap();
    assert_eq!(function.invoke(&[record("9", &program("p9", "n"))]).await, NONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn never_creates_the_mark_on_a_redis_that_was_emptied() {
    let function = Function::start().await;
    function.invoke(&[record("1", &program("a", "n")), record("2", &program("b", "n"))]).await;
    let _: () = function.redis.command(&["SET", "adtrack:loaded", "2"]).await.unwrap();
    let _: () = function.redis.command(&["FLUSHALL"]).await.unwrap();
    assert_eq!(function.invoke(&[record("3", &program("a", "again"))]).await, NONE);
    assert_eq!(function.name("a").await, "again");
    assert_eq!(function.mark().await, None);
}

async fn used_memory(function: &Function) -> u64 {
    let info: redis::InfoDict = function.redis.command(&["INFO", "memory"]).await.unwrap();
    info.get::<u64>("used_memory").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_a_full_redis_as_it_is_and_reports_for_a_retry() {
    let function = Function::start().await;
    let name = "x".repeat(500);
    let batch = |sequence: u64, programs: u64| -> Vec<Record> {
        let number = |n: u64| (sequence * 10_000 + n).to_string();
        (0..programs).map(|n| record(&number(n), &program(&format!("p{n}"), &name))).collect()
    };
    assert_eq!(function.invoke(&batch(1, 1_000)).await, NONE);
    let _: () = function.redis.command(&["SET", "adtrack:loaded", "1000"]).await.unwrap();
    let before = function.hash("p7").await;
    let limit = used_memory(&function).await + 300_000;
    let set = ["CONFIG", "SET", "maxmemory", &limit.to_string()];
    let _: () = function.redis.command(&set).await.unwrap();
    // New programs, ten times what there is room for, and changed ones, again and again.
    for attempt in 0..3 {
        let reported = function.invoke(&batch(2, 6_000)).await;
        assert!(reported.len() > 4_000, "{attempt}: {}", reported.len());
        // One command may exceed the limit; the buffers of the connections count, too.
        let used = used_memory(&function).await;
        assert!(used < limit + 4_000_000, "{attempt}: {used} of {limit}");
    }
    let after = function.hash("p7").await;
    assert!(after == before || after["programName"] == name, "whole");
    let counted = async |pattern: &str| {
        let keys: Vec<String> = function.redis.command(&["KEYS", pattern]).await.unwrap();
        keys.len()
    };
    let programs = counted("program:{*}").await;
    assert_eq!(function.mark().await.as_deref(), Some(&*programs.to_string()), "kept, and right");
    assert_eq!(counted("*").await, programs + 1, "no other key");

    let _: () = function.redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    let refused = function.invoke(&[record("99990000", &program("p7", "changed"))]).await;
    assert_eq!(refused, ["99990000"]);
    let _: () = function.redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    assert_eq!(function.invoke(&[record("99990000", &program("p7", "changed"))]).await, NONE);
    assert_eq!(function.name("p7").await, "changed");
    assert_eq!(function.invoke(&batch(2, 6_000)).await, NONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_back_a_batch_that_keeps_failing() {
    let function = Function::start().await;
    let _: () = function.redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    let started_at = Instant::now();
    for _ in 0..6 {
        assert_eq!(function.invoke(&[record("1", &program("p", "n"))]).await, ["1"]);
    }
    // The delays are random, up to 6.3 s together; the calls take a few milliseconds.
    assert!(started_at.elapsed().as_millis() > 300, "{:?}", started_at.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn replaces_an_epoch_that_the_stream_cannot_have() {
    let function = Function::start_in_epoch(3).await;
    for (held, replaced) in [("5.1", true), ("18446744073709551615.9", true), ("4.1", false)] {
        let id = held.replace('.', "-");
        function.invoke(&[record("10", &program(&id, "first"))]).await;
        let key = format!("program:{{{id}}}");
        let _: u64 = function.redis.command(&["HSET", &key, "version", held]).await.unwrap();
        let mut messages = function.subscribe().await;
        assert_eq!(function.invoke(&[record("11", &program(&id, "true"))]).await, NONE);
        // A function with the next epoch may already run.
        assert_eq!(function.name(&id).await == "true", replaced, "{held}");
        if replaced {
            let message = messages.next().await.unwrap();
            let named = replaced_by(message.get_payload_bytes()).unwrap();
            assert_eq!(named.to_string(), held, "the message names it for trackers");
            // Trackers that missed the message find it later.
            function.invoke(&[record("12", &program(&id, "later"))]).await;
            assert_eq!(function.hash(&id).await["replaces"], held);
        }
    }
}

/// A sequence number as Kinesis gives it to a record that arrives now, in a shard that is a day old.
fn sequence_number(shard_created_at: u64, record: u64, arrived_at: u64) -> String {
    // A sequence number has 186 bits, which are 47 hexadecimal digits.
    let hex = format!("2{shard_created_at:09x}0{record:016x}0{arrived_at:010x}000000002");
    let mut decimal = vec![0_u32];
    for digit in hex.chars() {
        let mut carry = digit.to_digit(16).unwrap();
        for place in &mut decimal {
            carry += *place * 16;
            *place = carry % 10;
            carry /= 10;
        }
        while carry > 0 {
            decimal.push(carry % 10);
            carry /= 10;
        }
    }
    decimal.iter().rev().map(u32::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn replaces_a_sequence_number_of_the_future() {
    let function = Function::start().await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let day = 86_400;
    let arriving = |number: u64, name: &str| Record {
        arrived_at: now as f64,
        ..record(&sequence_number(now - day, number, now), &program("p", name))
    };
    function.invoke(&[arriving(1, "first")]).await;
    assert_eq!(function.name("p").await, "first");
    for (held, replaced) in [
        ("9".repeat(56), true),
        (format!("1{}", "0".repeat(128)), true),
        (sequence_number(now + 3 * day, 1, now), true),
        // A shard that was created since.
        (sequence_number(now, 1, now), false),
    ] {
        let held = format!("0.{held}");
        let _: u64 =
            function.redis.command(&["HSET", "program:{p}", "version", &held]).await.unwrap();
        assert_eq!(function.invoke(&[arriving(2, &held)]).await, NONE);
        assert_eq!(function.name("p").await == held, replaced, "{held}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn does_not_bound_sequence_numbers_of_unknown_structure() {
    let function = Function::start().await;
    function.invoke(&[record(&"9".repeat(56), &program("p", "newest"))]).await;
    function.invoke(&[record("1", &program("p", "older"))]).await;
    assert_eq!(function.name("p").await, "newest");
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_record_replaces_the_version_that_it_names_and_no_other() {
    let function = Function::start().await;
    let mut repaired = program("p", "repaired");
    repaired["replaces"] = json!("0.999");
    for (held, name) in [("0.998", "first"), ("0.999", "repaired"), ("0.00999", "repaired")] {
        function.invoke(&[record("1", &program("p", "first"))]).await;
        let _: u64 =
            function.redis.command(&["HSET", "program:{p}", "version", held]).await.unwrap();
        assert_eq!(function.invoke(&[record("2", &repaired)]).await, NONE);
        assert_eq!(function.name("p").await, name, "{held}");
    }
    function.invoke(&[record("3", &program("p", "later"))]).await;
    assert_eq!(function.invoke(&[record("2", &repaired)]).await, NONE, "a replay");
    assert_eq!(function.name("p").await, "later");
}

/// The member `replaces` of the hash becomes part of every message.
#[tokio::test(flavor = "multi_thread")]
async fn drops_a_member_replaces_that_is_not_a_version() {
    let function = Function::start().await;
    function.invoke(&[record("1", &program("p", "first"))]).await;
    let mut messages = function.subscribe().await;
    for (sequence_number, foreign) in [("2", r#"0.1","version":"9.9"#), ("3", "x"), ("4", "")] {
        let set = ["HSET", "program:{p}", "replaces", foreign];
        let _: u64 = function.redis.command(&set).await.unwrap();
        assert_eq!(function.invoke(&[record(sequence_number, &program("p", "next"))]).await, NONE);
        assert_eq!(next(&mut messages).await.version.to_string(), format!("0.{sequence_number}"));
        assert_eq!(function.hash("p").await.get("replaces"), None, "{foreign}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replaces_the_hash_of_another_program() {
    let function = Function::start().await;
    function.invoke(&[record("500", &program("other", "other"))]).await;
    let _: bool =
        function.redis.command(&["COPY", "program:{other}", "program:{p}"]).await.unwrap();
    let mut messages = function.subscribe().await;
    assert_eq!(function.invoke(&[record("1", &program("p", "true"))]).await, NONE);
    assert_eq!(function.name("p").await, "true");
    assert_eq!(function.hash("p").await["programId"], "p");
    let CoreData::Program(pushed) = next(&mut messages).await.core_data else { panic!() };
    assert_eq!(pushed.program_name, "true");
}
