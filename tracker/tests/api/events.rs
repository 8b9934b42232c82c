//! `GET /event/{programId}`: how it responds, and what it records.

use std::collections::BTreeMap;

use adtrack_proto::event::{EventType, TrackingEvent};
use reqwest::Method;
use reqwest::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST, REFERER, USER_AGENT,
};
use serde_json::json;

use crate::helpers::Setup;

#[tokio::test(flavor = "multi_thread")]
async fn responds_and_records_the_event_with_every_attribute() {
    let app = Setup::default().start().await;
    let response = app
        .client
        .get(format!("{}/event/212313?checksum=124&customerId=9124&campaign=a+b&x=%C3%BC", app.url))
        .header(USER_AGENT, "Mozilla/5.0 \"quoted\"")
        .header(REFERER, "https://r.example/page")
        .header(HOST, "T.example:8080")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    let text = response.text().await.unwrap();
    let body: serde_json::Value = serde_json::from_str(&text).unwrap();
    let message_id = body["messageId"].as_str().unwrap().to_owned();
    let expected = format!(
        r#"{{"userAgent":"Mozilla/5.0 \"quoted\"","programId":"212313","programName":"program2","checksum":"124","customerId":9124,"customerName":"Customer2","messageId":"{message_id}","valid":true,"customerIdText":"9124"}}"#
    );
    assert_eq!(text, expected);

    let events = app.wait_for_events(1).await;
    let event = &events[0];
    let expected = TrackingEvent {
        program_id: "212313".into(),
        checksum: "124".into(),
        customer_id: 9124,
        user_agent: "Mozilla/5.0 \"quoted\"".into(),
        program_name: "program2".into(),
        customer_name: "Customer2".into(),
        is_valid: true,
        message_id,
        event_type: EventType::Event.into(),
        occurred_at_ms: event.received_at_ms,
        received_at_ms: event.received_at_ms,
        referrer: "https://r.example/page".into(),
        parameters: BTreeMap::from([("campaign".into(), "a b".into()), ("x".into(), "ü".into())]),
        host: "t.example".into(),
        client_ip: "127.0.0.0".into(),
        ..TrackingEvent::default()
    };
    assert_eq!(events, [expected]);
    let age = jiff::Timestamp::now().as_millisecond() - event.received_at_ms;
    assert!((0..60_000).contains(&age), "{age} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_events_of_invalid_programs_with_the_reason() {
    let app = Setup::default().start().await;
    for (count, (id, reason)) in [
        ("disabled", "program_disabled"),
        ("not-started", "program_not_started"),
        ("ended", "program_ended"),
    ]
    .into_iter()
    .enumerate()
    {
        let (status, body) = app.get_json(&format!("/event/{id}")).await;
        assert_eq!((status, &body["valid"]), (200, &json!(false)), "{id}");
        let events = app.wait_for_events(count + 1).await;
        let event = events.iter().find(|event| event.program_id == id).unwrap();
        assert_eq!((event.is_valid, event.invalid_reason.as_str()), (false, reason));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_responds_as_get_does_and_records_nothing() {
    let app = Setup::default().start().await;
    let response = app
        .client
        .head(format!("{}/event/212313", app.url))
        .header(USER_AGENT, "u")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let get = app
        .client
        .get(format!("{}/event/212313", app.url))
        .header(USER_AGENT, "u")
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()[CONTENT_LENGTH], get.headers()[CONTENT_LENGTH]);
    assert_eq!(
        app.client.head(format!("{}/event/unknown", app.url)).send().await.unwrap().status(),
        404
    );
    let (_, body) = status_and_body(get).await;
    let events = app.wait_for_events(1).await;
    assert_eq!(events.len(), 1, "only the GET's");
    assert_eq!(json!(events[0].message_id), body["messageId"]);
}

async fn status_and_body(response: reqwest::Response) -> (u16, serde_json::Value) {
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_request_reports_a_problem_and_records_nothing() {
    let app = Setup::default().start().await;
    let long_id = format!("/event/{}", "x".repeat(129));
    for (path, expected, code) in [
        ("/event/unknown", 404, "program_not_found"),
        ("/event/212313?checksum=125", 400, "parameter_mismatch"),
        ("/event/212313?customerId=1", 400, "parameter_mismatch"),
        ("/event/212313?customerId=abc", 400, "parameter_mismatch"),
        ("/event/212313?checksum=124&checksum=125", 400, "invalid_parameters"),
        ("/event/212313?at_event_id=1&at_event_id=2", 400, "invalid_parameters"),
        ("/event/", 400, "invalid_program_id"),
        ("/event/a%20b", 400, "invalid_program_id"),
        ("/event/%ff", 400, "invalid_program_id"),
        ("/event/212313/x", 400, "invalid_program_id"),
        ("/event/%2e%2e%2fx", 400, "invalid_program_id"),
        (&long_id, 400, "invalid_program_id"),
        ("/eventually", 404, "not_found"),
        ("/events/x", 404, "not_found"),
        ("/", 404, "not_found"),
    ] {
        let response = app.get(path).await;
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json", "{path}");
        let (status, body) = status_and_body(response).await;
        assert_eq!((status, &body["code"]), (expected, &json!(code)), "{path}");
        assert_eq!(body["status"], expected, "{path}");
    }
    // The path is percent-decoded before the id is checked.
    assert_eq!(app.get_json("/event/2123%313").await.0, 200);
    assert_eq!(app.wait_for_events(1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_other_methods_and_names_the_allowed_ones() {
    let app = Setup::default().start().await;
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let request = app.client.request(method.clone(), format!("{}/event/212313", app.url));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 405, "{method}");
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
        assert_eq!(status_and_body(response).await.1["code"], "method_not_allowed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_long_and_odd_headers_instead_of_refusing_them() {
    let app = Setup::default().start().await;
    let response = app
        .client
        .get(format!("{}/event/212313", app.url))
        .header(USER_AGENT, reqwest::header::HeaderValue::from_bytes(&[b'a', 0xff]).unwrap())
        .header(REFERER, "r".repeat(2_000))
        .send()
        .await
        .unwrap();
    let (_, body) = status_and_body(response).await;
    assert_eq!(body["userAgent"], "a\u{fffd}");
    let events = app.wait_for_events(1).await;
    assert_eq!(events[0].user_agent, "a\u{fffd}");
    assert_eq!(events[0].referrer, "r".repeat(512));
}
