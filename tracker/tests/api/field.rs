//! Requests as clients really send them: the corpus, properties, and the same event in every form.

use std::collections::{BTreeMap, BTreeSet};

use adtrack_proto::event::TrackingEvent;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::clicks::program_with;
use crate::helpers::{Setup, TestApp, store};

const CORPUS: &str = include_str!("../data/field/requests.jsonl");
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0";
/// Flags that say that a request was repaired.
const REPAIRED: [&str; 3] = ["parameters_cut", "parameters_repaired", "unfilled_macro"];

/// A line of the corpus; data/field/README.md describes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    request: String,
    #[serde(default)]
    headers: BTreeMap<String, Option<String>>,
    #[serde(default)]
    body: String,
    expect: Expected,
    source: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    status: u16,
    #[serde(default)]
    row: Map<String, Value>,
    #[serde(default)]
    absent: Vec<String>,
    parameters: Option<usize>,
    #[serde(default)]
    flags: BTreeSet<String>,
    uuid_version: Option<usize>,
    accepted: Option<usize>,
    location: Option<String>,
    code: Option<String>,
    names: Option<String>,
}

/// A response, read until the server closed the connection.
#[derive(Debug)]
struct Response {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Response {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..head_end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_ascii_lowercase(), value.to_owned()))
        };
        let headers = lines.map(header).collect::<Option<_>>()?;
        Some(Self { status, headers, body: bytes[head_end + 4..].to_vec() })
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The problem: of the response, or of the first refused item of a batch.
    fn problem(&self) -> Value {
        let json = self.json();
        let of_item = json["results"].as_array().and_then(|results| {
            results.iter().map(|result| &result["problem"]).find(|problem| problem.is_object())
        });
        of_item.cloned().unwrap_or(json)
    }

    /// The message ids of what was recorded.
    fn message_ids(&self) -> Vec<String> {
        let json = self.json();
        let mut ids: Vec<_> = json["results"]
            .as_array()
            .into_iter()
            .flatten()
            .chain([&json])
            .filter_map(|result| Some(result["messageId"].as_str()?.to_owned()))
            .collect();
        ids.extend(self.headers.get("adtrack-event-id").cloned());
        ids
    }
}

/// The text with `\xFC` replaced by that byte.
fn bytes(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(part[2..].as_bytes());
    }
    bytes
}

fn request(method_and_target: &[u8], headers: &[(&[u8], &[u8])], body: &[u8]) -> Vec<u8> {
    let mut request = [method_and_target, b" HTTP/1.1\r\nconnection: close\r\n"].concat();
    for (name, value) in headers {
        request.extend_from_slice(&[*name, b": ", *value, b"\r\n"].concat());
    }
    if !body.is_empty() {
        request.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    [&request, &b"\r\n"[..], body].concat()
}

impl Line {
    fn bytes(&self) -> Vec<u8> {
        let mut headers =
            BTreeMap::from([("Host", Some("t.example")), ("User-Agent", Some(BROWSER))]);
        headers.extend(self.headers.iter().map(|(name, value)| (&**name, value.as_deref())));
        let headers: Vec<_> = headers
            .into_iter()
            .filter_map(|(name, value)| Some((bytes(name), bytes(value?))))
            .collect();
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
        request(&bytes(&self.request), &headers, &bytes(&self.body))
    }
}

/// Sends the bytes on a connection of their own.
async fn send(address: &str, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may refuse the request before it has arrived completely.
    let _ = stream.write_all(request).await;
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response).await;
    response
}

fn address(app: &TestApp) -> String {
    app.url.trim_start_matches("http://").to_owned()
}

async fn app() -> TestApp {
    let app = Setup::default().start().await;
    let pages =
        json!({"landingUrl": "https://shop.example/landing", "allowedHosts": ["shop.example"]});
    store(&app.redis, &program_with("f17", &pages)).await;
    app
}

/// The row of an event, as far as the corpus asks for it.
fn row(event: &TrackingEvent) -> Map<String, Value> {
    let texts = [
        ("program_id", &event.program_id),
        ("click_id", &event.click_id),
        ("impression_id", &event.impression_id),
        ("client_event_id", &event.client_event_id),
        ("transaction_id", &event.transaction_id),
        ("event_name", &event.event_name),
        ("status", &event.status),
        ("currency", &event.currency),
        ("user_agent", &event.user_agent),
        ("referrer", &event.referrer),
        ("visitor_id", &event.visitor_id),
        ("event_type", &event.event_type().name().to_owned()),
    ]
    .map(|(name, text)| (name, json!(text), text.is_empty()));
    let others = [
        ("customer_id", json!(event.customer_id), false),
        ("amount_micros", json!(event.amount_micros), event.amount_micros == 0),
        ("parameters", json!(event.parameters), event.parameters.is_empty()),
        ("traffic_flags", json!(event.traffic_flags), event.traffic_flags.is_empty()),
    ];
    let given = texts.into_iter().chain(others).filter(|(_, _, is_empty)| !is_empty);
    given.map(|(name, value, _)| (name.to_owned(), value)).collect()
}

