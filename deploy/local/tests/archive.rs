//! The archive of a stack whose archiver is killed, and whose batches are doubled and halved: it has every accepted
//! event as it was sent, and no other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod helpers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use axum::body::Bytes;
use helpers::long_or_short;
use local_stack::archive::{self, Row};
use local_stack::lambda::{EventSourceMapping, Function, Invoke, InvokeError, MappingSettings};
use local_stack::stack::EVENT_STREAM;
use local_stack::{Stack, StackOptions};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

const TRACKERS: usize = 2;
const REQUESTS_PER_SECOND: u32 = 200;
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the archive may take to be complete after the last request, with the archiver left alone.
const SETTLE: Duration = Duration::from_secs(180);
/// An event that was accepted: what its raw row must say.
type Accepted = BTreeMap<String, Event>;

/// The archiver, as it is for a mapping whose invocations time out: half of them, before or after they took effect.
struct TimingOut {
    archiver: Arc<Function>,
    invocations: AtomicUsize,
}

impl Invoke for TimingOut {
    async fn invoke(&self, payload: Bytes) -> Result<Bytes, InvokeError> {
        let number = self.invocations.fetch_add(1, Ordering::Relaxed);
        let timed_out = || Err(InvokeError::TimedOut(Duration::ZERO));
        match number % 4 {
            1 => timed_out(),
            3 => {
                self.archiver.invoke(payload).await?;
                timed_out()
            }
            _ => self.archiver.invoke(payload).await,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Event {
    event_type: &'static str,
    /// The number of its request.
    number: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn has_every_accepted_event_although_the_archiver_is_killed() {
    let length = long_or_short(Duration::from_secs(120), Duration::from_secs(4));
    let mut rng = fastrand::Rng::new();
    let folder = tempfile::tempdir().unwrap();
    let mut stack = start(folder.path()).await;

    let stop = Arc::<AtomicBool>::default();
    let load = tokio::spawn(send(urls(&mut stack), rng.fork(), Arc::clone(&stop)));
    let (mappings, kills) = disturb(&stack, &mut rng, length).await;
    stop.store(true, Ordering::Relaxed);
    let accepted = load.await.unwrap();

    let archived = wait_until_archived(&stack.archive, &accepted).await;
    drop(mappings);
    assert_eq!(files_below(&stack.on_failure), 0, "no batch was given up");
    assert_eq!(files_below(&stack.failed_records), 0);
    let archive = stack.archive.clone();
    stack.stop().await;
    let count = rows(&archive, "raw").count();
    println!(
        "{} events accepted, {kills} kills, {count} rows in {} files, complete within {:.1} s",
        accepted.len(),
        files_below(&archive.join("raw")),
        archived.as_secs_f64(),
    );
    assert_eq!(
        ids(&archive),
        accepted.keys().cloned().collect(),
        "distinct ids are those accepted"
    );
    let altered: Vec<_> =
        rows(&archive, "raw").filter(|row| !is_as_sent(row, &accepted)).take(3).collect();
    assert!(altered.is_empty(), "altered: {altered:?}");
    assert!(count > accepted.len(), "some batches overlap");
    assert_eq!(places(&archive), receipted(&archive));
}

async fn start(folder: &Path) -> Stack {
    let binaries = Path::new(env!("CARGO_BIN_EXE_local-stack")).parent().unwrap();
    let options = StackOptions {
        trackers: TRACKERS,
        tracker_environment: Some(vec![("JOURNAL_MAX_BYTES".into(), "67108864".into())]),
        archive_window: Duration::from_millis(300),
        ..StackOptions::new(binaries, folder)
    };
    let stack = Stack::start(&options).await.unwrap();
    stack.load_samples().await.unwrap();
    stack
}

fn urls(stack: &mut Stack) -> Vec<String> {
    stack.trackers().iter().map(|tracker| tracker.public_url().to_owned()).collect()
}

/// Kills the archiver at random times, and adds mappings that deliver everything again, in batches of other sizes and
/// with invocations that time out, which halves batches. Returns the mappings, and the number of kills.
async fn disturb(
    stack: &Stack,
    rng: &mut fastrand::Rng,
    length: Duration,
) -> (Vec<EventSourceMapping>, usize) {
    let archiver = Arc::clone(stack.function("archiver").unwrap());
    let begin = Instant::now();
    let (mut mappings, mut kills) = (Vec::new(), 0);
    while begin.elapsed() < length {
        tokio::time::sleep(Duration::from_millis(rng.u64(1..400))).await;
        archiver.kill().await;
        kills += 1;
        if mappings.len() < 2 && begin.elapsed() > length / 3 {
            mappings.push(mapping(stack, &archiver, rng.usize(2..9)).await);
        }
    }
    (mappings, kills)
}

async fn mapping(stack: &Stack, archiver: &Arc<Function>, batch_size: usize) -> EventSourceMapping {
    let function = TimingOut { archiver: Arc::clone(archiver), invocations: AtomicUsize::new(0) };
    let settings = MappingSettings {
        stream: EVENT_STREAM.to_owned(),
        batch_size,
        batching_window: Duration::ZERO,
        maximum_retry_attempts: None,
        maximum_record_age: Duration::from_secs(24 * 60 * 60),
        bisect_on_error: true,
        on_failure_folder: stack.on_failure.clone(),
    };
    EventSourceMapping::start(stack.kinesis().await, Arc::new(function), settings)
}

/// Sends requests to every endpoint until `stop`. Returns the events that were accepted, by id.
async fn send(urls: Vec<String>, mut rng: fastrand::Rng, stop: Arc<AtomicBool>) -> Accepted {
    let client =
        Client::builder().no_proxy().redirect(Policy::none()).timeout(TIMEOUT).build().unwrap();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / REQUESTS_PER_SECOND);
    let mut requests = tokio::task::JoinSet::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let url = &urls[rng.usize(..urls.len())];
        let (request, events) = draw(&client, url, &mut rng, &mut number);
        requests.spawn(async move { accepted(request, events).await });
    }
    requests.join_all().await.into_iter().flatten().collect()
}

/// A random request, and its events.
fn draw(
    client: &Client,
    url: &str,
    rng: &mut fastrand::Rng,
    number: &mut u64,
) -> (RequestBuilder, Vec<Event>) {
    let mut event = |event_type| {
        *number += 1;
        Event { event_type, number: *number }
    };
    let get = |path: &str, event: Event| {
        let number = event.number;
        let request = client.get(format!("{url}{path}n={number}"));
        (request.header("user-agent", format!("agent {number}")), vec![event])
    };
    match rng.usize(..5) {
        0 => get("/event/212313?checksum=124&", event("event")),
        1 => get("/impression/212313.gif?placement=top&", event("impression")),
        2 => get("/click/212313?", event("click")),
        3 => {
            let event = event("conversion");
            let transaction = event.number;
            let path = format!("/conversion/212313?event_name=sale&transaction_id={transaction}&");
            get(&path, event)
        }
        _ => {
            let events = vec![event("impression"), event("click"), event("event")];
            let items = events.iter().map(|Event { event_type, number }| {
                json!({
                    "programId": "212313", "eventType": event_type, "userAgent": format!("agent {number}"),
                    "parameters": {"n": number.to_string()},
                })
            });
            let body = Value::from_iter(items).to_string();
            let request = client.post(format!("{url}/events"));
            (request.header("content-type", "application/json").body(body), events)
        }
    }
}

/// Sends a request; all its events must be accepted. Returns them by id.
async fn accepted(request: RequestBuilder, events: Vec<Event>) -> Vec<(String, Event)> {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let header = response.headers().get("adtrack-event-id");
    let header = header.map(|id| id.to_str().unwrap().to_owned());
    let body: Value = response.json().await.unwrap_or_default();
    assert!(status < 400, "{status} for {events:?}: {body}");
    let id = |result: &Value| result["messageId"].as_str().map(ToOwned::to_owned);
    let ids: Vec<String> = match &body["results"] {
        Value::Array(results) => results.iter().filter_map(id).collect(),
        _ => header.or_else(|| id(&body)).into_iter().collect(),
    };
    assert_eq!(ids.len(), events.len(), "{events:?}: {body}");
    ids.into_iter().zip(events).collect()
}

/// Waits until the raw rows have every accepted event, and all of them receipts. Returns how long that took.
async fn wait_until_archived(archive: &Path, accepted: &Accepted) -> Duration {
    let begin = Instant::now();
    loop {
        let archived = ids(archive);
        let missing: Vec<_> = accepted.keys().filter(|id| !archived.contains(*id)).collect();
        if missing.is_empty() && places(archive) == receipted(archive) {
            return begin.elapsed();
        }
        let some = &missing[..missing.len().min(3)];
        assert!(begin.elapsed() < SETTLE, "{} are not archived, such as {some:?}", missing.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The rows below a folder of the archive. Holds those of one file at a time.
fn rows(archive: &Path, kind: &str) -> impl Iterator<Item = Row> {
    let files = archive::files_below(&archive.join(kind)).unwrap();
    files.into_iter().flat_map(|file| archive::rows(std::fs::read(file).unwrap().into()).unwrap())
}

fn ids(archive: &Path) -> BTreeSet<String> {
    rows(archive, "raw").map(|row| text(&row, "message_id")).collect()
}

fn is_as_sent(row: &Row, accepted: &Accepted) -> bool {
    let Some(Event { event_type, number }) = accepted.get(&text(row, "message_id")) else {
        return false;
    };
    let s = |text: String| AttributeValue::S(text);
    let parameters = row.get("parameters").and_then(|it| it.as_m().ok());
    let received_at = row["received_at"].as_n().unwrap();
    parameters.and_then(|it| it.get("n")) == Some(&s(number.to_string()))
        && text(row, "rank").starts_with(&format!("{received_at}-"))
        && [
            ("program_id", s("212313".into())),
            ("program_name", s("program2".into())),
            ("checksum", s("124".into())),
            ("customer_id", AttributeValue::N("9124".into())),
            ("customer_name", s("Customer2".into())),
            ("user_agent", s(format!("agent {number}"))),
            ("is_valid", AttributeValue::Bool(true)),
            ("event_type", s((*event_type).into())),
        ]
        .iter()
        .all(|(name, value)| row.get(*name) == Some(value))
}

/// By Kinesis record: the number of distinct rows.
fn places(archive: &Path) -> HashMap<(String, String), usize> {
    let mut numbers = HashMap::<_, BTreeSet<String>>::new();
    for row in rows(archive, "raw") {
        let number = row["sub_sequence_number"].as_n().unwrap().clone();
        numbers.entry(record(&row)).or_default().insert(number);
    }
    numbers.into_iter().map(|(record, numbers)| (record, numbers.len())).collect()
}

/// By Kinesis record with events: the number of events that its receipts name.
fn receipted(archive: &Path) -> HashMap<(String, String), usize> {
    let events = rows(archive, "receipts").filter(|row| text(row, "kind") == "events");
    let count = |row: &Row| row["events"].as_n().unwrap().parse().unwrap();
    events.map(|row| (record(&row), count(&row))).filter(|(_, events)| *events > 0).collect()
}

fn record(row: &Row) -> (String, String) {
    (text(row, "shard"), text(row, "sequence_number"))
}

fn text(row: &Row, name: &str) -> String {
    row.get(name).and_then(|value| value.as_s().ok()).cloned().unwrap_or_default()
}

fn files_below(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path()),
            _ => 1,
        })
        .sum()
}
