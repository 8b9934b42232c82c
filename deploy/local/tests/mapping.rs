//! The event-source mapping reacts to a function's responses and errors as AWS does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use axum::body::Bytes;
use local_stack::aws::{self, EmbeddedServer};
use local_stack::lambda::{
    EventSourceMapping, Function, FunctionSettings, Invoke, InvokeError, MappingSettings,
};
use local_stack::ports::Port;
use serde_json::{Value, json};
use tempfile::TempDir;

const STREAM: &str = "stream";

/// A function that is a closure, from a batch (sequence numbers and partition keys) to its response.
struct Scripted<F> {
    respond: F,
    batches: Mutex<Vec<Vec<String>>>,
}

type Batch = Vec<(String, String)>;

impl<F: Fn(&Batch) -> Result<Value, InvokeError> + Send + Sync + 'static> Invoke for Scripted<F> {
    async fn invoke(&self, payload: Bytes) -> Result<Bytes, InvokeError> {
        let event: Value = serde_json::from_slice(&payload).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let batch: Batch = event["Records"]
            .as_array()
            .unwrap()
            .iter()
            .map(|record| {
                (
                    text(&record["kinesis"]["sequenceNumber"]),
                    text(&record["kinesis"]["partitionKey"]),
                )
            })
            .collect();
        self.batches.lock().unwrap().push(batch.iter().map(|(_, key)| key.clone()).collect());
        (self.respond)(&batch).map(|response| response.to_string().into())
    }
}

struct Setup {
    client: Client,
    folder: TempDir,
    _kinesis: EmbeddedServer,
}

impl Setup {
    async fn new() -> Self {
        let kinesis = aws::kinesis(Port::Any).await.unwrap();
        let client = Client::new(&aws::sdk_config(&kinesis.url).await);
        aws::create_stream(&client, STREAM, 1).await.unwrap();
        Self { client, folder: tempfile::tempdir().unwrap(), _kinesis: kinesis }
    }

    /// Puts a record with each of these partition keys.
    async fn put(&self, keys: impl IntoIterator<Item = String>) {
        for key in keys {
            let put = self.client.put_record().stream_name(STREAM).partition_key(key);
            put.data(Blob::new("x")).send().await.unwrap();
        }
    }

    fn settings(&self) -> MappingSettings {
        MappingSettings {
            stream: STREAM.to_owned(),
            batch_size: 10,
            batching_window: Duration::ZERO,
            maximum_retry_attempts: None,
            maximum_record_age: Duration::from_secs(3_600),
            bisect_on_error: true,
            on_failure_folder: self.folder.path().join("on-failure"),
        }
    }

    fn on_failure_entries(&self) -> Vec<Value> {
        std::fs::read_dir(self.folder.path().join("on-failure"))
            .into_iter()
            .flatten()
            .map(|entry| {
                serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap()
            })
            .collect()
    }

    fn run<F>(
        &self,
        settings: MappingSettings,
        respond: F,
    ) -> (Arc<Scripted<F>>, EventSourceMapping)
    where
        F: Fn(&Batch) -> Result<Value, InvokeError> + Send + Sync + 'static,
    {
        let function = Arc::new(Scripted { respond, batches: Mutex::default() });
        let mapping =
            EventSourceMapping::start(self.client.clone(), Arc::clone(&function), settings);
        (function, mapping)
    }
}

