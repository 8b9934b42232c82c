//! Every event with a 2xx response becomes a row, even if the tracker, Kinesis or DynamoDB fails.
//!
//! The long form runs with `make prove`, which sets `ADTRACK_PROVE`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::Blob;
use local_stack::faults::Fault;
use local_stack::process::Signal;
use local_stack::stack::{CORE_DATA_STREAM, TABLE};
use local_stack::{Stack, StackOptions};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::pipe::fcntl_setpipe_size;
use serde_json::{Value, json};
use tempfile::TempDir;

/// `long` if `ADTRACK_PROVE` is set, otherwise `short`.
fn long_or_short<T>(long: T, short: T) -> T {
    if std::env::var_os("ADTRACK_PROVE").is_some() { long } else { short }
}

async fn start(tracker: &[(&str, &str)]) -> (Stack, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (start_in(folder.path(), tracker).await, folder)
}

async fn start_in(folder: &Path, tracker: &[(&str, &str)]) -> Stack {
    let binaries = Path::new(env!("CARGO_BIN_EXE_local-stack")).parent().unwrap();
    let settings = [("JOURNAL_MAX_BYTES", "67108864")];
    let settings = settings.iter().chain(tracker);
    let options = StackOptions {
        faults: true,
        tracker: Some(settings.map(|(name, value)| ((*name).into(), (*value).into())).collect()),
        ..StackOptions::new(binaries, folder)
    };
    let stack = Stack::start(&options).await.unwrap();
    stack.load_samples().await.unwrap();
    stack
}

/// Requests at a steady rate, and their responses.
struct Traffic {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    /// Message id and number of each accepted event.
    accepted: Arc<Mutex<HashMap<String, u64>>>,
    /// Number of responses by status; 0: no response.
    statuses: Arc<Mutex<HashMap<u16, u64>>>,
    task: tokio::task::JoinHandle<()>,
    /// Parameters of every request, in addition to its number.
    padding: Parameters,
}

type Parameters = Vec<(String, String)>;

/// The requests that were sent, and the events that were accepted.
struct Sent {
    requests: u64,
    accepted: HashMap<String, u64>,
    padding: Parameters,
}

impl Traffic {
    fn start(stack: &Stack, rate: u32) -> Self {
        Self::start_padded(stack, rate, Vec::new())
    }

    fn start_padded(stack: &Stack, rate: u32, padding: Parameters) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let sent = Arc::<AtomicU64>::default();
        let accepted = Arc::<Mutex<HashMap<_, _>>>::default();
        let statuses = Arc::<Mutex<HashMap<_, _>>>::default();
        let query: String =
            padding.iter().map(|(name, value)| format!("{name}={value}&")).collect();
        let url = format!("{}/event/212313?{query}", stack.tracker_url());
        let task = {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            let (accepted, statuses) = (Arc::clone(&accepted), Arc::clone(&statuses));
            tokio::spawn(async move {
                let client = reqwest::Client::builder().no_proxy().build().unwrap();
                let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
                let mut requests = tokio::task::JoinSet::new();
                while !stop.load(Ordering::Relaxed) {
                    tick.tick().await;
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    let request = client
                        .get(format!("{url}n={number}"))
                        .header("user-agent", format!("agent {number}"))
                        .timeout(Duration::from_secs(10));
                    let (accepted, statuses) = (Arc::clone(&accepted), Arc::clone(&statuses));
                    requests.spawn(async move {
                        let outcome = async {
                            let response = request.send().await?;
                            Ok::<_, reqwest::Error>((
                                response.status().as_u16(),
                                response.json::<Value>().await?,
                            ))
                        };
                        let (status, body) = outcome.await.unwrap_or((0, Value::Null));
                        *statuses.lock().unwrap().entry(status).or_default() += 1;
                        if status == 200 {
                            let id = body["messageId"].as_str().unwrap().to_owned();
                            accepted.lock().unwrap().insert(id, number);
                        }
                    });
                    while requests.try_join_next().is_some() {}
                }
                requests.join_all().await;
            })
        };
        Self { stop, sent, accepted, statuses, task, padding }
    }

    fn count(&self, status: u16) -> u64 {
        self.statuses.lock().unwrap().get(&status).copied().unwrap_or_default()
    }

    async fn end(self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        let accepted = std::mem::take(&mut *self.accepted.lock().unwrap());
        Sent { requests: self.sent.load(Ordering::Relaxed), accepted, padding: self.padding }
    }
}

