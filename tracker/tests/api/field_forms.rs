//! What clients send in unusual ways: raw bytes in several parts, the same event in every form, and requests that
//! are only to be tried out.

use adtrack_proto::event::TrackingEvent;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::field::{BROWSER, Response, address, app, send};
use crate::helpers::TestApp;

/// Sends parts with pauses; returns everything that comes back.
async fn send_parts(app: &TestApp, parts: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(address(app)).await.unwrap();
    for part in parts {
        stream.write_all(part).await.unwrap();
        stream.flush().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    }
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response).await;
    String::from_utf8_lossy(&response).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn encodes_request_lines_and_never_bodies() {
    let app = app().await;
    let head = |line: &[u8]| [line, b" HTTP/1.1\r\nhost: t\r\nuser-agent: u\r\n"].concat();
    let last = |line: &[u8]| [&head(line)[..], b"connection: close\r\n\r\n"].concat();
    let first = |line: &[u8]| [&head(line)[..], b"\r\n"].concat();
    let post = |length: usize, body: &[u8]| {
        let rest = format!("content-type: text/plain\r\ncontent-length: {length}\r\n\r\n");
        [&head(b"POST /conversion/212313")[..], rest.as_bytes(), body].concat()
    };
    // A line in parts; a second request on the connection, also behind a body.
    let bad = last(b"GET /event/212313?a=\xc3\xbc\"<");
    for parts in [
        vec![&bad[..10], &bad[10..21], &bad[21..22], &bad[22..]],
        vec![&first(b"GET /event/212313?a=1")[..], &bad],
        vec![&first(b"GET /event/212313?a=\xfc")[..], &bad],
        vec![&post(18, b"transaction_id=t-1")[..], &bad],
        vec![&post(18, b"")[..], b"transaction_id=t-2", &bad],
    ] {
        let responses = send_parts(&app, &parts).await;
        let requests = parts
            .iter()
            .filter(|part| part.starts_with(b"GET /") || part.starts_with(b"POST"))
            .count();
        assert_eq!(responses.matches("HTTP/1.1 200").count(), requests, "{responses}");
    }
    // A body that looks like a request line, in a read of its own.
    let body = b"GET /\xfc\"<= HTTP/1.1\r\n&transaction_id=t-3\r\n\r\n";
    let responses = send_parts(&app, &[&post(body.len(), b""), body, &bad]).await;
    assert_eq!(responses.matches("HTTP/1.1 200").count(), 2, "{responses}");
    // A chunked body whose request got its response before the body arrived.
    let refused =
        [&head(b"POST /click/212313")[..], b"transfer-encoding: chunked\r\n\r\n"].concat();
    let chunk = [&b"17\r\n"[..], b"GET /\xfc\"<x HTTP/1.1\r\n\r\n\r", b"\r\n0\r\n\r\n"].concat();
    let responses = send_parts(&app, &[&refused, &chunk, &last(b"GET /event/212313")]).await;
    assert_eq!(responses.matches("HTTP/1.1 405").count(), 1, "{responses}");
    assert!(!responses.contains("HTTP/1.1 404"), "no byte of the body is a request: {responses}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_unparsable_requests_with_a_problem() {
    let app = app().await;
    for (request, status, code) in [
        (&b"GET /event/212313 HTTP/1.1\r\n\r\n"[..], 400, "malformed_request"),
        (b"GET /event/212313 HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400, "malformed_request"),
        (
            b"POST /events HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
            400,
            "malformed_request",
        ),
        (
            b"GET /event/212313 HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            400,
            "malformed_request",
        ),
    ] {
        let response = String::from_utf8(send(&address(&app), request).await).unwrap();
        let last = response.rfind("HTTP/1.1 ").unwrap();
        let response = Response::parse(&response.as_bytes()[last..]).unwrap();
        assert_eq!((response.status, &response.json()["code"]), (status, &json!(code)));
        assert_eq!(response.header("content-length"), response.body.len().to_string());
    }
}

/// What of a row does not depend on how the event was sent.
fn comparable(event: &TrackingEvent) -> TrackingEvent {
    TrackingEvent { occurred_at_ms: 0, received_at_ms: 0, ..event.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_conversion_makes_the_same_row() {
    let app = app().await;
    let click = "019b7ca9-8f2e-7707-8707-070707070707";
    let mut count = 0;
    for (members, flags) in [
        (
            json!({"transaction_id": "d-1", "event_name": "sale", "status": "Approved", "amount": "49.90", "currency": "eur", "click_id": click.to_uppercase(), "campaign": "ü 1&2"}),
            &[][..],
        ),
        (
            json!({"transaction_id": "{txid}", "at_event_id": "d-2", "click_id": "", "x": "1"}),
            &["unfilled_macro"],
        ),
        (
            json!({"transaction_id": " d-4\u{200b}", "event_name": "Sale", "impression_id": click.to_uppercase(), "currency": "EUR"}),
            &["parameters_repaired"],
        ),
        (
            json!({"transaction_id": "d-5", "event_name": "None", "impression_id": "nope"}),
            &["parameters_cut", "unfilled_macro"],
        ),
        (
            json!({"transaction_id": "d-3", "checksum": "124", "customerId": "9124", "long": "y".repeat(600)}),
            &["parameters_cut"],
        ),
    ] {
        let pairs: Vec<_> = members
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (&**name, value.as_str().unwrap()))
            .collect();
        let form =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
        let renamed = [
            ("transaction_id", "transactionId"),
            ("event_name", "eventName"),
            ("click_id", "clickId"),
            ("impression_id", "impressionId"),
            ("at_event_id", "eventId"),
        ];
        let mut item = json!({"programId": "212313", "eventType": "conversion", "parameters": {}});
        for (name, value) in &pairs {
            let ours = renamed.iter().find(|(own, _)| own == name).map(|(_, member)| *member);
            match ours.or(["status", "amount", "currency", "checksum", "customerId"]
                .into_iter()
                .find(|own| own == name))
            {
                Some(member) => item[member] = json!(value),
                None => item["parameters"][name] = json!(value),
            }
        }
        let url = |path: &str| format!("{}{path}", app.url);
        let with_type = |path: &str, media_type: &str, body: String| {
            app.client.post(url(path)).header("content-type", media_type).body(body)
        };
        let requests = [
            app.client.get(url(&format!("/conversion/212313?{form}"))),
            app.client.get(url(&format!("/conversion/212313.gif?{form}"))),
            with_type("/conversion/212313", "application/x-www-form-urlencoded", form.clone()),
            with_type("/conversion/212313", "application/json", members.to_string()),
            with_type("/conversion/212313", "", members.to_string()),
            with_type("/events", "application/json", json!([item]).to_string()),
            with_type("/events", "application/x-ndjson", item.to_string()),
            // As the page script sends it.
            with_type("/events", "text/plain;charset=UTF-8", json!([item]).to_string()),
        ];
        let sent = requests.len();
        for request in requests {
            let response = request.header("user-agent", BROWSER).send().await.unwrap();
            assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
        }
        let events = app.wait_for_events(count + sent).await.split_off(count);
        count += sent;
        for event in &events {
            assert_eq!(comparable(event), comparable(&events[0]));
            assert_eq!(event.traffic_flags, flags);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn validation_describes_what_would_be_recorded_and_records_nothing() {
    let app = app().await;
    let (status, body) = app
        .get_json("/validate/conversion/212313?transaction_id=v-1&amount=49.90&currency=EUR&x=%FF")
        .await;
    assert_eq!((status, &body["accepted"], &body["status"]), (200, &json!(true), &json!(200)));
    assert_eq!(body["event"]["amount_micros"], 49_900_000);
    assert_eq!(body["event"]["parameters"], json!({"x": "\u{fffd}"}));
    assert_eq!(body["repaired"], "parameters_repaired;not_utf8");
    let (status, body) = app.get_json("/validate/conversion/212313?amount=1&currency=EURO").await;
    assert_eq!(
        (status, &body["accepted"], &body["problem"]["code"]),
        (200, &json!(false), &json!("invalid_parameters"))
    );
    let (_, body) = app.get_json("/validate/click/f17?url={url}").await;
    assert!(
        body["location"].as_str().unwrap().starts_with("https://shop.example/landing?click_id=")
    );
    let items = json!([{"programId": "212313", "eventType": "conversion", "transactionId": "{x}"}, {"programId": "unknown"}]);
    for path in ["/validate", "/validate/events", "/validate/"] {
        let request = app.client.post(format!("{}{path}", app.url)).json(&items);
        let body: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!((&body["accepted"], &body["refused"]), (&json!(1), &json!(1)), "{body}");
        assert_eq!(
            body["results"][0]["event"]["traffic_flags"],
            json!(["no_user_agent", "unfilled_macro"])
        );
        assert_eq!(body["results"][1]["problem"]["code"], "program_not_found");
    }
    for (path, status) in
        [("/validate", 405), ("/validate/health/live", 404), ("/validate/validate", 404)]
    {
        assert_eq!(app.get(path).await.status(), status, "{path}");
    }
    app.get_json("/event/212313?at_event_id=recorded").await;
    let events = app.wait_for_events(1).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].client_event_id, "recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_repairs_by_reason() {
    let app = app().await;
    let response = app.get("/event/212313?a=1&a=2&b=%FF").await;
    assert_eq!(
        response.headers()["adtrack-repaired"],
        "parameters_cut;repeated_name, parameters_repaired;not_utf8"
    );
    let items = json!([{"programId": "212313", "parameters": {"a": [1]}}, {"programId": "212313"}]);
    let response =
        app.client.post(format!("{}/events", app.url)).json(&items).send().await.unwrap();
    assert_eq!(response.headers()["adtrack-repaired"], "parameters_repaired;nested_value");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["results"][0]["repaired"], "parameters_repaired;nested_value");
    assert_eq!(body["results"][1]["repaired"], Value::Null);
    for (reason, count) in
        [("repeated_name", 1.0), ("not_utf8", 1.0), ("nested_value", 1.0), ("unfilled_macro", 0.0)]
    {
        let sample = format!("adtrack_repaired_total{{reason=\"{reason}\"}}");
        assert_eq!(app.metric(&sample).await, count, "{reason}");
    }
}
