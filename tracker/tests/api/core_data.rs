//! Core data: read from Redis on a miss, and updated by pub/sub from then on.

use local_stack::RedisServer;
use local_stack::ports::Port;
use serde_json::json;

use crate::helpers::{Setup, deletion, program, store, until};

#[tokio::test(flavor = "multi_thread")]
async fn reads_a_program_once_for_concurrent_misses() {
    let app = Setup::default().start().await;
    let requests = (0..200).map(|_| app.get_json("/event/212313"));
    let responses = futures::future::join_all(requests).await;
    assert!(responses.iter().all(|(status, _)| *status == 200));
    assert_eq!(app.metric(r#"adtrack_l2_loads_total{result="found"}"#).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn remembers_an_unknown_id_until_the_program_is_published() {
    let app = Setup::default().start().await;
    for _ in 0..5 {
        assert_eq!(app.get_json("/event/unknown").await.0, 404);
    }
    assert_eq!(app.metric(r#"adtrack_l2_loads_total{result="absent"}"#).await, 1.0);
    assert_eq!(app.metric(r#"adtrack_l1_lookups_total{result="negative_hit"}"#).await, 4.0);
    // Publishing the program ends that.
    store(&app.redis, &program("unknown", "known", "0.1")).await;
    until("the program is known", async || app.name_of("unknown").await == "known").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn applies_a_pushed_update_without_a_read() {
    let app = Setup::default().start().await;
    assert_eq!(app.name_of("212313").await, "program2");
    store(&app.redis, &program("212313", "renamed", "0.5")).await;
    until("the update is applied", async || app.name_of("212313").await == "renamed").await;
    // A new program arrives the same way.
    store(&app.redis, &program("new", "new", "0.6")).await;
    app.until_metric(r#"adtrack_updates_total{result="applied"}"#, 2.0).await;
    assert_eq!(app.name_of("new").await, "new");
    assert_eq!(app.metric(r#"adtrack_l2_loads_total{result="found"}"#).await, 1.0);
}

/// Publishes without the script, to simulate a reordered or foreign message.
async fn publish(connection: &mut redis::aio::MultiplexedConnection, message: &str) {
    let mut publish = redis::cmd("PUBLISH");
    publish.arg(adtrack_proto::keys::DEFAULT_CHANNEL).arg(message);
    let _: () = publish.query_async(connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ignores_an_older_update() {
    let app = Setup::default().start().await;
    let newer = program("p", "newer", "0.10");
    assert_eq!(store(&app.redis, &newer).await, 1);
    assert_eq!(store(&app.redis, &program("p", "older", "0.9")).await, 0, "Redis refuses it");
    until("the newer is there", async || app.name_of("p").await == "newer").await;
    // Published without the script, as in a reordered delivery.
    let mut connection = app.redis.connection().await.unwrap();
    let message = program("p", "older", "0.9").to_json();
    publish(&mut connection, &message).await;
    until("it is ignored", async || {
        app.metric(r#"adtrack_updates_total{result="ignored"}"#).await == 1.0
    })
    .await;
    assert_eq!(app.name_of("p").await, "newer");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_older_update_does_not_undo_a_deletion() {
    let app = Setup::default().start().await;
    store(&app.redis, &program("p", "p", "0.1")).await;
    until("the program is known", async || app.name_of("p").await == "p").await;
    store(&app.redis, &deletion("p", "0.3")).await;
    until("the program is deleted", async || app.name_of("p").await == "404").await;
    assert_eq!(store(&app.redis, &program("p", "back", "0.2")).await, 0);
    assert_eq!(app.name_of("p").await, "404");
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_and_ignores_malformed_messages() {
    let app = Setup::default().start().await;
    let mut connection = app.redis.connection().await.unwrap();
    for message in ["", "not json", "{}", r#"{"programId":"p","deleted":true}"#] {
        publish(&mut connection, message).await;
    }
    until("all are counted", async || {
        app.metric(r#"adtrack_updates_total{result="malformed"}"#).await == 4.0
    })
    .await;
    assert_eq!(app.name_of("212313").await, "program2");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_a_malformed_hash_as_unavailable_not_unknown() {
    let app = Setup::default().start().await;
    let mut connection = app.redis.connection().await.unwrap();
    let _: () = redis::cmd("HSET")
        .arg("program:{bad}")
        .arg("programId")
        .arg("bad")
        .query_async(&mut connection)
        .await
        .unwrap();
    let _: () = redis::cmd("SET")
        .arg("program:{text}")
        .arg("text")
        .query_async(&mut connection)
        .await
        .unwrap();
    for id in ["bad", "text"] {
        let (status, body) = app.get_json(&format!("/event/{id}")).await;
        assert_eq!((status, &body["code"]), (503, &json!("core_data_unavailable")), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_no_program_as_unknown_while_redis_is_empty() {
    let app = Setup { samples: false, ..Setup::default() }.start().await;
    let response = app.get("/event/212313").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["code"], "core_data_unavailable");
    until("readiness says why", async || {
        app.problems().await.contains(&json!("core_data_not_loaded"))
    })
    .await;
    // Core data arrives.
    store(&app.redis, &program("other", "other", "0.1")).await;
    assert_eq!(app.get_json("/event/212313").await.0, 404);
    assert_eq!(app.get_json("/event/other").await.0, 200);
    app.until_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn is_unhealthy_while_redis_refuses_reads() {
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(Port::Any, &folder.path().join("redis")).await.unwrap();
    let mut connection = redis.connection().await.unwrap();
    let acl = ["SETUSER", "default", "-hmget"];
    let _: () = redis::cmd("ACL").arg(&acl).query_async(&mut connection).await.unwrap();
    let app = Setup::default().start_on(redis, folder).await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(app.get_json("/health/check").await.0, 503);
    let acl = ["SETUSER", "default", "+hmget"];
    let _: () = redis::cmd("ACL").arg(&acl).query_async(&mut connection).await.unwrap();
    until("it is healthy", async || app.get_json("/health/check").await.0 == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_reports_a_malformed_program_and_goes_on() {
    let app = Setup::default().start().await;
    assert_eq!(app.name_of("212313").await, "program2");
    let forge = ["HSET", "program:{212313}", "version", "0.7", "valid", "?"];
    let _: u64 = app.redis.command(&forge).await.unwrap();
    let verified = app.metric("adtrack_l1_verifications_total").await;
    let _: u64 = app.redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
    app.until_metric("adtrack_l1_verifications_total", verified + 1.0).await;
    assert_eq!(app.metric("adtrack_l2_invalid_total").await, 1.0);
    app.until_ready().await;
    assert_eq!(app.name_of("212313").await, "program2", "what L1 holds is served");
    // A valid update repairs it.
    store(&app.redis, &program("212313", "repaired", "0.8")).await;
    until("it is repaired", async || app.name_of("212313").await == "repaired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_without_redis_and_serves_once_redis_is_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut redis = RedisServer::start(Port::Any, &folder.path().join("redis")).await.unwrap();
    redis.kill().await;
    let mut app = Setup::default().start_on(redis, folder).await;
    assert_eq!(app.get_json("/health/live").await.0, 200);
    assert_eq!(app.get_json("/health/check").await, (503, json!({"status": "starting"})));
    let (status, body) = app.get_json("/event/212313").await;
    assert_eq!((status, &body["code"]), (503, &json!("core_data_unavailable")));

    app.redis.start_again().await.unwrap();
    store(&app.redis, &program("212313", "here", "0.1")).await;
    until("it is healthy", async || app.get_json("/health/check").await.0 == 200).await;
    until("it is ready", async || app.get_json("/health/ready").await.0 == 200).await;
    assert_eq!(app.name_of("212313").await, "here");
}

#[tokio::test(flavor = "multi_thread")]
async fn survives_a_restart_of_redis() {
    let mut app = Setup::default().start().await;
    assert_eq!(app.name_of("212313").await, "program2");
    assert_eq!(app.name_of("212314").await, "program3");

    app.redis.kill().await;
    until("readiness says so", async || {
        let (status, body) = app.get_json("/health/ready").await;
        status == 503 && body["reasons"].as_array().unwrap().contains(&json!("redis_unavailable"))
    })
    .await;
    assert_eq!(
        app.get_json("/health/check").await.0,
        200,
        "losing Redis must not replace the task"
    );
    assert_eq!(app.name_of("212313").await, "program2", "cached programs are served");
    let (status, body) = app.get_json("/event/212312").await;
    assert_eq!((status, &body["code"]), (503, &json!("core_data_unavailable")), "never 404");

    // Redis restarts empty; an update is stored before the tracker has subscribed again.
    app.redis.start_again().await.unwrap();
    store(&app.redis, &program("212313", "missed", "0.1")).await;
    until("the missed update is found", async || app.name_of("212313").await == "missed").await;
    assert_eq!(app.name_of("212314").await, "program3", "absence is not deletion");
    app.until_ready().await;
    store(&app.redis, &program("212314", "pushed", "0.2")).await;
    until("updates are pushed again", async || app.name_of("212314").await == "pushed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resubscribes_and_finds_missed_updates() {
    let app = Setup::default().start().await;
    assert_eq!(app.name_of("212313").await, "program2");
    let before = app.metric("adtrack_subscriptions_total").await;
    let mut connection = app.redis.connection().await.unwrap();
    // Ends the subscription and updates the program atomically, so that the push is always missed.
    let update = program("212313", "missed", "0.1");
    let call = adtrack_proto::store_script::Call::new(&update, "another-channel");
    let mut pipeline = redis::pipe();
    pipeline.atomic();
    pipeline.cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub");
    let script = redis::Script::new(adtrack_proto::store_script::SOURCE);
    let _: String = script.prepare_invoke().load_async(&mut connection).await.unwrap();
    pipeline.cmd("EVALSHA").arg(script.get_hash()).arg(1).arg(call.key).arg(call.arguments);
    let _: Vec<i64> = pipeline.query_async(&mut connection).await.unwrap();
    until("the update is found", async || app.name_of("212313").await == "missed").await;
    assert_eq!(app.metric("adtrack_subscriptions_total").await, before + 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_and_counts_stale_entries_while_redis_is_down() {
    let mut app = Setup::flags(&["--cache-ttl-seconds=1"]).start().await;
    assert_eq!(app.name_of("212313").await, "program2");
    app.redis.kill().await;
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert_eq!(app.name_of("212313").await, "program2");
    assert!(app.metric(r#"adtrack_l1_lookups_total{result="stale_hit"}"#).await >= 1.0);
}
