//! The management listener, and what the public one does not show.

use reqwest::Method;
use serde_json::json;

use crate::helpers::{Setup, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_programs_are_loaded_where_that_is_allowed() {
    let app = Setup { samples: false, ..Setup::flags(&["--sample-programs=true"]) }.start().await;
    assert_eq!(app.ask("/event/212313").await.0, 503);
    let answer = app.ask_management(Method::POST, "/cache/fill").await;
    assert_eq!(answer, (200, json!({"programs": 6})));
    until("they are announced", async || app.name_of("212313").await == "program2").await;
    let again = app.ask_management(Method::POST, "/cache/fill").await;
    assert_eq!(again.0, 200, "filling twice does no harm");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_programs_are_not_loaded_elsewhere() {
    let app = Setup::default().start().await;
    assert_eq!(app.ask_management(Method::POST, "/cache/fill").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_can_be_seen_and_purged() {
    let app = Setup::default().start().await;
    assert_eq!(app.ask_management(Method::GET, "/cache/212313").await.0, 404);
    app.ask("/event/212313").await;
    let (status, body) = app.ask_management(Method::GET, "/cache/212313").await;
    assert_eq!(status, 200);
    assert_eq!((&body["state"], &body["version"]), (&json!("program"), &json!("0.0")));
    assert_eq!(body["value"]["programName"], "program2");
    assert!(body["ageSeconds"].as_f64().unwrap() < 60.0);
    app.ask("/event/unknown").await;
    assert_eq!(app.ask_management(Method::GET, "/cache/unknown").await.1["state"], "absent");

    assert_eq!(app.ask_management(Method::POST, "/cache/purge").await.0, 204);
    assert_eq!(app.ask_management(Method::GET, "/cache/212313").await.0, 404);
    assert_eq!(app.name_of("212313").await, "program2", "Redis is untouched");
}

#[tokio::test(flavor = "multi_thread")]
async fn management_is_not_public() {
    let app = Setup::flags(&["--sample-programs=true"]).start().await;
    for (method, path) in [
        (Method::GET, "/metrics"),
        (Method::POST, "/cache/fill"),
        (Method::GET, "/cache/fill"),
        (Method::POST, "/cache/purge"),
        (Method::GET, "/cache/212313"),
    ] {
        let request = app.client.request(method, format!("{}{path}", app.url));
        assert_eq!(request.send().await.unwrap().status(), 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stage_has_its_metrics() {
    let app = Setup::default().start().await;
    app.ask("/event/212313").await;
    app.ask("/event/212313").await;
    app.ask("/event/unknown").await;
    until("it is delivered", async || app.metric("adtrack_events_delivered_total").await == 2.0)
        .await;
    for (sample, value) in [
        (r#"adtrack_requests_total{answer="accepted"}"#, 2.0),
        (r#"adtrack_requests_total{answer="program_not_found"}"#, 1.0),
        ("adtrack_request_seconds_count", 3.0),
        (r#"adtrack_l1_lookups_total{result="hit"}"#, 1.0),
        (r#"adtrack_l1_lookups_total{result="miss"}"#, 2.0),
        (r#"adtrack_l2_loads_total{result="found"}"#, 1.0),
        ("adtrack_subscribed", 1.0),
        ("adtrack_redis_connected", 1.0),
        ("adtrack_l1_verifications_total", 1.0),
        ("adtrack_journal_damaged_total", 0.0),
        ("adtrack_records_retried_total", 0.0),
    ] {
        assert_eq!(app.metric(sample).await, value, "{sample}");
    }
    assert!(app.metric("adtrack_put_records_calls_total").await >= 1.0);
}
