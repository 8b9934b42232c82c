//! Starts a tracker for each test: with a real server, a real Redis, an embedded Kinesis and free ports.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use adtrack_proto::aggregate;
use adtrack_proto::event::TrackingEvent;
use adtrack_proto::program::{CoreData, Update};
use adtrack_proto::store_script::Bounds;
use adtrack_proto::{ProgramId, keys, samples, store_script};
use adtrack_runtime::redis_access::RedisAccess;
use aws_sdk_kinesis::types::ShardIteratorType;
use clap::Parser;
use local_stack::RedisServer;
use local_stack::aws::{self, EmbeddedServer};
use local_stack::ports::Port;
use prost::Message;
use serde_json::{Value, json};
use tempfile::TempDir;
use tracker::app::App;
use tracker::config::Config;
use tracker::shutdown::Shutdown;

pub const STREAM: &str = "adtrack-events";

pub struct TestApp {
    pub url: String,
    pub management: String,
    pub redis: RedisServer,
    pub kinesis: EmbeddedServer,
    pub client: reqwest::Client,
    shutdown: Shutdown,
    running: tokio::task::JoinHandle<ExitCode>,
    folder: TempDir,
}

/// How a test sets up its tracker.
pub struct Setup {
    pub flags: Vec<String>,
    pub samples: bool,
    pub stream_shards: i32,
    pub kinesis: Option<EmbeddedServer>,
    /// Where the tracker finds Kinesis, if not where the tests do: a proxy.
    pub kinesis_endpoint: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            flags: Vec::new(),
            samples: true,
            stream_shards: 1,
            kinesis: None,
            kinesis_endpoint: None,
        }
    }
}

impl Setup {
    pub fn flags(flags: &[&str]) -> Self {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self { flags, ..Self::default() }
    }

    /// Starts the tracker, by default with the sample programs in Redis, and waits until it is healthy.
    pub async fn start(self) -> TestApp {
        let folder = tempfile::tempdir().unwrap();
        let redis = RedisServer::start(Port::Any, &folder.path().join("redis")).await.unwrap();
        if self.samples {
            for update in samples::updates() {
                store(&redis, &update).await;
            }
        }
        let app = self.start_on(redis, folder).await;
        until("the tracker is healthy and subscribed", async || {
            app.get_json("/health/check").await.0 == 200
                && !app.problems().await.contains(&json!("subscription_unverified"))
        })
        .await;
        app
    }

    /// Starts the tracker with `redis`, whether that runs or not. Does not wait.
    pub async fn start_on(self, redis: RedisServer, folder: TempDir) -> TestApp {
        let kinesis = match self.kinesis {
            Some(kinesis) => kinesis,
            None => aws::kinesis(Port::Any).await.unwrap(),
        };
        let shared = aws::sdk_config(&kinesis.url).await;
        let streams = aws_sdk_kinesis::Client::new(&shared);
        aws::create_stream(&streams, STREAM, self.stream_shards).await.unwrap();
        let shared = match &self.kinesis_endpoint {
            Some(endpoint) => aws::sdk_config(endpoint).await,
            None => shared,
        };
        let redis_url = redis.url();
        let names_redis = self.flags.iter().any(|flag| flag.starts_with("--redis-url="));
        let flags = [
            "tracker",
            "--listen-addr=127.0.0.1:0",
            "--management-addr=127.0.0.1:0",
            "--workers=2",
            "--linger-ms=5",
            "--shutdown-delay-seconds=0",
        ]
        .map(str::to_owned)
        .into_iter()
        .chain((!names_redis).then(|| format!("--redis-url={redis_url}")))
        .chain([
            format!("--journal-dir={}", folder.path().join("journal").display()),
            "--journal-max-bytes=8388608".to_owned(),
        ])
        .chain(self.flags);
        let config = Config::try_parse_from(flags).unwrap();
        let access = RedisAccess::new(&config.redis, tracker::programs::TIMEOUTS).unwrap();
        let app = App::build(&config, access, &shared).unwrap();
        let shutdown = Shutdown::default();
        TestApp {
            url: format!("http://{}", app.public_address),
            management: format!("http://{}", app.management_address),
            redis,
            kinesis,
            client: reqwest::Client::new(),
            running: tokio::spawn(app.run(shutdown.clone())),
            shutdown,
            folder,
        }
    }
}

/// Stores and publishes an update, and marks Redis as loaded, as redis-updater did before it counted programs.
pub async fn store(redis: &RedisServer, update: &Update) -> i64 {
    let stored = store_unmarked(redis, update, &Bounds::default()).await;
    let _: () = redis.command(&["SET", keys::LOADED, "1"]).await.unwrap();
    stored
}

