//! A tracker that runs as a process of its own, for tests of its journal's files and of signals.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use adtrack_proto::samples;
use local_stack::RedisServer;
use local_stack::aws::{self, EmbeddedServer};
use local_stack::ports::Port;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::helpers::{store, stream_events, until};

pub const STREAM: &str = "later";

/// What a tracker needs, and the folder of its journal.
pub struct Surroundings {
    pub redis: RedisServer,
    pub kinesis: EmbeddedServer,
    pub folder: TempDir,
}

impl Surroundings {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let redis = RedisServer::start(Port::Any, &folder.path().join("redis")).await.unwrap();
        for update in samples::updates() {
            store(&redis, &update).await;
        }
        Self { redis, kinesis: aws::kinesis(Port::Any).await.unwrap(), folder }
    }

    pub fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    pub fn rings(&self) -> Vec<PathBuf> {
        ["0000.ring", "0001.ring"].map(|name| self.journal().join(name)).into()
    }

    pub fn damaged(&self) -> impl Iterator<Item = PathBuf> {
        let files = std::fs::read_dir(self.journal()).unwrap().map(|file| file.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|extension| extension == "damaged"))
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs([
            ("AWS_ENDPOINT_URL_KINESIS", self.kinesis.url.as_str()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("EVENT_STREAM", STREAM),
        ]);
        command
    }

    pub fn tracker_command(&self) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_tracker"));
        command
            .args(["--listen-addr=127.0.0.1:0", "--management-addr=127.0.0.1:0", "--workers=2"])
            .args(["--linger-ms=5", "--journal-max-bytes=8388608"])
            .args(["--shutdown-grace-seconds=2", "--shutdown-delay-seconds=0"])
            .arg(format!("--redis-url={}", self.redis.url()))
            .arg(format!("--journal-dir={}", self.journal().display()));
        command
    }

    pub fn tracker_command_with_open_files(&self, limit: u32) -> Command {
        let tracker = self.tracker_command();
        let mut command = self.command("sh");
        command.arg("-c").arg(format!("ulimit -n {limit}; exec \"$@\"")).arg("sh");
        command.arg(tracker.get_program()).args(tracker.get_args());
        command
    }

    pub fn redrive(&self) -> Output {
        let mut command = self.command(env!("CARGO_BIN_EXE_redrive"));
        command.arg("journal").arg(self.journal()).output().unwrap()
    }

    pub async fn create_stream(&self) {
        let client = aws_sdk_kinesis::Client::new(&aws::sdk_config(&self.kinesis.url).await);
        aws::create_stream(&client, STREAM, 1).await.unwrap();
    }

    pub async fn delivered(&self) -> HashSet<String> {
        let events = stream_events(&self.kinesis, STREAM).await;
        events.into_iter().map(|event| event.message_id).collect()
    }

    pub async fn until_delivered(&self, accepted: &HashSet<String>) {
        until("all accepted events are on the stream", async || {
            self.delivered().await.is_superset(accepted)
        })
        .await;
    }
}

/// A tracker that runs as a process of its own.
pub struct Process {
    pub child: Child,
    pub public: String,
    pub management: String,
    pub log: Arc<Mutex<Vec<String>>>,
    pub client: reqwest::Client,
}

impl Process {
    pub async fn start(surroundings: &Surroundings) -> Self {
        let mut child = surroundings.tracker_command().stdout(Stdio::piped()).spawn().unwrap();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let sink = Arc::clone(&log);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| sink.lock().unwrap().push(line));
        });
        let mut serves = Value::Null;
        until("it serves", async || {
            let log = log.lock().unwrap();
            let line = log.iter().find(|line| line.contains("the tracker serves"));
            serves = line.map_or(Value::Null, |line| serde_json::from_str(line).unwrap());
            !serves.is_null()
        })
        .await;
        let url = |name: &str| format!("http://{}", serves[name].as_str().unwrap());
        let (public, management) = (url("public"), url("management"));
        let process = Self { child, public, management, log, client: reqwest::Client::new() };
        until("it is healthy", async || {
            let url = format!("{}/health/check", process.public);
            process.client.get(url).send().await.is_ok_and(|response| response.status() == 200)
        })
        .await;
        process
    }

    /// The id of an event that was accepted.
    pub async fn send(&self) -> Option<String> {
        let url = format!("{}/event/212313", self.public);
        let response = self.client.get(url).send().await.unwrap();
        let body: Value = response.json().await.unwrap();
        Some(body["messageId"].as_str()?.to_owned())
    }

    pub async fn send_many(&self, count: usize) -> HashSet<String> {
        let mut accepted = HashSet::new();
        for _ in 0..count {
            accepted.extend(self.send().await);
        }
        accepted
    }

    pub async fn metric(&self, name: &str) -> f64 {
        let url = format!("{}/metrics", self.management);
        let text = self.client.get(url).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    pub async fn problems(&self) -> Vec<Value> {
        let url = format!("{}/health/ready", self.management);
        let body: Value = self.client.get(url).send().await.unwrap().json().await.unwrap();
        body["reasons"].as_array().cloned().unwrap_or_default()
    }

    pub async fn until_lost_files(&self, count: f64) {
        until("it has noticed", async || self.metric("adtrack_journal_lost_files").await >= count)
            .await;
    }

    pub fn logs(&self, text: &str) -> bool {
        self.log.lock().unwrap().iter().any(|line| line.contains(text))
    }

    pub fn log_line(&self, text: &str) -> Option<String> {
        self.log.lock().unwrap().iter().find(|line| line.contains(text)).cloned()
    }

    pub fn log_lines(&self, text: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }

    pub fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(process, signal).unwrap();
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
