//! `GET /impression/{programId}`: it always returns a pixel; what it records.

use adtrack_proto::event::EventType;
use reqwest::Method;
use reqwest::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};

use crate::helpers::Setup;

/// A GIF89a of 43 bytes, one pixel by one.
fn is_pixel(body: &[u8]) -> bool {
    body.len() == 43 && body.starts_with(b"GIF89a\x01\0\x01\0") && body.ends_with(b";")
}

#[tokio::test(flavor = "multi_thread")]
async fn returns_a_pixel_and_records_the_impression() {
    let app = Setup::default().start().await;
    let mut ids = Vec::new();
    for path in ["/impression/212313?slot=top", "/impression/212313.gif?checksum=124"] {
        let response = app.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()[CONTENT_TYPE], "image/gif");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert!(!response.headers().contains_key("adtrack-problem"));
        ids.push(response.headers()["adtrack-event-id"].to_str().unwrap().to_owned());
        assert!(is_pixel(&response.bytes().await.unwrap()));
    }
    let events = app.wait_for_events(2).await;
    for (event, id) in events.iter().zip(&ids) {
        assert_eq!(event.event_type, i32::from(EventType::Impression));
        assert_eq!((&event.program_id[..], &event.message_id), ("212313", id));
    }
    assert_eq!(events[0].parameters["slot"], "top");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_impressions_of_ended_programs_as_invalid() {
    let app = Setup::default().start().await;
    assert_eq!(app.get("/impression/ended").await.status(), 200);
    assert_eq!(app.wait_for_events(1).await[0].invalid_reason, "program_ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_impression_returns_a_pixel_with_status_and_code() {
    let app = Setup::default().start().await;
    for (path, status, code) in [
        ("/impression/unknown", 404, "program_not_found"),
        ("/impression/unknown.gif", 404, "program_not_found"),
        ("/impression/", 400, "invalid_program_id"),
        ("/impression/.gif", 400, "invalid_program_id"),
        ("/impression/212313/x", 400, "invalid_program_id"),
        ("/impression/212313?checksum=1", 400, "parameter_mismatch; parameter=checksum"),
        ("/impression/212313?at_event_id=%FFa", 400, "invalid_parameters; parameter=at_event_id"),
        ("/impression/212313?checksum=1&checksum=2", 400, "invalid_parameters; parameter=checksum"),
    ] {
        let response = app.get(path).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["adtrack-problem"], code, "{path}");
        assert_eq!(response.headers()[CONTENT_TYPE], "image/gif");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert!(!response.headers().contains_key("adtrack-event-id"));
        assert!(is_pixel(&response.bytes().await.unwrap()), "{path}");
    }
    let post = app.client.request(Method::POST, format!("{}/impression/212313", app.url));
    let response = post.send().await.unwrap();
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()[ALLOW], "GET, HEAD");
    assert_eq!(response.headers()["adtrack-problem"], "method_not_allowed");
    assert!(is_pixel(&response.bytes().await.unwrap()));
    assert_eq!(app.metric("adtrack_requests_total{answer=\"accepted\"}").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn asks_for_a_retry_without_core_data() {
    let app = Setup { samples: false, ..Setup::default() }.start().await;
    let response = app.get("/impression/212313").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["adtrack-problem"], "core_data_unavailable");
    assert!(response.headers().contains_key(RETRY_AFTER));
    assert!(is_pixel(&response.bytes().await.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn head_responds_and_records_nothing() {
    let app = Setup::default().start().await;
    let head = |path: &str| app.client.head(format!("{}{path}", app.url)).send();
    let response = head("/impression/212313").await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[CONTENT_LENGTH], "43");
    assert!(!response.headers().contains_key("adtrack-event-id"));
    let response = head("/impression/unknown").await.unwrap();
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()["adtrack-problem"], "program_not_found");
    app.get("/impression/212313").await;
    assert_eq!(app.wait_for_events(1).await.len(), 1, "only the GET's");
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_event_id_gets_the_same_message_id() {
    let app = Setup::default().start().await;
    let mut ids = Vec::new();
    for path in [
        "/impression/212313?at_event_id=a",
        "/impression/212313.gif?at_event_id=a",
        "/impression/212313?at_event_id=b",
        "/event/212313?at_event_id=a",
    ] {
        let response = app.get(path).await;
        if let Some(id) = response.headers().get("adtrack-event-id") {
            ids.push(id.clone());
        }
    }
    assert_eq!(ids.len(), 3);
    assert!(ids[0] == ids[1] && ids[1] != ids[2]);
    // There is no order between shards.
    let events = app.wait_for_events(4).await;
    let other = events.iter().find(|event| event.event_type() == EventType::Event).unwrap();
    assert_eq!(other.client_event_id, "a");
    assert!(other.message_id.as_bytes() != ids[0].as_bytes());
}
