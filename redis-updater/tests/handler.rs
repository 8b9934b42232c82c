//! The function, invoked as Lambda does it, with a real redis-server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod harness;

use std::process::Command;
use std::time::{Duration, Instant};

use adtrack_proto::program::{CoreData, Update};
use adtrack_proto::store_script::TOMBSTONE_SECONDS;
use harness::{Function, NONE, next, program, program_store, record};
use local_stack::lambda::Record;
use redis::AsyncCommands;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn stores_and_publishes_an_update_with_its_version() {
    let function = Function::start_in_epoch(3).await;
    let mut messages = function.subscribe().await;
    assert_eq!(function.invoke(&[record("495", &program("p", "name"))]).await, NONE);
    let hash = function.hash("p").await;
    assert_eq!((hash["version"].as_str(), hash["programName"].as_str()), ("3.495", "name"));
    let update = next(&mut messages).await;
    assert_eq!(update.version.to_string(), "3.495");
    let values = Update::HASH_FIELDS.map(|field| hash.get(field).cloned());
    assert_eq!(Update::from_hash(values.into()).unwrap(), Some(update));
    assert_eq!(
        function.mark().await,
        None,
        "only mark-loaded knows whether Redis has all programs"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn replaces_the_whole_program() {
    let function = Function::start().await;
    let mut full = program("p", "one");
    full["validUntil"] = json!("2030-01-01T00:00:00Z");
    full["landingUrl"] = json!("https://shop.example/");
    function.invoke(&[record("1", &full)]).await;
    assert!(function.hash("p").await.contains_key("validUntil"));
    function.invoke(&[record("2", &program("p", "two"))]).await;
    let hash = function.hash("p").await;
    assert!(!hash.contains_key("validUntil") && !hash.contains_key("landingUrl"), "{hash:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ignores_a_version_older_than_the_stored_one() {
    let function = Function::start().await;
    let long = "49590338271490256608559692538361571095921575989136588898";
    let longer = "149590338271490256608559692538361571095921575989136588898";
    let mut messages = function.subscribe().await;
    for (sequence_number, name, expected) in [
        (long, "long", "long"),
        ("9", "short", "long"),
        (longer, "longer", "longer"),
        (long, "long again", "longer"),
        (longer, "equal: a retry", "equal: a retry"),
    ] {
        assert_eq!(function.invoke(&[record(sequence_number, &program("p", name))]).await, NONE);
        assert_eq!(function.name("p").await, expected, "{sequence_number}");
    }
    let mut published = Vec::new();
    for _ in 0..3 {
        let CoreData::Program(program) = next(&mut messages).await.core_data else { panic!() };
        published.push(program.program_name);
    }
    assert_eq!(published, ["long", "longer", "equal: a retry"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn compares_epochs_before_sequences() {
    let function = Function::start_in_epoch(10).await;
    function.invoke(&[record("5", &program("p", "epoch 10"))]).await;
    let store = program_store(&function.redis);
    let update = |version: &str, name: &str| {
        let mut json = program("p", name);
        json["version"] = json!(version);
        Update::from_json(json.to_string().as_bytes()).unwrap()
    };
    store.store(&[update("9.77777", "epoch 9")]).await;
    assert_eq!(function.name("p").await, "epoch 10");
    store.store(&[update("11.1", "epoch 11")]).await;
    assert_eq!(function.name("p").await, "epoch 11");
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_leaves_a_tombstone_that_outlives_replays() {
    let function = Function::start().await;
    let mut messages = function.subscribe().await;
    let batch = [
        record("1", &program("p", "one")),
        record("2", &json!({"programId": "p", "deleted": true})),
        record("1", &program("p", "one, replayed")),
    ];
    assert_eq!(function.invoke(&batch).await, NONE);
    let hash = function.hash("p").await;
    assert_eq!((hash["deleted"].as_str(), hash["version"].as_str()), ("true", "0.2"));
    let mut connection = function.redis.connection().await.unwrap();
    let ttl: i64 = connection.ttl("program:{p}").await.unwrap();
    assert!((i64::from(TOMBSTONE_SECONDS) - 60..=i64::from(TOMBSTONE_SECONDS)).contains(&ttl));
    next(&mut messages).await;
    assert!(matches!(next(&mut messages).await.core_data, CoreData::Deleted(_)));
    // A program that is published again does not expire.
    function.invoke(&[record("3", &program("p", "three"))]).await;
    assert_eq!(function.name("p").await, "three");
    assert_eq!(connection.ttl::<_, i64>("program:{p}").await.unwrap(), -1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_invalid_records_and_stores_the_others_in_order() {
    let function = Function::start().await;
    let batch = [
        record("1", &program("a", "one")),
        record("2", &json!({"programId": "b"})),
        Record { data: b"not json".to_vec(), ..record("3", &Value::Null) },
        record("4", &program("a", "two")),
    ];
    for _ in 0..2 {
        assert_eq!(function.invoke(&batch).await, NONE);
    }
    assert_eq!(function.name("a").await, "two");
    let folder =
        function.folder.path().join("failed/redis-updater/2026-01-02/shardId-000000000000");
    let mut kept: Vec<Value> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap()
        })
        .collect();
    kept.sort_by_key(|record| record["sequenceNumber"].to_string());
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[0]["reason"], "member `programName` is missing");
    assert_eq!(kept[1]["data"], "bm90IGpzb24=");
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_a_batch_of_several_pipelines() {
    let function = Function::start().await;
    let batch: Vec<_> =
        (0..1_234).map(|n| record(&n.to_string(), &program(&format!("p{n}"), "n"))).collect();
    assert_eq!(function.invoke(&batch).await, NONE);
    let mut connection = function.redis.connection().await.unwrap();
    let keys: usize = redis::cmd("DBSIZE").query_async(&mut connection).await.unwrap();
    assert_eq!(keys, 1_234);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_an_unreachable_redis_and_reconnects_when_it_returns() {
    let mut function = Function::start().await;
    assert_eq!(function.invoke(&[record("1", &program("p", "one"))]).await, NONE);
    function.redis.kill().await;
    let batch = [record("2", &program("p", "two")), record("3", &json!({"programId": "q"}))];
    let started_at = Instant::now();
    let reported = function.invoke(&batch).await;
    assert_eq!(reported, ["2"], "the invalid record is kept, not reported");
    assert!(started_at.elapsed() < Duration::from_secs(5));
    // The last invocation's connection is dead and has to be replaced.
    function.redis.start_again().await.unwrap();
    assert_eq!(function.invoke(&batch).await, NONE);
    assert_eq!(function.name("p").await, "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn replaces_a_connection_that_died_between_invocations() {
    let mut function = Function::start().await;
    assert_eq!(function.invoke(&[record("1", &program("p", "one"))]).await, NONE);
    function.redis.start_again().await.unwrap();
    assert_eq!(function.invoke(&[record("2", &program("p", "two"))]).await, NONE);
    assert_eq!(function.name("p").await, "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_records_that_redis_refuses_to_write() {
    let function = Function::start().await;
    let mut connection = function.redis.connection().await.unwrap();
    let refuse_writes = ["CONFIG", "SET", "min-replicas-to-write", "1"];
    let command = |words: [&str; 4]| {
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(*word);
        });
        command
    };
    let _: () = command(refuse_writes).query_async(&mut connection).await.unwrap();
    assert_eq!(function.invoke(&[record("1", &program("p", "one"))]).await, ["1"]);
    let accept_writes = ["CONFIG", "SET", "min-replicas-to-write", "0"];
    let _: () = command(accept_writes).query_async(&mut connection).await.unwrap();
    assert_eq!(function.invoke(&[record("1", &program("p", "one"))]).await, NONE);
    assert_eq!(function.name("p").await, "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn replaces_a_connection_to_a_demoted_primary() {
    let function = Function::start().await;
    assert_eq!(function.invoke(&[record("1", &program("p", "one"))]).await, NONE);
    let mut connection = function.redis.connection().await.unwrap();
    let clients = async |connection: &mut redis::aio::MultiplexedConnection| -> String {
        redis::cmd("CLIENT").arg("LIST").query_async(connection).await.unwrap()
    };
    let before = clients(&mut connection).await;
    let _: () = redis::cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg("1")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(function.invoke(&[record("2", &program("p", "two"))]).await, ["2"], "READONLY");
    let _: () =
        redis::cmd("REPLICAOF").arg("NO").arg("ONE").query_async(&mut connection).await.unwrap();
    assert_eq!(function.invoke(&[record("2", &program("p", "two"))]).await, NONE);
    let ids = |list: &str| -> Vec<String> {
        list.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
    };
    let after = ids(&clients(&mut connection).await);
    let own = ids(&before).len() - 1;
    let kept = ids(&before).iter().filter(|id| after.contains(id)).count();
    assert_eq!((own, kept), (1, 1), "the function has a new connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn replaces_a_key_that_is_not_a_hash() {
    let function = Function::start().await;
    let mut connection = function.redis.connection().await.unwrap();
    let _: () = connection.set("program:{p}", "\"{quoted}\"").await.unwrap();
    assert_eq!(function.invoke(&[record("1", &program("p", "one"))]).await, NONE);
    assert_eq!(function.name("p").await, "one");
}

#[test]
fn names_the_missing_or_invalid_setting() {
    let run = |environment: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_redis-updater"))
            .env_clear()
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (environment, named) in [
        (vec![], "FAILED_RECORDS_URL"),
        (vec![("FAILED_RECORDS_URL", "ftp://x")], "FAILED_RECORDS_URL"),
        (
            vec![("FAILED_RECORDS_URL", "file:///tmp/"), ("CORE_DATA_EPOCH", "-1")],
            "CORE_DATA_EPOCH",
        ),
        (vec![("FAILED_RECORDS_URL", "file:///tmp/"), ("REDIS_URL", "x")], "REDIS_URL"),
        (vec![("FAILED_RECORDS_URL", "file:///tmp/")], "AWS_LAMBDA_RUNTIME_API"),
    ] {
        let (status, errors) = run(&environment);
        assert_eq!((status, errors.lines().count()), (Some(64), 1), "{errors}");
        assert!(errors.contains(named), "{errors}");
    }
}