/// Waits until every accepted event is a row, and checks that the rows are complete and no more than the
/// requests.
async fn check(stack: &Stack, sent: &Sent) {
    let Sent { requests, accepted, padding } = sent;
    let give_up = Instant::now() + Duration::from_secs(60);
    let dynamodb = stack.dynamodb().await;
    loop {
        let rows = rows(&dynamodb).await;
        let missing = accepted.keys().filter(|id| !rows.contains_key(*id)).count();
        if missing > 0 && Instant::now() < give_up {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        let altered = accepted.iter().filter(|(id, number)| {
            rows.get(*id).is_some_and(|row| !is_as_sent(row, id, **number, padding))
        });
        let altered = altered.count();
        println!(
            "sent {requests}, accepted {}, rows {}, lost {missing}, altered {altered}",
            accepted.len(),
            rows.len()
        );
        assert_eq!((missing, altered), (0, 0));
        for folder in [&stack.failed_records, &stack.on_failure] {
            let given_up = std::fs::read_dir(folder).into_iter().flatten().count();
            assert_eq!(given_up, 0, "{}", folder.display());
        }
        assert!(rows.len() as u64 <= *requests);
        return;
    }
}

type Row = HashMap<String, AttributeValue>;

async fn rows(dynamodb: &aws_sdk_dynamodb::Client) -> HashMap<String, Row> {
    let mut rows = HashMap::new();
    let mut start = None;
    loop {
        let scan = dynamodb.scan().table_name(TABLE).set_exclusive_start_key(start);
        let page = scan.send().await.unwrap();
        for row in page.items.unwrap_or_default() {
            rows.insert(row["id"].as_s().unwrap().clone(), row);
        }
        start = page.last_evaluated_key;
        if start.is_none() {
            return rows;
        }
    }
}

fn is_as_sent(row: &Row, id: &str, number: u64, padding: &Parameters) -> bool {
    let s = |text: String| AttributeValue::S(text);
    let mut parameters = HashMap::from([("n".to_owned(), s(number.to_string()))]);
    parameters.extend(padding.iter().map(|(name, value)| (name.clone(), s(value.clone()))));
    [
        ("message_id", s(id.to_owned())),
        ("program_id", s("212313".into())),
        ("program_name", s("program2".into())),
        ("checksum", s("124".into())),
        ("customer_id", AttributeValue::N("9124".into())),
        ("customer_name", s("Customer2".into())),
        ("user_agent", s(format!("agent {number}"))),
        ("is_valid", AttributeValue::Bool(true)),
        ("event_type", s("event".into())),
        ("parameters", AttributeValue::M(parameters)),
    ]
    .iter()
    .all(|(name, value)| row.get(*name) == Some(value))
}

#[tokio::test(flavor = "multi_thread")]
async fn loses_nothing_if_killed_at_random_times() {
    let (mut stack, _folder) = start(&[]).await;
    let traffic = Traffic::start(&stack, 300);
    for _ in 0..long_or_short(50, 4) {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(50..700))).await;
        stack.kill_tracker().await;
        stack.start_tracker_again().await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let sent = traffic.end().await;
    assert!(sent.accepted.len() > 100, "{}", sent.accepted.len());
    check(&stack, &sent).await;
    stack.stop().await;
}

