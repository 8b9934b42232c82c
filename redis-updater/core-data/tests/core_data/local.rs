//! The servers that the tests run against, and how they run the command.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use adtrack_proto::Version;
use aws_sdk_kinesis::types::ShardIteratorType;
use local_stack::RedisServer;
use local_stack::aws::{self, EmbeddedServer};
use local_stack::faults::FaultProxy;
use local_stack::lambda::{EventSourceMapping, Function, FunctionSettings, MappingSettings};
use local_stack::ports::Port;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

const STREAM: &str = "adtrack-core-data";

pub struct Local {
    pub redis: RedisServer,
    pub kinesis: EmbeddedServer,
    pub faults: FaultProxy,
    function: Arc<Function>,
    _mapping: EventSourceMapping,
    pub folder: TempDir,
}

impl Local {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let redis = RedisServer::start(Port::Any, &folder.path().join("redis")).await.unwrap();
        let kinesis = aws::kinesis(Port::Any).await.unwrap();
        let faults = FaultProxy::start(&kinesis.url).await.unwrap();
        let client = aws_sdk_kinesis::Client::new(&aws::sdk_config(&kinesis.url).await);
        aws::create_stream(&client, STREAM, 2).await.unwrap();
        let failed = format!("file://{}", folder.path().join("failed").display());
        let function = Function::new(FunctionSettings {
            name: "redis-updater".into(),
            binary: Path::new(env!("CARGO_BIN_EXE_core-data")).with_file_name("redis-updater"),
            environment: vec![
                ("REDIS_URL".into(), redis.url()),
                ("FAILED_RECORDS_URL".into(), failed),
            ],
            timeout: Duration::from_secs(30),
            concurrency: 2,
            log_folder: folder.path().join("logs"),
        });
        let settings = MappingSettings {
            stream: STREAM.into(),
            batch_size: 1_000,
            batching_window: Duration::ZERO,
            maximum_retry_attempts: None,
            maximum_record_age: Duration::from_secs(3_600),
            bisect_on_error: true,
            on_failure_folder: folder.path().join("on-failure"),
        };
        let mapping = EventSourceMapping::start(client, Arc::clone(&function), settings);
        Self { redis, kinesis, faults, function, _mapping: mapping, folder }
    }

    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_core-data"));
        command
            .args(arguments)
            .env_clear()
            .env("AWS_REGION", aws::REGION)
            .env("AWS_ACCESS_KEY_ID", aws::DUMMY_CREDENTIAL)
            .env("AWS_SECRET_ACCESS_KEY", aws::DUMMY_CREDENTIAL)
            .env("AWS_ENDPOINT_URL_KINESIS", &self.faults.url)
            .env("REDIS_URL", self.redis.url())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> RunOutput {
        RunOutput::from(self.command(arguments).output().await.unwrap())
    }

    /// Runs the command with its standard output at `stdout`.
    pub async fn run_into(&self, arguments: &[&str], stdout: Stdio) -> RunOutput {
        let child = self.command(arguments).stdout(stdout).stderr(Stdio::piped()).spawn();
        RunOutput::from(child.unwrap().wait_with_output().await.unwrap())
    }

    pub async fn publish(&self, path: &Path) -> RunOutput {
        self.run(&["publish", path.to_str().unwrap()]).await
    }

    /// Everything on the stream, shard by shard: sequence number and record.
    pub async fn records_on_stream(&self) -> Vec<(String, Value)> {
        let client = aws_sdk_kinesis::Client::new(&aws::sdk_config(&self.kinesis.url).await);
        let shards = client.list_shards().stream_name(STREAM).send().await.unwrap();
        let mut all = Vec::new();
        for shard in shards.shards.unwrap() {
            let start = client.get_shard_iterator().stream_name(STREAM).shard_id(shard.shard_id);
            let start = start.shard_iterator_type(ShardIteratorType::TrimHorizon);
            let mut iterator = start.send().await.unwrap().shard_iterator;
            while let Some(current) = iterator {
                let read = client.get_records().shard_iterator(current).send().await.unwrap();
                iterator = read.next_shard_iterator.filter(|_| !read.records.is_empty());
                for record in read.records {
                    let json: Value = serde_json::from_slice(record.data.as_ref()).unwrap();
                    assert_eq!(record.partition_key.as_deref(), json["programId"].as_str());
                    all.push((record.sequence_number, json));
                }
            }
        }
        all
    }

    /// Each program's names on the stream, in order. `-` is a deletion.
    pub async fn names_on_stream(&self) -> BTreeMap<String, Vec<String>> {
        let mut names = BTreeMap::<String, Vec<String>>::new();
        for (_, json) in self.records_on_stream().await {
            let id = json["programId"].as_str().unwrap().to_owned();
            let name = json["programName"].as_str().unwrap_or("-").to_owned();
            names.entry(id).or_default().push(name);
        }
        names
    }

    /// How many programs Redis holds with the version of their last record on the stream, and how many
    /// programs the stream has.
    pub async fn count_programs_with_last_version(&self) -> (usize, usize) {
        let mut last = HashMap::<String, Version>::new();
        for (sequence_number, json) in self.records_on_stream().await {
            let id = json["programId"].as_str().unwrap().to_owned();
            let version = Version::new(0, &sequence_number).unwrap();
            let newest = last.entry(id).or_insert_with(|| version.clone());
            if version > *newest {
                *newest = version;
            }
        }
        let mut connection = self.redis.connection().await.unwrap();
        let mut current = 0;
        let all: Vec<_> = last.iter().collect();
        for chunk in all.chunks(500) {
            let mut pipeline = redis::pipe();
            for (id, _) in chunk {
                pipeline.cmd("HGET").arg(format!("program:{{{id}}}")).arg("version");
            }
            let stored: Vec<Option<String>> = pipeline.query_async(&mut connection).await.unwrap();
            let expected = chunk.iter().map(|(_, version)| Some(version.to_string()));
            current += expected.zip(stored).filter(|(expected, stored)| expected == stored).count();
        }
        (current, last.len())
    }

    pub async fn stop(self) {
        self.function.stop().await;
        self.redis.stop().await;
    }
}

#[derive(Debug)]
pub struct RunOutput {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for RunOutput {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub fn program(id: &str, name: &str) -> String {
    json!({"programId": id, "programName": name, "checksum": "1", "customerId": "1",
        "customerName": "c", "valid": true})
    .to_string()
}

pub fn deleted(id: &str) -> String {
    json!({"programId": id, "deleted": true}).to_string()
}

pub fn interrupt(child: &Child) {
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
}