/// What is wrong with the response and the row, if anything.
fn faults(
    line: &Line,
    response: &Response,
    events: &BTreeMap<String, TrackingEvent>,
) -> Vec<String> {
    let expected = &line.expect;
    let mut faults = Vec::new();
    let mut check = |is_right: bool, fault: &dyn Fn() -> String| {
        if !is_right {
            faults.push(fault());
        }
    };
    check(response.status == expected.status, &|| {
        format!("status {}: {}", response.status, String::from_utf8_lossy(&response.body))
    });
    if let Some(code) = &expected.code {
        let problem = response.problem();
        check(problem["code"] == **code, &|| format!("problem {problem}"));
        let detail = problem["detail"].as_str().unwrap_or_default().to_owned();
        let is_named = |name: &String| detail.contains(&**name);
        check(expected.names.as_ref().is_none_or(is_named), &|| {
            format!("does not name it: {detail}")
        });
    }
    let ids = response.message_ids();
    let recorded = expected.accepted.unwrap_or_else(|| match expected.status {
        200 | 302 => 1,
        _ => 0,
    });
    check(ids.len() == recorded, &|| format!("{} recorded", ids.len()));
    if let Some(location) = &expected.location {
        let given = response.header("location");
        let page = given.split(['?', '&']).filter(|part| !part.starts_with("click_id=")).count();
        let all = given.split(['?', '&']).count();
        check(given.starts_with(&**location) && all == page + 1, &|| format!("leads to {given}"));
    }
    let Some(id) = ids.first() else { return faults };
    let Some(event) = events.get(id) else {
        check(false, &|| format!("{id} is not in the stream"));
        return faults;
    };
    let row = row(event);
    for (name, value) in &expected.row {
        check(row.get(name) == Some(value), &|| format!("{name} is {:?}", row.get(name)));
    }
    for name in &expected.absent {
        check(!row.contains_key(name), &|| format!("{name} is {:?}", row.get(name)));
    }
    let count = event.parameters.len();
    check(expected.parameters.is_none_or(|expected| expected == count), &|| {
        format!("{count} parameters")
    });
    let flags: BTreeSet<_> = event.traffic_flags.iter().cloned().collect();
    check(flags == expected.flags, &|| format!("flags {flags:?}"));
    let header = response.header("adtrack-repaired");
    for flag in REPAIRED {
        let is_said = header.split([';', ',', ' ']).any(|word| word == flag);
        check(is_said == flags.contains(flag), &|| format!("Adtrack-Repaired: {header}"));
    }
    let version = uuid::Uuid::parse_str(id).unwrap().get_version_num();
    check(expected.uuid_version.is_none_or(|expected| expected == version), &|| {
        format!("UUIDv{version}")
    });
    faults
}

#[tokio::test(flavor = "multi_thread")]
async fn field_corpus_is_recorded_or_refused_as_documented() {
    let app = app().await;
    let lines: Vec<Line> =
        CORPUS.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(lines.len() >= 150, "{}", lines.len());
    let mut responses = Vec::new();
    for line in &lines {
        assert!(!line.source.is_empty() && !line.reason.is_empty(), "{}", line.request);
        let bytes = send(&address(&app), &line.bytes()).await;
        let response = Response::parse(&bytes);
        responses.push(response.unwrap_or_else(|| panic!("{}: no response", line.request)));
    }

    let recorded: usize = responses.iter().map(|response| response.message_ids().len()).sum();
    let events = app.wait_for_events(recorded).await;
    assert_eq!(events.len(), recorded);
    let events: BTreeMap<_, _> =
        events.into_iter().map(|event| (event.message_id.clone(), event)).collect();
    let wrong: Vec<_> = lines
        .iter()
        .zip(&responses)
        .map(|(line, response)| (line, faults(line, response, &events)))
        .filter(|(_, faults)| !faults.is_empty())
        .map(|(line, faults)| {
            format!("{:.120} ({}): {}", line.request, line.reason, faults.join("; "))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), lines.len(), wrong.join("\n"));
}

/// The response to bytes that parse as HTTP/1.1: never none, never a refusal without a body that says why.
fn check_response(sent: &[u8], response: &[u8]) -> Result<Response, TestCaseError> {
    let shown = String::from_utf8_lossy(sent).into_owned();
    let response = Response::parse(response)
        .ok_or_else(|| TestCaseError::fail(format!("no response to {shown}")))?;
    let is_gif = response.header("content-type") == "image/gif";
    if response.status >= 400 && !is_gif {
        let problem = response.json();
        prop_assert!(problem["code"].is_string(), "{} to {}", response.status, shown);
        prop_assert!(problem["detail"].is_string());
        if problem["code"] == "invalid_parameters" {
            prop_assert!(problem["detail"].as_str().unwrap().contains('`'), "{}", problem);
        }
    }
    prop_assert!(response.status < 500, "{} to {}", response.status, shown);
    Ok(response)
}

