//! The function with a real redis-server, invoked as Lambda does it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, reason = "tests")]

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use adtrack_proto::program::Update;
use adtrack_runtime::lambda::FailureStore;
use adtrack_runtime::redis_access::RedisAccess;
use clap::Parser;
use futures::StreamExt;
use local_stack::RedisServer;
use local_stack::lambda::{Record, payload};
use local_stack::ports::Port;
use redis::AsyncCommands;
use redis_updater::config::Config;
use redis_updater::handler::{FUNCTION, Handler};
use redis_updater::store::{ProgramStore, TIMEOUTS};
use serde_json::{Value, json};
use tempfile::TempDir;

const CHANNEL: &str = "program-updates";

pub struct Function {
    handler: Handler,
    pub redis: RedisServer,
    pub folder: TempDir,
}

pub fn program_store(redis: &RedisServer) -> ProgramStore {
    let url = format!("--redis-url={}", redis.url());
    let arguments = ["redis-updater", &url, "--failed-records-url=file:///unused"];
    let config = Config::try_parse_from(arguments).unwrap();
    ProgramStore::new(RedisAccess::new(&config.redis, TIMEOUTS).unwrap())
}

impl Function {
    pub async fn start() -> Self {
        Self::start_in_epoch(0).await
    }

    pub async fn start_in_epoch(epoch: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let redis = RedisServer::start(Port::Any, &folder.path().join("redis")).await.unwrap();
        let failed = folder.path().join("failed");
        let failures =
            FailureStore::open(FUNCTION, &format!("file://{}", failed.display())).unwrap();
        let store = program_store(&redis);
        Self { handler: Handler::new(store, failures, epoch, "adtrack".to_owned()), redis, folder }
    }

    pub async fn invoke(&self, records: &[Record]) -> Vec<String> {
        let event = serde_json::from_slice(&payload("arn:stream", "shardId-000000000000", records));
        let deadline = SystemTime::now() + Duration::from_secs(20);
        let response = self.handler.handle(event.unwrap(), deadline).await;
        response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect()
    }

    pub async fn hash(&self, id: &str) -> HashMap<String, String> {
        let mut connection = self.redis.connection().await.unwrap();
        connection.hgetall(format!("program:{{{id}}}")).await.unwrap()
    }

    pub async fn name(&self, id: &str) -> String {
        self.hash(id).await.remove("programName").unwrap_or_default()
    }

    /// The mark of loaded core data.
    pub async fn mark(&self) -> Option<String> {
        self.redis.command(&["GET", "adtrack:loaded"]).await.unwrap()
    }

    /// Subscribes to the channel of updates.
    pub async fn subscribe(&self) -> redis::aio::PubSubStream {
        let client = redis::Client::open(self.redis.url()).unwrap();
        let mut subscription = client.get_async_pubsub().await.unwrap();
        subscription.subscribe(CHANNEL).await.unwrap();
        subscription.into_on_message()
    }
}

pub async fn next(messages: &mut redis::aio::PubSubStream) -> Update {
    let message = tokio::time::timeout(Duration::from_secs(5), messages.next()).await;
    Update::from_json(message.expect("a message within 5 s").unwrap().get_payload_bytes()).unwrap()
}

pub fn program(id: &str, name: &str) -> Value {
    json!({"programId": id, "programName": name, "checksum": "1", "customerId": 1,
        "customerName": "c", "valid": true})
}

pub fn record(sequence_number: &str, json: &Value) -> Record {
    Record {
        sequence_number: sequence_number.to_owned(),
        partition_key: "key".into(),
        data: json.to_string().into_bytes(),
        arrived_at: 1_767_323_046.0,
    }
}

pub const NONE: Vec<String> = Vec::new();