fn keys(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < give_up, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delivers_records_in_order_in_batches() {
    let setup = Setup::new().await;
    setup.put(keys(0..25)).await;
    let (function, _mapping) =
        setup.run(setup.settings(), |_| Ok(json!({"batchItemFailures": []})));
    until("all records arrived", || function.batches.lock().unwrap().concat().len() == 25).await;
    setup.put(keys(25..30)).await;
    until("later records arrived", || function.batches.lock().unwrap().concat().len() == 30).await;
    let batches = function.batches.lock().unwrap();
    assert_eq!(batches.concat(), keys(0..30));
    assert_eq!(batches[..3].iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn batching_window_lets_a_batch_fill() {
    let setup = Setup::new().await;
    let settings =
        MappingSettings { batching_window: Duration::from_millis(700), ..setup.settings() };
    let (function, _mapping) = setup.run(settings, |_| Ok(Value::Null));
    for key in keys(0..4) {
        setup.put([key]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until("all records arrived", || function.batches.lock().unwrap().concat().len() == 4).await;
    assert_eq!(*function.batches.lock().unwrap(), [keys(0..4)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_from_the_lowest_reported_record() {
    let setup = Setup::new().await;
    setup.put(keys(0..6)).await;
    let failed_once = Mutex::new(false);
    let (function, _mapping) = setup.run(setup.settings(), move |batch| {
        let mut failed = failed_once.lock().unwrap();
        if std::mem::replace(&mut *failed, true) {
            return Ok(json!({"batchItemFailures": []}));
        }
        let report = |index: usize| json!({"itemIdentifier": batch[index].0});
        Ok(json!({"batchItemFailures": [report(5), report(3)]}))
    });
    until("the rest was retried", || function.batches.lock().unwrap().len() == 2).await;
    assert_eq!(*function.batches.lock().unwrap(), [keys(0..6), keys(3..6)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bisection_isolates_a_record_that_crashes_the_function() {
    let setup = Setup::new().await;
    setup.put(keys(0..8)).await;
    let settings = MappingSettings { maximum_retry_attempts: Some(1), ..setup.settings() };
    let (function, _mapping) = setup.run(settings, |batch| {
        if batch.iter().any(|(_, key)| key == "5") {
            return Err(InvokeError::Crashed("poison".to_owned()));
        }
        Ok(json!({"batchItemFailures": []}))
    });
    until("the rest is done", || {
        function.batches.lock().unwrap().last().is_some_and(|batch| batch == &keys(6..8))
    })
    .await;
    let batches = function.batches.lock().unwrap().clone();
    let done: Vec<_> =
        batches.iter().filter(|batch| !batch.contains(&"5".to_owned())).cloned().collect();
    assert_eq!(done, [keys(0..4), keys(4..5), keys(6..8)], "in order, each once");
    let alone = batches.iter().filter(|batch| **batch == keys(5..6)).count();
    assert_eq!(alone, 2, "a first try and one retry");
    let given_up = setup.on_failure_entries();
    assert_eq!(given_up.len(), 1);
    assert_eq!(given_up[0]["requestContext"]["condition"], "RetryAttemptsExhausted");
    assert_eq!(given_up[0]["KinesisBatchInfo"]["batchSize"], 1);
    let payload: Value = serde_json::from_str(given_up[0]["payload"].as_str().unwrap()).unwrap();
    assert_eq!(payload["Records"][0]["kinesis"]["data"], "eA==", "whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_until_success_without_a_limit() {
    let setup = Setup::new().await;
    setup.put(keys(0..2)).await;
    let left = Mutex::new(4);
    let settings = MappingSettings { bisect_on_error: false, ..setup.settings() };
    let (function, _mapping) = setup.run(settings, move |_| {
        let mut left = left.lock().unwrap();
        *left -= 1;
        if *left > 0 { Err(InvokeError::Reported("failing".to_owned())) } else { Ok(Value::Null) }
    });
    until("it succeeded", || function.batches.lock().unwrap().len() == 4).await;
    assert!(function.batches.lock().unwrap().iter().all(|batch| *batch == keys(0..2)));
    assert_eq!(setup.on_failure_entries(), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn gives_up_on_records_that_are_too_old() {
    let setup = Setup::new().await;
    setup.put(keys(0..3)).await;
    let settings = MappingSettings {
        maximum_record_age: Duration::from_secs(3),
        bisect_on_error: false,
        ..setup.settings()
    };
    let (function, _mapping) =
        setup.run(settings, |_| Err(InvokeError::Reported("failing".to_owned())));
    // Usually in one entry; in several if some records reach the age limit later than others.
    let size = |given_up: &Value| given_up["KinesisBatchInfo"]["batchSize"].as_u64().unwrap();
    until("the mapping gave up on all", || {
        setup.on_failure_entries().iter().map(size).sum::<u64>() == 3
    })
    .await;
    for given_up in setup.on_failure_entries() {
        assert_eq!(given_up["requestContext"]["condition"], "RecordAgeExceeded");
    }
    assert!(!function.batches.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn finds_new_shards() {
    let setup = Setup::new().await;
    let (function, _mapping) = setup.run(setup.settings(), |_| Ok(Value::Null));
    setup.put(keys(0..2)).await;
    until("the first shard is read", || function.batches.lock().unwrap().concat().len() == 2).await;
    let split =
        setup.client.split_shard().stream_name(STREAM).shard_to_split("shardId-000000000000");
    split.new_starting_hash_key("170141183460469231731687303715884105728").send().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    setup.put(keys(2..10)).await;
    until("both halves are read", || function.batches.lock().unwrap().concat().len() == 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_with_its_stream_and_reads_no_other_of_its_name() {
    let setup = Setup::new().await;
    setup.put(keys(0..5)).await;
    let (function, mapping) = setup.run(setup.settings(), |_| Ok(Value::Null));
    until("the records arrived", || function.batches.lock().unwrap().concat().len() == 5).await;

    // Times of creation are whole seconds.
    tokio::time::sleep(Duration::from_secs(1)).await;
    setup.client.delete_stream().stream_name(STREAM).send().await.unwrap();
    let create = async || aws::create_stream(&setup.client, STREAM, 1).await.is_ok();
    while !create().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until("it noticed", || mapping.has_ended()).await;
    setup.put(keys(5..8)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(function.batches.lock().unwrap().concat(), keys(0..5));

    let (function, mapping) = setup.run(setup.settings(), |_| Ok(Value::Null));
    until("a new one reads them", || function.batches.lock().unwrap().concat() == keys(5..8)).await;
    assert!(!mapping.has_ended());
}

/// A function whose bootstrap is a shell script.
fn script_function(folder: &Path, script: &str, timeout: Duration) -> Arc<Function> {
    use std::os::unix::fs::PermissionsExt;
    let binary = folder.join("bootstrap");
    std::fs::write(&binary, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    Function::new(FunctionSettings {
        name: "function".to_owned(),
        binary,
        environment: Vec::new(),
        timeout,
        concurrency: 1,
        log_folder: folder.join("logs"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_a_crash_and_a_time_out_of_the_bootstrap() {
    let folder = tempfile::tempdir().unwrap();
    let crashing = script_function(folder.path(), "exit 3", Duration::from_secs(10));
    let error = crashing.invoke("{}".into()).await.unwrap_err();
    assert!(matches!(&error, InvokeError::Crashed(status) if status.contains('3')), "{error}");

    let hanging = script_function(folder.path(), "exec sleep 60", Duration::from_millis(200));
    let invoked_at = Instant::now();
    let error = hanging.invoke("{}".into()).await.unwrap_err();
    assert!(matches!(error, InvokeError::TimedOut(_)), "{error}");
    assert!(invoked_at.elapsed() < Duration::from_secs(5));
}