/// Stores and publishes an update, as redis-updater does, in place of a version that is out of `bounds`.
pub async fn store_unmarked(redis: &RedisServer, update: &Update, bounds: &Bounds) -> i64 {
    let call = store_script::Call::new(update, keys::DEFAULT_CHANNEL).within(bounds);
    let mut connection = redis.connection().await.unwrap();
    redis::Script::new(store_script::SOURCE)
        .key(call.key)
        .key(keys::LOADED)
        .arg(call.arguments)
        .invoke_async(&mut connection)
        .await
        .unwrap()
}

/// A valid program with this name.
pub fn program(id: &str, name: &str, version: &str) -> Update {
    let json = json!({"programId": id, "programName": name, "checksum": "1", "customerId": 1,
        "customerName": "c", "valid": true, "version": version});
    Update::from_json(json.to_string().as_bytes()).unwrap()
}

pub fn deletion(id: &str, version: &str) -> Update {
    Update {
        version: version.parse().unwrap(),
        core_data: CoreData::Deleted(ProgramId::parse(id).unwrap()),
    }
}

impl TestApp {
    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    /// Returns status and body; the body is null if it is not JSON.
    pub async fn get_json(&self, path: &str) -> (u16, Value) {
        status_and_body(self.get(path).await).await
    }

    pub async fn request_management(&self, method: reqwest::Method, path: &str) -> (u16, Value) {
        let request = self.client.request(method, format!("{}{path}", self.management));
        status_and_body(request.send().await.unwrap()).await
    }

    pub async fn until_metric(&self, sample: &str, value: f64) {
        until(&format!("{sample} is {value}"), async || self.metric(sample).await == value).await;
    }

    pub async fn name_of(&self, id: &str) -> String {
        let (status, body) = self.get_json(&format!("/event/{id}")).await;
        body["programName"].as_str().map_or_else(|| status.to_string(), str::to_owned)
    }

    /// Reads the value of a metric's sample, such as `name{label="value"}`.
    pub async fn metric(&self, sample: &str) -> f64 {
        let text = self.client.get(format!("{}/metrics", self.management)).send().await.unwrap();
        let text = text.text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {sample} in {text}")).parse().unwrap()
    }

    /// The reasons that `/health/ready` names.
    pub async fn problems(&self) -> Vec<Value> {
        self.get_json("/health/ready").await.1["reasons"].as_array().cloned().unwrap_or_default()
    }

    pub async fn until_ready(&self) {
        until("the tracker is ready", async || self.get_json("/health/ready").await.0 == 200).await;
    }

    /// All events in the stream, oldest first in each shard.
    pub async fn stream_events(&self) -> Vec<TrackingEvent> {
        stream_events(&self.kinesis, STREAM).await
    }

    /// Waits until the stream has `count` events, and returns all of them.
    pub async fn wait_for_events(&self, count: usize) -> Vec<TrackingEvent> {
        until("the events are in the stream", async || self.stream_events().await.len() >= count)
            .await;
        self.stream_events().await
    }

    /// Asks the tracker to stop, as SIGTERM does.
    pub fn request_stop(&self) {
        self.shutdown.request();
    }

    /// Stops the tracker as SIGTERM does; keeps Redis and the journal's folder.
    pub async fn stop_and_keep(self) -> (ExitCode, EmbeddedServer, RedisServer, TempDir) {
        self.shutdown.request();
        (self.running.await.unwrap(), self.kinesis, self.redis, self.folder)
    }

    /// Stops the tracker as SIGTERM does.
    pub async fn stop(self) -> (ExitCode, EmbeddedServer) {
        self.shutdown.request();
        (self.running.await.unwrap(), self.kinesis)
    }
}

/// All events in the stream, oldest first in each shard.
pub async fn stream_events(kinesis: &EmbeddedServer, stream: &str) -> Vec<TrackingEvent> {
    let client = aws_sdk_kinesis::Client::new(&aws::sdk_config(&kinesis.url).await);
    let mut events = Vec::new();
    for shard in client.list_shards().stream_name(stream).send().await.unwrap().shards() {
        let mut iterator = client
            .get_shard_iterator()
            .stream_name(stream)
            .shard_id(&shard.shard_id)
            .shard_iterator_type(ShardIteratorType::TrimHorizon)
            .send()
            .await
            .unwrap()
            .shard_iterator;
        loop {
            let output = client.get_records().set_shard_iterator(iterator).send().await.unwrap();
            if output.records.is_empty() {
                break;
            }
            events.extend(output.records.iter().flat_map(|record| events_in(record.data.as_ref())));
            iterator = output.next_shard_iterator;
        }
    }
    events
}

/// The events in a Kinesis record.
pub fn events_in(data: &[u8]) -> Vec<TrackingEvent> {
    let user_records = aggregate::user_records(&data.to_vec().into()).unwrap();
    user_records.into_iter().map(|data| TrackingEvent::decode(data).unwrap()).collect()
}

async fn status_and_body(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

/// Waits until `holds` returns true, for at most 20 s.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let give_up_at = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < give_up_at, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
