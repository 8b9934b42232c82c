//! `GET|POST /conversion/{programId}`: postbacks, pixels, signatures.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use adtrack_proto::event::{EventType, TrackingEvent};
use adtrack_proto::program::Update;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::helpers::{Setup, TestApp, store};

const SALE: &str =
    "/conversion/212313?transaction_id=t-1&event_name=sale&amount=49.90&currency=eur";
const CLICK: &str = "019b7ca9-8f2e-7707-8707-070707070707";
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const KEYS: &str = "network-a=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n";

async fn status_and_body(response: Response) -> (u16, Value) {
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

async fn post(app: &TestApp, path: &str, media_type: &str, body: &str) -> (u16, Value) {
    let request = app.client.post(format!("{}{path}", app.url)).header(CONTENT_TYPE, media_type);
    status_and_body(request.body(body.to_owned()).send().await.unwrap()).await
}

const FORM: &str = "application/x-www-form-urlencoded";

/// Stores the program `p`, with `members` in addition to the required ones.
async fn store_program(app: &TestApp, members: Value) {
    let mut program = json!({"programId": "p", "programName": "n", "checksum": "1", "customerId": 1,
        "customerName": "c", "valid": true, "version": "0.9"});
    program.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    store(&app.redis, &Update::from_json(program.to_string().as_bytes()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_a_conversion_with_every_attribute() {
    let app = Setup::default().start().await;
    let path = format!("{SALE}&click_id={}&campaign=x", CLICK.to_uppercase());
    let request = app.client.get(format!("{}{path}", app.url)).header(USER_AGENT, "network/1");
    let (status, body) = status_and_body(request.send().await.unwrap()).await;
    assert_eq!(status, 200, "{body}");
    let members = (&body["programId"], &body["programName"], &body["valid"]);
    assert_eq!(members, (&json!("212313"), &json!("program2"), &json!(true)));

    let events = app.wait_for_events(1).await;
    let event = &events[0];
    let expected = TrackingEvent {
        program_id: "212313".into(),
        checksum: "124".into(),
        customer_id: 9124,
        user_agent: "network/1".into(),
        client_ip: "127.0.0.0".into(),
        program_name: "program2".into(),
        customer_name: "Customer2".into(),
        is_valid: true,
        message_id: body["messageId"].as_str().unwrap().into(),
        event_type: EventType::Conversion.into(),
        occurred_at_ms: event.received_at_ms,
        received_at_ms: event.received_at_ms,
        click_id: CLICK.into(),
        parameters: BTreeMap::from([("campaign".into(), "x".into())]),
        transaction_id: "t-1".into(),
        amount_micros: 49_900_000,
        currency: "EUR".into(),
        event_name: "sale".into(),
        status: "approved".into(),
        host: "127.0.0.1".into(),
        ..TrackingEvent::default()
    };
    assert_eq!(events, [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_format_makes_the_same_event() {
    let app = Setup::default().start().await;
    let (status, first) = app.get_json(SALE).await;
    assert_eq!(status, 200);
    let path = "/conversion/212313";
    let form = "transaction_id=t-1&event_name=sale&amount=49.90&currency=eur";
    let json = r#"{"transaction_id":"t-1","event_name":"sale","amount":49.90,"currency":"eur",
        "click_id":null,"status":""}"#;
    for (path, media_type, body) in [
        (path, FORM, form),
        (path, "Application/JSON; charset=utf-8", json),
        (&format!("{path}?transaction_id=t-1"), FORM, "event_name=sale&amount=1&currency=USD\r\n"),
        (SALE, FORM, "transaction_id=t-1"),
        (SALE, "", ""),
    ] {
        let (status, body) = post(&app, path, media_type, body).await;
        assert_eq!((status, &body["messageId"]), (200, &first["messageId"]), "{path} {body}");
    }
    let events = app.wait_for_events(6).await;
    let sales = events.iter().filter(|event| event.amount_micros == 49_900_000).count();
    assert_eq!((events.len(), sales), (6, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn repetitions_share_an_event_id_and_different_conversions_do_not() {
    let app = Setup::default().start().await;
    let paths = [
        SALE.to_owned(),
        format!("{SALE}&status=refunded"),
        format!("{SALE}&status=pending"),
        format!("/conversion/212313?click_id={CLICK}"),
        SALE.replace("sale", "signup"),
        SALE.replace("t-1", "t-2"),
        SALE.replace("212313", "212314"),
        format!("{SALE}&at_event_id=t-1"),
        "/conversion/212313".to_owned(),
        "/conversion/212313".to_owned(),
    ];
    let mut ids = std::collections::BTreeSet::new();
    for path in &paths {
        let (status, body) = app.get_json(path).await;
        assert_eq!(status, 200, "{path} {body}");
        ids.insert(body["messageId"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), paths.len());
    for same in [
        SALE.replace("49.90", "50"),
        format!("{SALE}&status=approved"),
        format!("{SALE}&campaign=x"),
        format!("{SALE}&click_id="),
        // A page's pixel knows the click, the server that reports the same sale may not.
        format!("{SALE}&click_id={CLICK}"),
    ] {
        let (_, body) = app.get_json(&same).await;
        assert!(ids.contains(body["messageId"].as_str().unwrap()), "{same}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pixel_returns_a_gif_even_for_a_refused_conversion() {
    let app = Setup::default().start().await;
    for (path, status, problem) in [
        ("/conversion/212313.gif?transaction_id=t", 200, None),
        ("/conversion/unknown.gif", 404, Some("program_not_found")),
        ("/conversion/212313.gif?amount=1", 400, Some("invalid_parameters; parameter=currency")),
        ("/conversion/.gif", 400, Some("invalid_program_id")),
    ] {
        let response = app.get(path).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()[CONTENT_TYPE], "image/gif");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers().contains_key("adtrack-event-id"), status == 200);
        let header = response.headers().get("adtrack-problem").map(|value| value.to_str().unwrap());
        assert_eq!(header, problem, "{path}");
        let image = response.bytes().await.unwrap();
        assert_eq!(image.len(), 43);
        assert!(image.starts_with(b"GIF89a\x01\x00\x01\x00") && image.ends_with(b";"));
    }
    assert_eq!(app.wait_for_events(1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn head_responds_and_records_nothing() {
    let app = Setup::default().start().await;
    for path in [SALE.to_owned(), SALE.replace("212313", "212313.gif")] {
        let response = app.client.head(format!("{}{path}", app.url)).send().await.unwrap();
        assert_eq!(response.status(), 200);
    }
    app.get_json("/conversion/212313?transaction_id=recorded").await;
    let events = app.wait_for_events(1).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].transaction_id, "recorded");
    let response = app
        .client
        .request(Method::PUT, format!("{}/conversion/212313", app.url))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()[ALLOW]),
        (405, &"GET, HEAD, POST".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_the_error_in_a_conversion_and_records_nothing() {
    let app = Setup::default().start().await;
    for (query, problem) in [
        ("amount=1e3&currency=EUR", "`amount` must be a decimal"),
        ("amount=1%2C000.00&currency=EUR", "`amount` must be a decimal"),
        ("amount=%2B5&currency=EUR", "`amount` must be a decimal"),
        ("amount=%D9%A3&currency=EUR", "`amount` must be a decimal"),
        ("amount=NaN&currency=EUR", "`amount` must be a decimal"),
        ("amount=0.0000001&currency=EUR", "`amount` must be a number with at most 6"),
        ("amount=99999999999999&currency=EUR", "`amount` must be a number within"),
        ("amount=5", "`currency` is missing"),
        ("currency=12", "`currency` must be three letters"),
        ("status=done", "`status` must be pending"),
        ("click_id=1", "`click_id` must be a message id"),
        ("status=pending&status=approved", "`status` is given twice, as \"pending\" and"),
    ] {
        let (status, body) = app.get_json(&format!("/conversion/212313?{query}")).await;
        assert_eq!((status, &body["code"]), (400, &json!("invalid_parameters")), "{query}");
        let detail = body["detail"].as_str().unwrap();
        assert!(detail.starts_with(problem), "{query}: {detail}");
    }
    let path = "/conversion/212313";
    let long = format!("a={}", "x".repeat(16 << 10));
    for (path, media_type, body, expected, code) in [
        ("/conversion/212313?currency=EUR", FORM, "currency=USD", 400, "invalid_parameters"),
        (path, "application/json", r#"{"amount":1,"amount":2}"#, 400, "invalid_parameters"),
        (path, "application/json", r#"{"amount":{}}"#, 400, "invalid_parameters"),
        (path, "application/json", "[]", 400, "invalid_body"),
        (path, "application/json", "{\n\"a\" 1}", 400, "invalid_body"),
        (path, "text/xml", "<a/>", 415, "unsupported_media_type"),
        (path, FORM, &long, 413, "payload_too_large"),
        ("/conversion/unknown", FORM, "a=1", 404, "program_not_found"),
    ] {
        let (status, problem) = post(&app, path, media_type, body).await;
        assert_eq!((status, &problem["code"]), (expected, &json!(code)), "{media_type} {problem}");
    }
    let (_, problem) = post(&app, path, "application/json", "{\n\"a\" 1}").await;
    assert!(problem["detail"].as_str().unwrap().ends_with("at line 2 column 5"), "{problem}");
    app.get_json("/conversion/212313?transaction_id=recorded").await;
    assert_eq!(app.wait_for_events(1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn maps_a_networks_parameter_names() {
    let app = Setup::default().start().await;
    let aliases = json!({"payout": "amount", "txid": "transaction_id", "s1": "campaign",
        "status": "network_status"});
    store_program(&app, json!({"parameterAliases": aliases})).await;
    let query = "txid=t-9&payout=1.5&currency=USD&s1=x&status=whatever";
    assert_eq!(app.get_json(&format!("/conversion/p?{query}")).await.0, 200);
    let event = &app.wait_for_events(1).await[0];
    assert_eq!((event.transaction_id.as_str(), event.amount_micros), ("t-9", 1_500_000));
    assert_eq!(event.status, "approved");
    let stored: Vec<_> = event.parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(stored, [("campaign", "x"), ("network_status", "whatever")]);
    // Giving a parameter differently under both names is giving it twice.
    assert_eq!(app.get_json("/conversion/p?txid=1&transaction_id=2").await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_misspelt_names_of_a_network() {
    let app = Setup::default().start().await;
    let aliases = json!({"payout": "amount", "txid": "transaction_id", "st": "status"});
    let statuses = json!({"0": "rejected", "declined": "rejected"});
    store_program(&app, json!({"parameterAliases": aliases, "statusAliases": statuses})).await;
    for (id, query) in [
        ("the first letter", "Txid=a&PayOut=1.5&Currency=USD&ST=Declined"),
        ("an index", "tx_id[]=b&payout=1.5&currency=USD&St=0"),
        ("the right name, too", "txid=c&payout=1.5&Payout=9&currency=USD&Status=declined"),
    ] {
        let response = app.get(&format!("/conversion/p?{query}")).await;
        let repaired = &response.headers()["adtrack-repaired"];
        assert_eq!(repaired, "parameters_repaired;misspelt_name", "{id}");
    }
    let events = app.wait_for_events(3).await;
    let ids: BTreeSet<_> = events.iter().map(|event| &*event.transaction_id).collect();
    assert_eq!(ids, BTreeSet::from(["a", "b", "c"]));
    for event in &events {
        let money = (event.amount_micros, &*event.currency, &*event.status);
        assert_eq!(money, (1_500_000, "USD", "rejected"), "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn maps_a_networks_statuses() {
    let app = Setup::default().start().await;
    let aliases = json!({"1": "approved", "declined": "rejected"});
    store_program(&app, json!({"statusAliases": aliases})).await;
    for (transaction_id, status) in
        [("a", "1"), ("b", "Declined"), ("c", "PENDING"), ("d", "Approved")]
    {
        let path = format!("/conversion/p?transaction_id={transaction_id}&status={status}");
        assert_eq!(app.get_json(&path).await.0, 200, "{status}");
    }
    let item =
        json!([{"programId": "p", "eventType": "conversion", "transactionId": "e", "status": "1"}]);
    let (status, body) = post(&app, "/events", "application/json", &item.to_string()).await;
    assert_eq!((status, &body["accepted"]), (200, &json!(1)), "{body}");
    let (status, body) = app.get_json("/conversion/p?status=2").await;
    assert_eq!((status, &body["code"]), (400, &json!("invalid_parameters")));

    let events = app.wait_for_events(5).await;
    let statuses: BTreeMap<_, _> =
        events.iter().map(|event| (&*event.transaction_id, &*event.status)).collect();
    let expected = [
        ("a", "approved"),
        ("b", "rejected"),
        ("c", "pending"),
        ("d", "approved"),
        ("e", "approved"),
    ];
    assert_eq!(statuses, BTreeMap::from(expected));
}

fn sign(texts: [&str; 8]) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET).unwrap();
    for text in ["conversion"].iter().chain(&texts) {
        mac.update(format!("{}:{text},", text.len()).as_bytes());
    }
    hex::encode(mac.finalize().into_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn accepts_keys_in_a_setting_instead_of_a_file() {
    let app = Setup::flags(&[&format!("--conversion-keys={KEYS}")]).start().await;
    store_program(&app, json!({"conversionKeyId": "network-a"})).await;
    for (sig, status) in [(sign(["p", "", "", "t-1", "", "", "", ""]), 200), ("0".repeat(64), 403)]
    {
        let path = format!("/conversion/p?transaction_id=t-1&sig={sig}");
        assert_eq!(app.get_json(&path).await.0, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requires_signatures_if_the_program_does() {
    let mut keys = NamedTempFile::new().unwrap();
    keys.write_all(KEYS.as_bytes()).unwrap();
    let flag = format!("--conversion-keys-file={}", keys.path().display());
    let app = Setup::flags(&[&flag]).start().await;
    store_program(
        &app,
        json!({"conversionKeyId": "network-a", "parameterAliases": {"payout": "amount"}}),
    )
    .await;
    let sig = sign(["p", "", "sale", "t-1", "", "49.90", "eur", ""]);
    let query = "event_name=sale&transaction_id=t-1&payout=49.90&currency=eur";
    for (query, status) in [
        (format!("{query}&sig={sig}"), 200),
        (format!("{query}&sig={sig}&sub=free"), 200),
        // Not signed, so it is not read.
        (format!("{query}&sig={sig}&Status=refunded"), 200),
        (query.to_owned(), 403),
        (format!("{query}&sig={}", "0".repeat(64)), 403),
        (format!("{query}&sig={sig}&status=refunded"), 403),
        (format!("{query}&sig={sig}&at_event_id=again"), 403),
        (format!("{}&sig={sig}", query.replace("49.90", "499")), 403),
        // Without an id, a repetition could not be recognised.
        (format!("sig={}", sign(["p", "", "", "", "", "", "", ""])), 400),
    ] {
        let (actual, body) = app.get_json(&format!("/conversion/p?{query}")).await;
        assert_eq!(actual, status, "{query} {body}");
        if status == 403 {
            assert_eq!(body["code"], "invalid_signature");
        }
    }
    let events = app.wait_for_events(3).await;
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|event| event.status == "approved"));

    store_program(&app, json!({"conversionKeyId": "network-b", "version": "0.10"})).await;
    let give_up_at = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let response = loop {
        let response = app.get(&format!("/conversion/p?{query}&sig={sig}")).await;
        if response.status() == 503 || std::time::Instant::now() > give_up_at {
            break response;
        }
    };
    assert!(response.headers().contains_key(RETRY_AFTER));
    let (status, body) = status_and_body(response).await;
    assert_eq!((status, &body["code"]), (503, &json!("conversion_key_unavailable")));
}
