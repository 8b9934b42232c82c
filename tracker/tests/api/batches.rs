//! `POST /events`: many events in one request.

use std::io::Write;

use adtrack_proto::event::EventType;
use adtrack_proto::program::Update;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, REFERER, RETRY_AFTER, USER_AGENT,
};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::helpers::{Setup, TestApp, store, until};

const ID: &str = "019b7ca9-8f2e-7707-8707-070707070707";
const VISITOR: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
const JSON: &str = "application/json";

async fn send(
    app: &TestApp,
    media_type: &str,
    encoding: &str,
    body: impl Into<Vec<u8>>,
) -> Response {
    let request = app.client.post(format!("{}/events", app.url)).header(CONTENT_TYPE, media_type);
    let request = request.header(USER_AGENT, "sender/1").header(REFERER, "https://s.example/");
    let request = match encoding {
        "" => request,
        encoding => request.header(CONTENT_ENCODING, encoding),
    };
    request.body(body.into()).send().await.unwrap()
}

async fn batch(app: &TestApp, items: &Value) -> (u16, Value) {
    let response = send(app, JSON, "", items.to_string()).await;
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Sends a single invalid item; returns its problem's status, code and detail.
async fn problem(app: &TestApp, item: Value) -> (u16, String, String) {
    let (status, body) = batch(app, &json!([item])).await;
    assert_eq!(
        (status, &body["accepted"], &body["refused"]),
        (207, &json!(0), &json!(1)),
        "{body}"
    );
    let problem = &body["results"][0]["problem"];
    let text = |name: &str| problem[name].as_str().unwrap().to_owned();
    (u16::try_from(problem["status"].as_u64().unwrap()).unwrap(), text("code"), text("detail"))
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_events_of_every_type_with_their_members() {
    let app = Setup::default().start().await;
    let occurred_at = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24);
    let items = json!([
        {"programId": "212313", "eventId": "e-1", "checksum": "124", "customerId": 9124,
         "parameters": {"a": "x \"y\" ü", "n": 1.50, "b": true, "none": null}},
        {"programId": "212313", "eventType": "impression", "userAgent": "Mozilla/5.0",
         "referrer": "https://r.example/p?mail=a@b", "occurredAt": occurred_at.to_string()},
        {"programId": "212314", "eventType": "click", "impressionId": ID,
         "occurredAt": occurred_at.as_millisecond()},
        {"programId": "ended", "eventType": "conversion", "clickId": ID.to_uppercase(), "transactionId": "t",
         "eventName": "sale", "status": "refunded", "amount": -49.90, "currency": "eur"},
    ]);
    let (status, body) = batch(&app, &items).await;
    assert_eq!(
        (status, &body["accepted"], &body["refused"]),
        (200, &json!(4), &json!(0)),
        "{body}"
    );
    let results = body["results"].as_array().unwrap();
    let valid: Vec<_> = results.iter().map(|result| result["valid"].as_bool().unwrap()).collect();
    assert_eq!(valid, [true, true, true, false]);

    let events = app.wait_for_events(4).await;
    let event = |index: usize| {
        let id = results[index]["messageId"].as_str().unwrap();
        events.iter().find(|event| event.message_id == id).unwrap()
    };
    let first = event(0);
    assert_eq!((first.event_type(), first.client_event_id.as_str()), (EventType::Event, "e-1"));
    assert_eq!(
        (first.user_agent.as_str(), first.referrer.as_str()),
        ("sender/1", "https://s.example/")
    );
    assert_eq!(first.occurred_at_ms, first.received_at_ms);
    let stored: Vec<_> = first.parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(stored, [("a", "x \"y\" ü"), ("b", "true"), ("n", "1.5")]);
    let impression = event(1);
    assert_eq!(impression.event_type(), EventType::Impression);
    assert_eq!(impression.user_agent, "Mozilla/5.0");
    assert_eq!(impression.referrer, "https://r.example/p");
    assert_eq!(impression.occurred_at_ms, occurred_at.as_millisecond());
    let click = event(2);
    assert_eq!((click.event_type(), click.impression_id.as_str()), (EventType::Click, ID));
    assert_eq!(click.occurred_at_ms, occurred_at.as_millisecond());
    let conversion = event(3);
    assert_eq!(
        (conversion.event_type(), conversion.click_id.as_str()),
        (EventType::Conversion, ID)
    );
    assert_eq!((conversion.amount_micros, conversion.currency.as_str()), (-49_900_000, "EUR"));
    assert_eq!((conversion.status.as_str(), conversion.event_name.as_str()), ("refunded", "sale"));
    assert_eq!(conversion.invalid_reason, "program_ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_nothing_about_the_sender_of_another_clients_event() {
    let app = Setup::flags(&["--cookie-max-age-days=1"]).start().await;
    let items = json!([
        {"programId": "212313", "eventId": "own"},
        {"programId": "212313", "eventId": "another", "userAgent": "Mozilla/5.0 (X11; Linux x86_64)"},
        {"programId": "212313", "eventId": "bot", "userAgent": "Googlebot/2.1"},
        {"programId": "212313", "eventId": "objects", "parameters": {"gdpr": "1", "a": "b"}},
    ]);
    let request = app.client.post(format!("{}/events", app.url)).json(&items);
    let cookie = format!("adtrack_id={VISITOR}");
    assert_eq!(request.header("cookie", cookie).send().await.unwrap().status(), 200);
    let events = app.wait_for_events(4).await;
    let event = |id: &str| events.iter().find(|event| event.client_event_id == id).unwrap();
    assert_eq!(event("own").client_ip, "127.0.0.0");
    assert_eq!(event("own").visitor_id, VISITOR);
    assert_eq!(
        (event("another").client_ip.as_str(), event("another").visitor_id.as_str()),
        ("", "")
    );
    assert_eq!(event("another").traffic_flags, Vec::<String>::new());
    assert_eq!(event("bot").traffic_flags, ["bot"]);
    assert_eq!(event("objects").visitor_id, "");
    assert!(event("objects").parameters.is_empty() && !event("own").client_ip.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_visitor_and_cookie_only_if_the_client_keeps_cookies() {
    let app = Setup::flags(&["--cookie-max-age-days=1"]).start().await;
    let own = json!({"programId": "212313"});
    let objects = json!({"programId": "212313", "parameters": {"gdpr": "1"}});
    let another = json!({"programId": "212313", "userAgent": "x"});
    let unknown = json!({"programId": "unknown"});
    let browser = ("origin", "https://shop.example");
    let cookie = format!("adtrack_id={VISITOR}");
    let mut seen = 0;
    for (items, header, known, remembered) in [
        (vec![&own, &own], browser, 2, true),
        (vec![&own, &unknown], browser, 1, true),
        (vec![&own, &own], ("sec-fetch-mode", "no-cors"), 2, true),
        // An app or a server keeps no cookie.
        (vec![&own, &own], ("x", "y"), 0, false),
        (vec![&own, &objects], browser, 0, false),
        (vec![&own, &another], browser, 0, false),
        (vec![&unknown], browser, 0, false),
        (vec![&own, &own], ("cookie", &cookie), 2, true),
        (vec![&own, &objects], ("cookie", &cookie), 1, false),
    ] {
        let request = app.client.post(format!("{}/events", app.url)).json(&items);
        let response = request.header(header.0, header.1).send().await.unwrap();
        let cookie = response.headers().get("set-cookie").map(|cookie| cookie.to_str().unwrap());
        assert_eq!(cookie.is_some(), remembered, "{items:?} {header:?}");
        let accepted = items.iter().filter(|item| **item != &unknown).count();
        let events = app.wait_for_events(seen + accepted).await.split_off(seen);
        let ids = events.iter().map(|event| &*event.visitor_id).filter(|id| !id.is_empty());
        let ids: Vec<_> = ids.collect();
        assert_eq!(ids.len(), known, "{items:?} {header:?}");
        if let Some(cookie) = cookie {
            assert!(ids.iter().all(|id| cookie.starts_with(&format!("adtrack_id={id};"))));
        }
        seen += accepted;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accepts_the_same_batch_as_array_and_ndjson_plain_and_gzipped() {
    let app = Setup::default().start().await;
    let items: Vec<_> = (0..3)
        .map(|n| json!({"programId": "212313", "eventId": format!("e-{n}")}).to_string())
        .collect();
    let array = format!(" [{}]\n", items.join(","));
    let lines = items.join("\r\n") + "\n\n";
    let mut responses = Vec::new();
    for (media_type, encoding, body) in [
        (JSON, "", array.clone().into_bytes()),
        ("application/x-ndjson", "", lines.clone().into_bytes()),
        ("text/plain;charset=UTF-8", "identity", array.clone().into_bytes()),
        (JSON, "gzip", gzip(array.as_bytes())),
        ("application/x-ndjson", "GZIP", gzip(lines.as_bytes())),
        // What gzip is can be seen.
        (JSON, "", gzip(array.as_bytes())),
        ("application/gzip", "", gzip(lines.as_bytes())),
    ] {
        let response = send(&app, media_type, encoding, body).await;
        assert_eq!(response.status(), 200, "{media_type} {encoding}");
        responses.push(response.json::<Value>().await.unwrap());
    }
    assert_eq!(responses[0]["accepted"], 3);
    let all_equal = responses.iter().all(|response| *response == responses[0]);
    assert!(all_equal, "resent events have the same ids");
    assert_eq!(app.wait_for_events(21).await.len(), 21);
    let (status, body) = batch(&app, &json!([])).await;
    assert_eq!((status, body), (200, json!({"accepted": 0, "refused": 0, "results": []})));
}

#[tokio::test(flavor = "multi_thread")]
async fn returns_a_result_for_each_item_in_order() {
    let app = Setup::default().start().await;
    let items = json!([
        {"programId": "212313"}, {"programId": "unknown"}, {"programId": "212313", "checksum": "x"},
        {"programId": "a b"}, 7, {"programId": "212314"}, {}
    ]);
    let (status, body) = batch(&app, &items).await;
    assert_eq!((status, &body["accepted"], &body["refused"]), (207, &json!(2), &json!(5)));
    let codes: Vec<_> = body["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["problem"]["code"].as_str().unwrap_or("accepted"))
        .collect();
    assert_eq!(
        codes,
        [
            "accepted",
            "program_not_found",
            "parameter_mismatch",
            "invalid_program_id",
            "invalid_parameters",
            "accepted",
            "invalid_program_id"
        ]
    );
    assert_eq!(
        body["results"][1]["problem"],
        json!({"status": 404, "code": "program_not_found",
        "detail": "there is no such program"})
    );
    assert_eq!(app.wait_for_events(2).await.len(), 2);
    let metrics = app.client.get(format!("{}/metrics", app.management)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for line in [
        "adtrack_requests_total{answer=\"accepted\"} 2",
        "adtrack_requests_total{answer=\"invalid_program_id\"} 2",
        "adtrack_events_per_batch_count 1",
        "adtrack_events_per_batch_sum 7",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_the_invalid_member_of_an_item() {
    let app = Setup::default().start().await;
    let now = jiff::Timestamp::now();
    let hours = jiff::SignedDuration::from_hours;
    for (members, expected) in [
        (
            json!({"eventtype": "click"}),
            "\"eventtype\" is not a member of an item; known are programId, ",
        ),
        (
            json!({"eventType": "view"}),
            "`eventType` must be event, impression, click or conversion",
        ),
        (json!({"eventType": 1}), "`eventType` must be event"),
        (json!({"eventId": "x".repeat(129)}), "`eventId` must be at most 128 bytes"),
        (json!({"eventId": ["x"]}), "`eventId` must be a text or a number"),
        (
            json!({"occurredAt": (now - hours(7 * 24 + 1)).to_string()}),
            "`occurredAt` must be at most 7",
        ),
        (
            json!({"occurredAt": (now + hours(1)).as_millisecond()}),
            "`occurredAt` must be at most 7",
        ),
        (json!({"occurredAt": "yesterday"}), "`occurredAt` must be RFC 3339"),
        (json!({"occurredAt": -5}), "`occurredAt` must be RFC 3339"),
        (json!({"occurredAt": 1.5}), "`occurredAt` must be at most 7"),
        (json!({"occurredAt": 99_999_999_999_999_999_u64}), "`occurredAt` must be RFC 3339"),
        (json!({"eventType": "conversion", "clickId": "1"}), "`clickId` must be a message id"),
        (
            json!({"parameters": {"checksum": "124"}}),
            "`parameters` has `checksum`, which is a member",
        ),
        (json!({"amount": 1, "currency": "EUR"}), "`amount` needs the `eventType`"),
        (
            json!({"eventType": "conversion", "amount": "1e3", "currency": "EUR"}),
            "`amount` must be a dec",
        ),
        (
            json!({"eventType": "conversion", "amount": true, "currency": "EUR"}),
            "`amount` must be a text or",
        ),
        (json!({"eventType": "conversion", "amount": 5}), "`currency` is missing"),
        (
            json!({"eventType": "conversion", "transactionId": "x".repeat(129)}),
            "`transactionId` must be at most",
        ),
        (
            json!({"eventType": "conversion", "parameters": {"amount": 5}}),
            "`parameters` has `amount`",
        ),
    ] {
        let mut item = json!({"programId": "212313"});
        item.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let (status, code, detail) = problem(&app, item).await;
        assert_eq!((status, code.as_str()), (400, "invalid_parameters"), "{members} {detail}");
        assert!(detail.starts_with(expected), "{members}: {detail}");
    }
    let twice = r#"[{"programId":"212313","eventId":"a","eventId":"b"}]"#;
    let body: Value = send(&app, JSON, "", twice).await.json().await.unwrap();
    let detail = body["results"][0]["problem"]["detail"].as_str().unwrap();
    assert!(detail.starts_with("`eventId` is given twice"), "{detail}");
    // What a page could interpret is not repeated.
    let (_, _, detail) = problem(&app, json!({"programId": "212313", "<script>": 1})).await;
    assert!(detail.starts_with("\"\\u{3c}script\\u{3e}\" is not a member"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_an_unreadable_batch_as_a_whole() {
    let app = Setup::default().start().await;
    let item = r#"{"programId":"212313"}"#;
    let many = format!("[{}]", [item; 501].join(","));
    let large =
        format!("[{item},{{\"programId\":\"212313\",\"userAgent\":\"{}\"}}]", "x".repeat(1 << 20));
    let bomb = gzip(format!("[{item}{}]", " ".repeat(2 << 20)).as_bytes());
    for (media_type, encoding, body, expected, code, detail) in [
        (JSON, "", b"[1,\n2x]".to_vec(), 400, "invalid_body", "at line 2 column 2"),
        (JSON, "", b"{\n\"programId\":x\n}".to_vec(), 400, "invalid_body", "at line 2 column 13"),
        (JSON, "", b"".to_vec(), 400, "invalid_body", "line 1 column 1"),
        (JSON, "", b"\"x\"".to_vec(), 400, "invalid_body", "line 1 column 1"),
        (JSON, "gzip", b"[]".to_vec(), 400, "invalid_body", "not gzip"),
        (JSON, "br", b"[]".to_vec(), 415, "unsupported_media_type", "gzip, or none"),
        ("text/xml", "", b"[]".to_vec(), 415, "unsupported_media_type", "application/x-ndjson"),
        (JSON, "", many.into_bytes(), 413, "payload_too_large", "more than 500 events"),
        (JSON, "", large.into_bytes(), 413, "payload_too_large", "more than 1048576 bytes"),
        (JSON, "gzip", bomb, 413, "payload_too_large", "more than 1048576 bytes"),
    ] {
        let response = send(&app, media_type, encoding, body).await;
        let accepts = response.headers().contains_key(ACCEPT_ENCODING);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!((response.status().as_u16(), accepts), (expected, expected == 415), "{detail}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["code"], code);
        assert!(body["detail"].as_str().unwrap().contains(detail), "{body}");
    }
    let get = app.client.request(Method::GET, format!("{}/events", app.url)).send().await.unwrap();
    assert_eq!((get.status().as_u16(), get.headers()["allow"].to_str().unwrap()), (405, "POST"));
    let (status, _) = batch(&app, &json!([{"programId": "212313"}])).await;
    assert_eq!((status, app.wait_for_events(1).await.len()), (200, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_first_of_the_items_with_one_id() {
    let app = Setup::default().start().await;
    let item = |amount: &str| {
        json!({"programId": "212313", "eventType": "conversion", "transactionId": "t",
            "amount": amount, "currency": "EUR"})
    };
    let items =
        json!([item("5"), {"programId": "unknown"}, item("6"), {"programId": "212313"}, item("7")]);
    let (status, body) = batch(&app, &items).await;
    assert_eq!((status, &body["accepted"]), (207, &json!(4)), "{body}");
    let events = app.wait_for_events(4).await;
    let mut received: Vec<_> =
        events.iter().map(|event| (event.received_at_ms, event.amount_micros)).collect();
    received.sort_unstable();
    let start = received[0].0;
    let expected = [(start, 0), (start, 5_000_000), (start + 1, 6_000_000), (start + 2, 7_000_000)];
    assert_eq!(received, expected);
    assert!(events.iter().all(|event| event.occurred_at_ms == start), "only the order changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_moments_as_clocks_and_languages_write_them() {
    let app = Setup::default().start().await;
    let now = jiff::Timestamp::now();
    let ms = now.as_millisecond();
    let written = now.to_zoned(jiff::tz::TimeZone::UTC);
    let forms = [
        json!(ms),
        json!(ms.to_string()),
        serde_json::from_str(&format!("{ms}.283936")).unwrap(),
        json!(format!("{ms}.9")),
        serde_json::from_str(&format!("{ms}e0")).unwrap(),
        json!(now.to_string()),
        json!(written.strftime("%Y-%m-%dT%H:%M:%S%.3f+0000").to_string()),
        json!(written.strftime("%Y-%m-%d %H:%M:%S%.6f+00:00").to_string()),
    ];
    let items: Vec<_> =
        forms.iter().map(|form| json!({"programId": "212313", "occurredAt": form})).collect();
    let (status, body) = batch(&app, &json!(items)).await;
    assert_eq!(status, 200, "{body}");
    let events = app.wait_for_events(forms.len()).await;
    let moments: Vec<_> = events.iter().map(|event| event.occurred_at_ms).collect();
    assert_eq!(moments, vec![ms; forms.len()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn accepts_500_events_and_looks_each_program_up_once() {
    let app = Setup::default().start().await;
    let items: Vec<_> =
        (0..500).map(|n| json!({"programId": format!("21231{}", 2 + n % 3)})).collect();
    let (status, body) = batch(&app, &json!(items)).await;
    assert_eq!((status, &body["accepted"]), (200, &json!(500)));
    assert_eq!(app.wait_for_events(500).await.len(), 500);
    let metrics = app.client.get(format!("{}/metrics", app.management)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let count = |name: &str| -> u64 {
        let line = format!("adtrack_l1_lookups_total{{result=\"{name}\"}} ");
        metrics.lines().find_map(|found| found.strip_prefix(&*line)).unwrap().parse().unwrap()
    };
    assert_eq!(count("hit") + count("miss"), 3, "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requires_a_signature_of_conversions_if_the_program_does() {
    let app = Setup::default().start().await;
    let program = json!({"programId": "p", "programName": "n", "checksum": "1", "customerId": 1,
        "customerName": "c", "valid": true, "conversionKeyId": "k", "version": "0.9"});
    store(&app.redis, &Update::from_json(program.to_string().as_bytes()).unwrap()).await;
    let items = json!([{"programId": "p"}, {"programId": "p", "eventType": "conversion"}]);
    let (status, body) = batch(&app, &items).await;
    assert_eq!((status, &body["accepted"]), (207, &json!(1)));
    assert_eq!(body["results"][1]["problem"]["code"], "conversion_key_unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn returns_a_result_for_each_item_if_the_journal_fills_midway() {
    let app =
        Setup::flags(&["--event-stream=nowhere", "--journal-max-bytes=131072", "--workers=1"])
            .start()
            .await;
    let items: Vec<_> = (0..300)
        .map(|n| json!({"programId": "212313", "eventId": format!("e{n}"), "userAgent": "u".repeat(400)}))
        .collect();
    let (status, body) = batch(&app, &json!(items)).await;
    assert_eq!(status, 207);
    let results = body["results"].as_array().unwrap();
    assert_eq!(results.len(), 300);
    let accepted = results.iter().filter(|result| result["messageId"].is_string()).count();
    let overloaded = results
        .iter()
        .filter(|result| {
            result["problem"]["code"] == "overloaded" && result["problem"]["status"] == 503
        })
        .count();
    assert_eq!(
        (json!(accepted), json!(overloaded)),
        (body["accepted"].clone(), body["refused"].clone())
    );
    assert!(accepted > 0 && overloaded > 0 && accepted + overloaded == 300);

    // If no item can be accepted, the whole response is the problem.
    until("the journal is full", async || {
        let (status, body) = batch(&app, &json!(items)).await;
        status == 503 && body["code"] == "overloaded"
    })
    .await;
    let response = send(&app, JSON, "", json!(items).to_string()).await;
    assert!(response.headers().contains_key(RETRY_AFTER));
}
