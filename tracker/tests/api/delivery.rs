//! Delivery of accepted events to the stream.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use local_stack::aws;
use local_stack::ports::Port;
use serde_json::json;

use crate::helpers::{STREAM, Setup, TestApp, events_in, until};

async fn send(app: &TestApp, count: usize) -> HashSet<String> {
    let requests = (0..count).map(|_| app.get_json("/event/212313"));
    let responses = futures::future::join_all(requests).await;
    responses.iter().filter_map(|(_, body)| Some(body["messageId"].as_str()?.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn delivers_each_accepted_event_once() {
    let app = Setup { stream_shards: 3, ..Setup::default() }.start().await;
    let mut sent = HashSet::new();
    for _ in 0..6 {
        sent.extend(send(&app, 200).await);
    }
    assert_eq!(sent.len(), 1_200);
    let events = app.wait_for_events(1_200).await;
    let delivered: HashSet<_> = events.iter().map(|event| event.message_id.clone()).collect();
    assert_eq!(events.len(), 1_200);
    assert_eq!(delivered, sent);
    app.until_metric("adtrack_events_delivered_total", 1_200.0).await;
    app.until_metric("adtrack_journal_bytes", 0.0).await;
    app.until_metric("adtrack_journal_outstanding_events", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_only_the_failed_records_of_a_call() {
    // One shard takes 1 MiB/s; it rejects the rest of a burst record by record.
    let kinesis = aws::throttled_kinesis(Port::Any).await.unwrap();
    // With a long linger the burst arrives at once, however slow this machine is.
    let flags = Setup::flags(&["--linger-ms=3000"]);
    let app = Setup { kinesis: Some(kinesis), ..flags }.start().await;
    let parameters = (0..15).map(|n| format!("p{n}={}", "x".repeat(500))).collect::<Vec<_>>();
    let path = format!("/event/212313?{}", parameters.join("&"));
    let mut sent = HashSet::new();
    for _ in 0..4 {
        let responses = futures::future::join_all((0..100).map(|_| app.get_json(&path))).await;
        sent.extend(
            responses.iter().map(|(_, body)| body["messageId"].as_str().unwrap().to_owned()),
        );
    }
    assert_eq!(sent.len(), 400, "3 MiB");
    let events = app.wait_for_events(400).await;
    let delivered: HashSet<_> = events.iter().map(|event| event.message_id.clone()).collect();
    assert_eq!(delivered, sent);
    assert_eq!(events.len(), 400, "nothing was sent twice");
    let throttled =
        r#"adtrack_records_failed_total{code="ProvisionedThroughputExceededException"}"#;
    assert!(app.metric(throttled).await > 0.0);
    until("the retries are counted", async || {
        app.metric("adtrack_records_retried_total").await == app.metric(throttled).await
    })
    .await;
}

/// Starts a tracker whose stream does not exist yet: every call fails until [`make_stream`].
async fn without_stream() -> TestApp {
    let flags = ["--journal-max-bytes=131072", "--event-stream=later"];
    Setup::flags(&flags).start().await
}

async fn make_stream(app: &TestApp) {
    let client = aws_sdk_kinesis::Client::new(&aws::sdk_config(&app.kinesis.url).await);
    aws::create_stream(&client, "later", 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_events_while_the_journal_is_full() {
    let app = without_stream().await;
    let mut accepted = 0;
    let refused = loop {
        let response = app.get("/event/212313").await;
        if response.status() != 200 {
            break response;
        }
        accepted += 1;
        assert!(accepted < 1_000, "a journal of 131,072 bytes never fills");
    };
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    let body: serde_json::Value = refused.json().await.unwrap();
    assert_eq!(body["code"], "overloaded");
    assert_eq!(
        app.get_json("/health/check").await.0,
        200,
        "a full journal must not replace the task"
    );
    until("readiness says why", async || {
        let (status, body) = app.get_json("/health/ready").await;
        status == 503 && body["reasons"] == json!(["kinesis_refusing", "journal_nearly_full"])
    })
    .await;
    assert!(app.metric(r#"adtrack_requests_total{answer="overloaded"}"#).await >= 1.0);
    assert!(app.metric("adtrack_journal_bytes").await > 100_000.0);
    assert!(app.metric("adtrack_journal_oldest_seconds").await > 0.0);

    make_stream(&app).await;
    until("it accepts events again", async || app.get_json("/event/212313").await.0 == 200).await;
    app.until_ready().await;
    app.until_metric("adtrack_events_delivered_total", f64::from(accepted) + 1.0).await;
    app.until_metric("adtrack_journal_bytes", 0.0).await;
}

/// The number of events in the stream's only shard.
async fn event_count(stream: &aws_sdk_kinesis::Client) -> usize {
    let iterator = stream
        .get_shard_iterator()
        .stream_name(STREAM)
        .shard_id("shardId-000000000000")
        .shard_iterator_type(aws_sdk_kinesis::types::ShardIteratorType::TrimHorizon)
        .send()
        .await
        .unwrap();
    let records = stream.get_records().set_shard_iterator(iterator.shard_iterator).send().await;
    records.unwrap().records.iter().map(|record| events_in(record.data.as_ref()).len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_delivers_waiting_events() {
    let app = Setup::flags(&["--linger-ms=60000"]).start().await;
    let sent = send(&app, 100).await;
    assert_eq!(app.stream_events().await.len(), 0, "they wait");
    let stream = aws_sdk_kinesis::Client::new(&aws::sdk_config(&app.kinesis.url).await);
    let (status, _kinesis) = app.stop().await;
    assert_eq!(status, ExitCode::SUCCESS);
    assert_eq!(event_count(&stream).await, sent.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_within_its_grace_and_keeps_undelivered_events() {
    let app = Setup::flags(&["--event-stream=never", "--shutdown-grace-seconds=1"]).start().await;
    let sent = send(&app, 10).await;
    let started_at = std::time::Instant::now();
    let (status, _kinesis, redis, folder) = app.stop_and_keep().await;
    assert_eq!(status, ExitCode::SUCCESS);
    assert!(started_at.elapsed() < Duration::from_secs(10));

    // The next tracker, with another number of workers, finds and delivers them.
    let next = Setup::flags(&["--workers=1"]).start_on(redis, folder).await;
    let events = next.wait_for_events(10).await;
    let delivered: HashSet<_> = events.iter().map(|event| event.message_id.clone()).collect();
    assert_eq!(delivered, sent);
    assert_eq!(next.metric("adtrack_journal_replayed_events_total").await, 10.0);
    next.until_metric("adtrack_journal_bytes", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_spills_undelivered_events_for_redrive() {
    let spill = tempfile::tempdir().unwrap();
    let url = format!("file://{}/spill", spill.path().display());
    let app = Setup::flags(&[
        "--event-stream=later",
        "--shutdown-grace-seconds=2",
        &format!("--spill-url={url}"),
    ])
    .start()
    .await;
    let sent = send(&app, 300).await;
    let (status, kinesis, _redis, _folder) = app.stop_and_keep().await;
    assert_eq!(status, ExitCode::SUCCESS);

    let client = aws_sdk_kinesis::Client::new(&aws::sdk_config(&kinesis.url).await);
    let redrive = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_redrive"))
            .args(["--spill-url", &url, "--event-stream=later"])
            .env("AWS_ENDPOINT_URL_KINESIS", &kinesis.url)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "local")
            .env("AWS_SECRET_ACCESS_KEY", "local")
            .output()
            .unwrap()
    };
    assert_eq!(redrive().status.code(), Some(1), "there is no such stream");
    aws::create_stream(&client, "later", 1).await.unwrap();
    for _ in 0..2 {
        let output = redrive();
        assert!(output.status.success(), "{output:?}");
    }
    let iterator = client
        .get_shard_iterator()
        .stream_name("later")
        .shard_id("shardId-000000000000")
        .shard_iterator_type(aws_sdk_kinesis::types::ShardIteratorType::TrimHorizon)
        .send()
        .await
        .unwrap();
    let records = client.get_records().set_shard_iterator(iterator.shard_iterator).send().await;
    let redriven: Vec<_> = records
        .unwrap()
        .records
        .iter()
        .flat_map(|record| events_in(record.data.as_ref()))
        .map(|event| event.message_id)
        .collect();
    assert_eq!(redriven.len(), 300, "the second run had nothing to do");
    assert_eq!(redriven.into_iter().collect::<HashSet<_>>(), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_many_events_into_few_records() {
    let app = Setup::flags(&["--linger-ms=1000"]).start().await;
    for _ in 0..4 {
        send(&app, 250).await;
    }
    app.until_metric("adtrack_events_delivered_total", 1_000.0).await;
    let records = app.metric("adtrack_records_delivered_total").await;
    assert!(records <= 20.0, "{records} records for 1,000 events");
    assert_eq!(app.metric("adtrack_events_per_record_sum").await, 1_000.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_requests_during_the_shutdown_delay() {
    let app = Setup::flags(&["--shutdown-delay-seconds=3"]).start().await;
    app.request_stop();
    until("the health check reports draining", async || {
        app.get_json("/health/check").await == (503, json!({"status": "draining"}))
    })
    .await;
    for (path, status) in [("/event/212313", 200), ("/event/unknown", 404)] {
        let response = app.get(path).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["connection"], "close", "{path}");
    }
    let stream = aws_sdk_kinesis::Client::new(&aws::sdk_config(&app.kinesis.url).await);
    let (exit, _kinesis) = app.stop().await;
    assert_eq!(exit, ExitCode::SUCCESS);
    assert_eq!(event_count(&stream).await, 1);
}