fn query() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        "(checksum|customerId|at_event_id|transaction_id|click_id|amount|currency|status|url|gdpr|gdpr_consent|sig|event_name|amp;[a-z]|[a-z]{0,3})",
        "[!-~&&[^ ]]{0,8}"
    ]
    .prop_map(String::into_bytes);
    let value = prop_oneof![
        "(124|9124|1|0|EUR|EURO|49\\.90|1e2|\\{[a-z]{1,9}\\}|%%[A-Z]{1,9}%%|null|%7Bx%7D|[A-Za-z0-9%{}\\[\\]$.+-]{0,20})"
            .prop_map(String::into_bytes),
        proptest::collection::vec(prop_oneof![0x21_u8..=0x7e, 0x80_u8..=0xff], 0..30),
    ];
    let pair = (name, value).prop_map(|(name, value)| [name, b"=".to_vec(), value].concat());
    proptest::collection::vec(pair, 0..25).prop_map(|pairs| pairs.join(&b'&'))
}

fn header_value() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(b'\t'), 0x20_u8..=0x7e, 0x80_u8..=0xff], 0..60)
}

/// JSON of a conversion or an event, with members of every type.
fn members() -> impl Strategy<Value = String> {
    let name = "(programId|eventId|transaction_id|transactionId|click_id|clickId|amount|currency|status|eventType|parameters|customerId|checksum|[a-z]{1,4})";
    let value = prop_oneof![
        Just("null".to_owned()),
        "(true|false|\\{\\}|\\[1\\]|-?[0-9]{1,20}(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?)",
        "\"(212313|EUR|conversion|\\{x\\}|[a-z0-9]{0,8})\"",
        any::<String>().prop_map(|text| json!(text).to_string()),
    ];
    let member = (name, value).prop_map(|(name, value)| format!("\"{name}\":{value}"));
    proptest::collection::vec(member, 0..10)
        .prop_map(|members| format!("{{{}}}", members.join(",")))
}

fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let path =
        "/(event|impression|click|conversion|validate/conversion)/(212313|f17|unknown)(\\.gif|/)?";
    let get = (path, query())
        .prop_map(|(path, query)| (["GET ", &path, "?"].concat().into_bytes(), query, Vec::new()));
    let form = query().prop_map(|query| (b"POST /conversion/212313".to_vec(), Vec::new(), query));
    let json = members()
        .prop_map(|json| (b"POST /conversion/212313".to_vec(), Vec::new(), json.into_bytes()));
    let batch = proptest::collection::vec(members(), 0..4).prop_map(|items| {
        let body = [b"[".to_vec(), items.join(",").into_bytes(), b"]".to_vec()].concat();
        (b"POST /events".to_vec(), Vec::new(), body)
    });
    let lines = (proptest::collection::vec(members(), 1..4), any::<proptest::sample::Index>());
    let lines = lines.prop_map(|(items, cut)| {
        let mut body = items.join("\n");
        let cut = body.floor_char_boundary(cut.index(body.len() + 1));
        body.truncate(cut);
        (b"POST /validate".to_vec(), Vec::new(), body.into_bytes())
    });
    (
        prop_oneof![3 => get, 1 => form, 1 => json, 1 => batch, 1 => lines],
        header_value(),
        header_value(),
        "(text/plain|application/json|application/x-www-form-urlencoded|application/x-ndjson)?",
    )
        .prop_map(|((start, query, body), agent, referrer, media_type)| {
            let headers: [(&[u8], &[u8]); 4] = [
                (b"host", b"t.example"),
                (b"user-agent", &agent),
                (b"referer", &referrer),
                (b"content-type", media_type.as_bytes()),
            ];
            request(&[start, query].concat(), &headers, &body)
        })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_http_request_is_recorded_or_refused_with_a_reason() {
    let app = app().await;
    let address = address(&app);
    let runtime = tokio::runtime::Handle::current();
    let recorded = tokio::task::spawn_blocking(move || {
        let recorded = std::cell::Cell::new(0);
        let mut runner = TestRunner::new(Config { cases: 600, ..Config::default() });
        let outcome = runner.run(&any_request(), |request| {
            let response = runtime.block_on(send(&address, &request));
            let response = check_response(&request, &response)?;
            let is_validation = request.windows(9).any(|window| window == b"/validate");
            let ids = response.message_ids();
            if response.status < 400 && !is_validation && !request.starts_with(b"POST /events") {
                prop_assert_eq!(ids.len(), 1, "{:?}", response);
            }
            recorded.set(recorded.get() + ids.len());
            Ok(())
        });
        outcome.unwrap();
        recorded.get()
    });
    let recorded = recorded.await.unwrap();
    assert!(recorded > 40, "{recorded}");
    let events = app.wait_for_events(recorded).await;
    assert_eq!(events.len(), recorded, "what is said to be recorded, and nothing else");
    for event in events {
        assert!(event.parameters.len() <= 20);
        for (name, value) in &event.parameters {
            assert!((1..=64).contains(&name.len()) && value.len() <= 512, "{name}={value}");
            assert!(!name.starts_with("at_"), "{name}");
        }
        for id in [&event.click_id, &event.impression_id] {
            assert!(id.is_empty() || uuid::Uuid::parse_str(id).is_ok(), "{id}");
        }
        assert!(!event.transaction_id.starts_with('{') || !event.transaction_id.ends_with('}'));
    }
}

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
