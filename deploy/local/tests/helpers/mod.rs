//! Shared by the tests of core data: programs in Redis, requests, and steady traffic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, reason = "tests")]

pub mod events;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use adtrack_proto::program::Update;
use adtrack_proto::{keys, store_script};
use local_stack::{RedisServer, Stack, StackOptions};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tempfile::TempDir;

/// `long` if `ADTRACK_PROVE` is set, otherwise `short`.
pub fn long_or_short<T>(long: T, short: T) -> T {
    if std::env::var_os("ADTRACK_PROVE").is_some() { long } else { short }
}

pub fn program(number: u64, version: u64) -> Update {
    let json = json!({"programId": format!("p{number}"), "programName": format!("v{version}"),
        "checksum": "1", "customerId": 1, "customerName": "c", "valid": true,
        "version": format!("0.{version}")});
    Update::from_json(json.to_string().as_bytes()).unwrap()
}

pub async fn connection(redis: &RedisServer) -> MultiplexedConnection {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(20)));
    let client = redis::Client::open(redis.url()).unwrap();
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

/// A lock that a test holds while it runs. Several stacks at a time would starve each other on a small
/// machine, and these tests depend on time.
pub async fn run_alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ONE_AT_A_TIME.lock().await
}

/// Stores updates and publishes them, as redis-updater does.
pub async fn store(connection: &mut MultiplexedConnection, updates: &[Update]) {
    let script = redis::Script::new(store_script::SOURCE);
    for chunk in updates.chunks(500) {
        let mut pipeline = redis::pipe();
        pipeline.cmd("SCRIPT").arg("LOAD").arg(store_script::SOURCE).ignore();
        for update in chunk {
            let call = store_script::Call::new(update, keys::DEFAULT_CHANNEL);
            let hash = script.get_hash();
            pipeline.cmd("EVALSHA").arg(hash).arg(1).arg(call.key).arg(call.arguments).ignore();
        }
        pipeline.cmd("SET").arg(keys::LOADED).arg(1).ignore();
        let _: () = pipeline.query_async(connection).await.unwrap();
    }
}

/// Starts a stack with additional environment variables: `redis` for the tracker and the functions,
/// `tracker` for the tracker only.
pub async fn start_stack(redis: &[(&str, String)], tracker: &[(&str, &str)]) -> (Stack, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_local-stack")).parent().unwrap();
    let journal = ("JOURNAL_MAX_BYTES".to_owned(), "67108864".to_owned());
    let tracker = tracker.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let options = StackOptions {
        redis_environment: redis
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
        tracker_environment: Some([journal].into_iter().chain(tracker).collect()),
        ..StackOptions::new(binaries, folder.path())
    };
    (Stack::start(&options).await.unwrap(), folder)
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap()
}

/// Requests an event. Returns the status, and the program's name or an empty one.
pub async fn get_event(client: &reqwest::Client, stack_url: &str, number: u64) -> (u16, String) {
    let response = client.get(format!("{stack_url}/event/p{number}")).send().await.unwrap();
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap_or_default();
    (status, body["programName"].as_str().unwrap_or_default().to_owned())
}

pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < give_up, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads a sample of the tracker's metrics.
pub async fn metric(stack: &Stack, sample: &str) -> f64 {
    let url = format!("{}/metrics", stack.management_url());
    let metrics = client().get(url).send().await.unwrap().text().await.unwrap();
    let value = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{sample} in {metrics}")).parse().unwrap()
}

/// Anonymous memory of the tracker, in MiB; it does not include the mapped journal.
pub fn anonymous_mib(stack: &mut Stack) -> f64 {
    let id = stack.tracker().unwrap().id().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().split(' ').next().unwrap().parse::<f64>().unwrap() / 1024.0
}

pub fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap()
}

/// Requests for programs in turn at a steady rate.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    responses: Arc<Mutex<Responses>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default, Clone)]
pub struct Responses {
    pub statuses: BTreeMap<u16, u64>,
    /// From the intended time of sending to the response.
    pub times: Vec<Duration>,
    /// When the last stale response came.
    pub last_stale: Option<Instant>,
}

impl Traffic {
    pub fn start(
        url: &str,
        rate: u32,
        programs: u64,
        is_stale: impl Fn(u64, &str) -> bool + Send + Sync + 'static,
    ) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let responses = Arc::<Mutex<Responses>>::default();
        let is_stale = Arc::new(is_stale);
        let url = url.to_owned();
        let task = {
            let (stop, responses) = (Arc::clone(&stop), Arc::clone(&responses));
            tokio::spawn(async move {
                let client = client();
                let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
                let mut requests = tokio::task::JoinSet::new();
                for number in 0_u64.. {
                    let intended = tick.tick().await.into_std();
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let (client, url) = (client.clone(), url.clone());
                    let (responses, is_stale) = (Arc::clone(&responses), Arc::clone(&is_stale));
                    requests.spawn(async move {
                        let (status, name) = get_event(&client, &url, number % programs).await;
                        let mut responses = responses.lock().unwrap();
                        *responses.statuses.entry(status).or_default() += 1;
                        responses.times.push(intended.elapsed());
                        if is_stale(number % programs, &name) {
                            responses.last_stale = Some(Instant::now());
                        }
                    });
                    while requests.try_join_next().is_some() {}
                }
                requests.join_all().await;
            })
        };
        Self { stop, responses, task }
    }

    /// The responses since the last call.
    pub fn take(&self) -> Responses {
        std::mem::take(&mut *self.responses.lock().unwrap())
    }

    pub async fn end(self) -> Responses {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.responses.lock().unwrap().clone()
    }
}