/// Anonymous memory of the tracker in KiB, and its CPU time in clock ticks.
fn usage(stack: &mut Stack) -> (u64, u64) {
    let id = stack.tracker().unwrap().id().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let anonymous = line.trim().split(' ').next().unwrap().parse().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (anonymous, fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn loses_nothing_in_a_kinesis_outage() {
    outage(500, Vec::new()).await;
}

/// Unacknowledged events are bounded in bytes, not only in number.
#[tokio::test(flavor = "multi_thread")]
async fn uses_no_more_memory_in_an_outage_with_the_largest_events() {
    let value = "x".repeat(512);
    outage(100, (0..19).map(|number| (format!("p{number}"), value.clone())).collect()).await;
}

async fn outage(rate: u32, padding: Parameters) {
    let (mut stack, _folder) = start(&[]).await;
    let traffic = Traffic::start_padded(&stack, rate, padding);
    let around = [
        (Fault::Partial(0.3), 0.3),
        (Fault::SilentSuccess, 0.1),
        (Fault::Reset, 0.1),
        (Fault::Throttled, 0.1),
        (Fault::Latency(Duration::from_millis(300)), 0.2),
    ];
    let outage = [(Fault::BlackHole, 0.3), (Fault::ServerError, 0.4), (Fault::Partial(1.0), 0.3)];
    let edge = Duration::from_secs(long_or_short(10, 2));
    tokio::time::sleep(edge).await;
    let (anonymous, before) = usage(&mut stack);
    tokio::time::sleep(edge).await;
    let per_second = |ticks: u64, time: Duration| ticks as f64 / time.as_secs_f64();
    let healthy = per_second(usage(&mut stack).1 - before, edge);
    for (faults, time) in [
        (&around[..], edge),
        (&outage[..], Duration::from_secs(long_or_short(60, 5))),
        (&around[..], edge),
    ] {
        stack.faults.as_ref().unwrap().kinesis.set(faults);
        let before = usage(&mut stack).1;
        tokio::time::sleep(time).await;
        let (now, after) = usage(&mut stack);
        println!(
            "{:?}…: RssAnon {:+} KiB, CPU {:.1} ticks/s ({healthy:.1} without faults)",
            faults[0].0,
            now.cast_signed() - anonymous.cast_signed(),
            per_second(after - before, time),
        );
        assert!(now < anonymous + 20 * 1024, "RssAnon grew from {anonymous} to {now} KiB");
    }
    let backlog = gauge(&stack, "adtrack_journal_bytes").await;
    stack.faults.as_ref().unwrap().kinesis.set(&[]);
    let recovery = Instant::now();
    while gauge(&stack, "adtrack_journal_oldest_seconds").await > 1.0 {
        assert!(recovery.elapsed() < Duration::from_secs(60), "the journal does not drain");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let drained = recovery.elapsed().as_secs_f64();
    let sent = traffic.end().await;
    check(&stack, &sent).await;
    println!(
        "{backlog} bytes in the journal reached the stream {drained:.1} s after the end of the faults, \
         and the table after {:.1} s",
        recovery.elapsed().as_secs_f64()
    );
    stack.stop().await;
}

/// Reads a metric of the tracker without labels.
async fn gauge(stack: &Stack, name: &str) -> f64 {
    let url = format!("{}/metrics", stack.management_url());
    let metrics = reqwest::get(url).await.unwrap().text().await.unwrap();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} in {metrics}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn loses_nothing_in_dynamodb_faults() {
    let (stack, _folder) = start(&[]).await;
    let traffic = Traffic::start(&stack, 300);
    let faults = &stack.faults.as_ref().unwrap().dynamodb;
    for (fault, seconds) in [
        (Fault::ServerError, 1),
        (Fault::Throttled, 1),
        (Fault::Reset, 1),
        (Fault::SilentSuccess, long_or_short(10, 2)),
    ] {
        faults.set(&[(fault, 0.5)]);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
    faults.set(&[]);
    let sent = traffic.end().await;
    check(&stack, &sent).await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_events_and_recovers_if_kinesis_errors_fill_the_journal() {
    fill_journal(Fault::ServerError).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_events_and_recovers_if_kinesis_silence_fills_the_journal() {
    fill_journal(Fault::BlackHole).await;
}

async fn fill_journal(fault: Fault) {
    let (stack, _folder) = start(&[("JOURNAL_MAX_BYTES", "262144")]).await;
    let faults = &stack.faults.as_ref().unwrap().kinesis;
    let traffic = Traffic::start(&stack, 500);
    tokio::time::sleep(Duration::from_millis(500)).await;
    faults.set(&[(fault, 1.0)]);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |url: String| client.get(url).send().await.unwrap();
    let health = || get(format!("{}/health/check", stack.tracker_url()));
    let full_since = Instant::now();
    while traffic.count(503) < 200
        || full_since.elapsed() < Duration::from_secs(long_or_short(30, 3))
    {
        assert_eq!(health().await.status(), 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(full_since.elapsed() < Duration::from_secs(60), "never full");
    }
    let ready = get(format!("{}/health/ready", stack.management_url())).await;
    assert_eq!(ready.status(), 503);
    let reasons = ready.text().await.unwrap();
    assert!(reasons.contains("journal_nearly_full"), "{reasons}");
    // Larger than the events that are refused, so it cannot fit into space that is left.
    let large = "x".repeat(500);
    let refused = get(format!("{}/event/212313?n={large}", stack.tracker_url())).await;
    assert_eq!(
        (refused.status().as_u16(), refused.headers()["retry-after"].as_bytes()),
        (503, &b"1"[..])
    );
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "overloaded");
    faults.set(&[]);
    let accepted_before = traffic.count(200);
    let recovered_at = Instant::now();
    while traffic.count(200) < accepted_before + 10 {
        assert!(recovered_at.elapsed() < Duration::from_secs(20), "does not accept events again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!(
        "{fault:?}: accepts events again {:.2} s after Kinesis recovered",
        recovered_at.elapsed().as_secs_f64()
    );
    let statuses = traffic.statuses.lock().unwrap().clone();
    assert!(statuses.keys().all(|status| [200, 503].contains(status)), "{statuses:?}");
    let sent = traffic.end().await;
    check(&stack, &sent).await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spills_on_sigterm_in_an_outage_for_redrive_to_store() {
    let spill = tempfile::tempdir().unwrap();
    let url = format!("file://{}", spill.path().display());
    let settings = [("SPILL_URL", url.as_str()), ("SHUTDOWN_GRACE_SECONDS", "4")];
    let (mut stack, _folder) = start(&settings).await;
    let traffic = Traffic::start(&stack, 300);
    stack.faults.as_ref().unwrap().kinesis.set(&[(Fault::BlackHole, 1.0)]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let tracker = stack.tracker().unwrap();
    tracker.signal(Signal::TERM);
    let sent = traffic.end().await;
    assert!(stack.tracker().unwrap().wait().await.unwrap().success());
    assert!(sent.accepted.len() > 100, "{}", sent.accepted.len());
    let redrive = Path::new(env!("CARGO_BIN_EXE_local-stack")).with_file_name("redrive");
    for keep in [Some("--keep"), None] {
        let status = tokio::process::Command::new(&redrive)
            .args(["--spill-url", &url])
            .args(keep)
            .envs(stack.environment.iter().cloned())
            .status()
            .await
            .unwrap();
        assert!(status.success());
    }
    check(&stack, &sent).await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exits_at_once_on_second_sigterm_with_an_intact_journal() {
    let (mut stack, _folder) = start(&[]).await;
    let traffic = Traffic::start(&stack, 300);
    stack.faults.as_ref().unwrap().kinesis.set(&[(Fault::BlackHole, 1.0)]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sent = traffic.end().await;
    let tracker = stack.tracker().unwrap();
    let signalled_at = Instant::now();
    tracker.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(tracker.exit_status().is_none(), "it drains");
    tracker.signal(Signal::TERM);
    tracker.wait().await.unwrap();
    assert!(signalled_at.elapsed() < Duration::from_secs(10), "not after its grace of 25 s");
    stack.faults.as_ref().unwrap().kinesis.set(&[]);
    stack.start_tracker_again().await.unwrap();
    check(&stack, &sent).await;
    stack.stop().await;
}

/// A pipe that nobody reads: once it is full, a `write` to it blocks.
fn unread_pipe(path: &Path) -> std::fs::File {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let pipe = std::fs::File::options().read(true).write(true).open(path).unwrap();
    fcntl_setpipe_size(&pipe, 4_096).unwrap();
    pipe
}

#[tokio::test(flavor = "multi_thread")]
async fn works_as_ever_while_nobody_reads_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let _pipe = unread_pipe(&folder.path().join("logs/tracker.log"));
    let mut stack = start_in(folder.path(), &[("RUST_LOG", "debug")]).await;
    let traffic = Traffic::start(&stack, 300);

    for _ in 0..20 {
        stack.faults.as_ref().unwrap().kinesis.set(&[(Fault::ServerError, 1.0)]);
        for kind in ["normal", "pubsub"] {
            let kill = ["CLIENT", "KILL", "TYPE", kind];
            stack.redis.command::<u32>(&kill).await.unwrap();
        }
        let blip = Duration::from_millis(long_or_short(1_500, 150));
        tokio::time::sleep(blip).await;
        stack.faults.as_ref().unwrap().kinesis.set(&[]);
        tokio::time::sleep(blip).await;
    }

    assert!(gauge(&stack, "adtrack_log_lines_dropped_total").await > 0.0, "the pipe is full");
    let update = json!({"programId": "212313", "programName": "renamed", "checksum": "124",
        "customerId": 9124, "customerName": "Customer2", "valid": true});
    let record = stack.kinesis().await.put_record().stream_name(CORE_DATA_STREAM);
    let data = Blob::new(update.to_string());
    record.partition_key("212313").data(data).send().await.unwrap();
    let url = format!("{}/event/212313", stack.tracker_url());
    let give_up = Instant::now() + Duration::from_secs(30);
    loop {
        let event: Value = reqwest::get(&url).await.unwrap().json().await.unwrap();
        if event["programName"] == "renamed" {
            break;
        }
        assert!(Instant::now() < give_up, "no update is applied: {event}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let sent = traffic.end().await;
    let ready = format!("{}/health/ready", stack.management_url());
    assert_eq!(reqwest::get(ready).await.unwrap().status(), 200);

    let tracker = stack.tracker().unwrap();
    tracker.signal(Signal::TERM);
    let status = tokio::time::timeout(Duration::from_secs(28), tracker.wait()).await.unwrap();
    assert!(status.unwrap().success());
    check(&stack, &sent).await;
    stack.stop().await;
}
