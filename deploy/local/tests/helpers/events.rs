//! Events under steady traffic: what was accepted, and whether it became rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, reason = "tests")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use local_stack::stack::TABLE;
use local_stack::{Stack, StackOptions};
use serde_json::Value;
use tempfile::TempDir;

pub async fn start(tracker: &[(&str, &str)]) -> (Stack, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (start_in(folder.path(), tracker).await, folder)
}

pub async fn start_in(folder: &Path, tracker: &[(&str, &str)]) -> Stack {
    let binaries = Path::new(env!("CARGO_BIN_EXE_local-stack")).parent().unwrap();
    let settings = [("JOURNAL_MAX_BYTES", "67108864")];
    let settings = settings.iter().chain(tracker);
    let options = StackOptions {
        faults: true,
        tracker_environment: Some(
            settings.map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        ),
        ..StackOptions::new(binaries, folder)
    };
    let stack = Stack::start(&options).await.unwrap();
    stack.load_samples().await.unwrap();
    stack
}

/// Requests at a steady rate, and their responses.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    /// Message id and number of each accepted event.
    accepted: Arc<Mutex<HashMap<String, u64>>>,
    /// Number of responses by status; 0: no response.
    pub statuses: Arc<Mutex<HashMap<u16, u64>>>,
    task: tokio::task::JoinHandle<()>,
    /// Parameters of every request, in addition to its number.
    padding: Parameters,
}

pub type Parameters = Vec<(String, String)>;

/// The requests that were sent, and the events that were accepted.
pub struct Sent {
    pub requests: u64,
    pub accepted: HashMap<String, u64>,
    padding: Parameters,
}

impl Traffic {
    pub fn start(stack: &Stack, rate: u32) -> Self {
        Self::start_padded(stack, rate, Vec::new())
    }

    pub fn start_padded(stack: &Stack, rate: u32, padding: Parameters) -> Self {
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

    pub fn count(&self, status: u16) -> u64 {
        self.statuses.lock().unwrap().get(&status).copied().unwrap_or_default()
    }

    pub async fn end(self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        let accepted = std::mem::take(&mut *self.accepted.lock().unwrap());
        Sent { requests: self.sent.load(Ordering::Relaxed), accepted, padding: self.padding }
    }
}

/// Waits until every accepted event is a row, and checks that the rows are complete and no more than the
/// requests.
pub async fn check(stack: &Stack, sent: &Sent) {
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

/// Reads a metric of the tracker without labels.
pub async fn gauge(stack: &Stack, name: &str) -> f64 {
    let url = format!("{}/metrics", stack.management_url());
    let metrics = reqwest::get(url).await.unwrap().text().await.unwrap();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} in {metrics}")).parse().unwrap()
}
