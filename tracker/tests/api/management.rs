//! The management listener, and that the public one does not serve its paths.

use reqwest::Method;
use serde_json::json;

use crate::helpers::{Setup, until};

#[tokio::test(flavor = "multi_thread")]
async fn loads_the_sample_programs_if_the_setting_allows_it() {
    let app = Setup { samples: false, ..Setup::flags(&["--sample-programs=true"]) }.start().await;
    assert_eq!(app.get_json("/event/212313").await.0, 503);
    let response = app.request_management(Method::POST, "/cache/fill").await;
    assert_eq!(response, (200, json!({"programs": 6})));
    until("they are pushed", async || app.name_of("212313").await == "program2").await;
    let again = app.request_management(Method::POST, "/cache/fill").await;
    assert_eq!(again.0, 200, "filling twice does no harm");
}

#[tokio::test(flavor = "multi_thread")]
async fn does_not_load_the_sample_programs_by_default() {
    let app = Setup::default().start().await;
    assert_eq!(app.request_management(Method::POST, "/cache/fill").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn shows_and_purges_the_cache() {
    let app = Setup::default().start().await;
    assert_eq!(app.request_management(Method::GET, "/cache/212313").await.0, 404);
    app.get_json("/event/212313").await;
    let (status, body) = app.request_management(Method::GET, "/cache/212313").await;
    assert_eq!(status, 200);
    assert_eq!((&body["state"], &body["version"]), (&json!("program"), &json!("0.0")));
    assert_eq!(body["value"]["programName"], "program2");
    assert!(body["ageSeconds"].as_f64().unwrap() < 60.0);
    app.get_json("/event/unknown").await;
    assert_eq!(app.request_management(Method::GET, "/cache/unknown").await.1["state"], "absent");

    assert_eq!(app.request_management(Method::POST, "/cache/purge").await.0, 204);
    assert_eq!(app.request_management(Method::GET, "/cache/212313").await.0, 404);
    assert_eq!(app.name_of("212313").await, "program2", "Redis is untouched");
}

#[tokio::test(flavor = "multi_thread")]
async fn public_listener_does_not_serve_management_paths() {
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
    app.get_json("/event/212313").await;
    app.get_json("/event/212313").await;
    app.get_json("/event/unknown").await;
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
        ("adtrack_journal_lost_files", 0.0),
        ("adtrack_records_retried_total", 0.0),
    ] {
        assert_eq!(app.metric(sample).await, value, "{sample}");
    }
    assert!(app.metric("adtrack_put_records_calls_total").await >= 1.0);
}
