//! Requests as clients really send them: the corpus, and a property of every request.

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
pub const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0";
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
pub struct Response {
    pub status: u16,
    headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
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

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The problem: of the response, or of the first refused item of a batch.
    pub fn problem(&self) -> Value {
        let json = self.json();
        let of_item = json["results"].as_array().and_then(|results| {
            results.iter().map(|result| &result["problem"]).find(|problem| problem.is_object())
        });
        of_item.cloned().unwrap_or(json)
    }

    /// The message ids of what was recorded.
    pub fn message_ids(&self) -> Vec<String> {
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
        bytes.extend_from_slice(&part.as_bytes()[2..]);
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
pub async fn send(address: &str, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may refuse the request before it has arrived completely.
    let _ = stream.write_all(request).await;
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response).await;
    response
}

pub fn address(app: &TestApp) -> String {
    app.url.trim_start_matches("http://").to_owned()
}

pub async fn app() -> TestApp {
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
    let recorded = expected.accepted.unwrap_or(match expected.status {
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
        let id = &event.transaction_id;
        assert!(!id.starts_with('{') || !id.ends_with('}'), "{id}");
    }
}
