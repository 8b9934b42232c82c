//! An event-source mapping: reads every shard of a stream in order and feeds a function, as AWS
//! does (<https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-create.html>).
//!
//! # Per shard
//!
//! ```text
//! GetRecords → batch (full, or window over; at most 6 MB) → invoke ─┬→ success: checkpoint
//!                 ▲                                                  ├→ partly: checkpoint before the
//!                 │                                                  │  lowest number reported
//!                 └──────────────── retry the rest ──────────────────┴→ error: bisect, then retry
//! ```
//!
//! - One poller per shard, one invocation per shard at a time: the function gets a shard's records in order.
//! - `ReportBatchItemFailures`: the function reports sequence numbers. Every record from the lowest of them
//!   on is retried, even those that succeeded. If a response cannot be parsed, or names a record that is not
//!   in the batch, the whole batch is retried.
//! - An error of the function (crash, timeout, reported error) halves the batch, so that one bad record
//!   ends up alone.
//! - A batch that has been retried more often, or is older, than the settings allow goes to the on-failure
//!   folder as a whole, and the checkpoint moves past it.
//!
//! # A stream that is deleted
//!
//! A mapping ends with its stream, even if another stream is created under the same name: shards and sequence
//! numbers of the old one mean nothing in the new one. AWS keeps such a mapping, and does not promise that it
//! ever reads the new stream. Here, it never does; a new mapping has to be started.
//!
//! The checkpoint is in memory. After a restart, the mapping reads from the oldest record again, which makes
//! the stand-in harsher than AWS. Functions have to cope with it, since delivery is at least once.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use adtrack_runtime::backoff::Backoff;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::ShardIteratorType;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::batch::{self, BatchOutcome, Record};
use super::function::Invoke;

/// AWS's limit for the payload of a synchronous invocation.
const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;
/// The code of the error for a stream that does not exist.
const NO_STREAM: &str = "ResourceNotFoundException";
/// How often to look for new shards.
const SHARD_POLL: Duration = Duration::from_secs(5);
/// How often to read an idle shard. AWS does it once per second; here a person is waiting.
const RECORD_POLL: Duration = Duration::from_millis(100);
const BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(100), ceiling: Duration::from_secs(2) };

/// Settings of a mapping. `ReportBatchItemFailures` is always on.
#[derive(Debug, Clone)]
pub struct MappingSettings {
    /// Name of the stream.
    pub stream: String,
    /// Maximum number of records in an invocation.
    pub batch_size: usize,
    /// How long to wait for a batch to fill after its first record.
    pub batching_window: Duration,
    /// Retries of a batch before the mapping gives up on it; `None`: until its records are too old.
    pub maximum_retry_attempts: Option<u32>,
    /// The mapping gives up on records older than this.
    pub maximum_record_age: Duration,
    /// Whether a batch is halved if the function fails on it.
    pub bisect_on_error: bool,
    /// Folder for the batches that the mapping gave up on, as AWS writes them to S3.
    pub on_failure_folder: PathBuf,
}

/// A running mapping, stopped on drop. A new one starts from the oldest record again.
#[derive(Debug)]
pub struct EventSourceMapping {
    task: JoinHandle<()>,
}

impl EventSourceMapping {
    /// Starts to feed `function`, from the stream's oldest record on (`TRIM_HORIZON`).
    pub fn start<F: Invoke>(client: Client, function: Arc<F>, settings: MappingSettings) -> Self {
        let mapping = Arc::new(Mapping {
            client,
            function,
            settings,
            is_stream_gone: AtomicBool::new(false),
        });
        Self { task: tokio::spawn(mapping.run()) }
    }

    /// Whether it has ended, because its stream was deleted.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for EventSourceMapping {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Mapping<F> {
    client: Client,
    function: Arc<F>,
    settings: MappingSettings,
    is_stream_gone: AtomicBool,
}

/// A batch to invoke the function with. Bisection turns one into two.
struct Attempt {
    records: Vec<Record>,
    failures: u32,
}

impl<F: Invoke> Mapping<F> {
    /// Looks for shards and polls each in a task of its own. All tasks end with this one. Returns after the
    /// stream was deleted, and what was read of it is processed.
    async fn run(self: Arc<Self>) {
        let mut pollers = JoinSet::new();
        let mut known = HashSet::new();
        let mut created_at = None;
        while !self.is_gone(&mut created_at).await {
            match self.client.list_shards().stream_name(&self.settings.stream).send().await {
                Ok(output) => {
                    for shard in output.shards.unwrap_or_default() {
                        if known.insert(shard.shard_id.clone()) {
                            let mapping = Arc::clone(&self);
                            pollers.spawn(async move { mapping.poll(&shard.shard_id).await });
                        }
                    }
                }
                Err(error) => self.warn("ListShards", &DisplayErrorContext(&error)),
            }
            tokio::time::sleep(SHARD_POLL).await;
        }
        self.is_stream_gone.store(true, Ordering::Relaxed);
        tracing::error!(
            stream = self.settings.stream,
            "the stream was deleted; as on AWS, a new stream of its name is not read until the event-source \
             mapping is recreated: restart the local stack"
        );
        while pollers.join_next().await.is_some() {}
    }

    /// Whether the stream that was there at first is deleted. `created_at` is its time of creation, none as
    /// long as it was never there.
    async fn is_gone(&self, created_at: &mut Option<DateTime>) -> bool {
        let name = &self.settings.stream;
        match self.client.describe_stream_summary().stream_name(name).send().await {
            Ok(output) => {
                let now = output.stream_description_summary.map(|it| it.stream_creation_timestamp);
                let is_another = created_at.is_some() && now != *created_at;
                *created_at = now;
                is_another
            }
            Err(error) if error.code() == Some(NO_STREAM) => created_at.is_some(),
            Err(error) => {
                self.warn("DescribeStreamSummary", &DisplayErrorContext(&error));
                false
            }
        }
    }

    async fn poll(&self, shard_id: &str) {
        let mut checkpoint = None;
        let mut iterator = None;
        let mut read = VecDeque::new();
        let mut first_read_at = Instant::now();
        while !self.is_stream_gone.load(Ordering::Relaxed) {
            let Some(current) = iterator.take() else {
                iterator = self.iterator(shard_id, checkpoint.clone()).await;
                continue;
            };
            let output = self.client.get_records().shard_iterator(current).send().await;
            let (records, next) = match output {
                Ok(output) => (output.records, output.next_shard_iterator),
                // Its stream is deleted, as the mapping notices soon.
                Err(error) if error.code() == Some(NO_STREAM) => break,
                Err(error) => {
                    self.warn("GetRecords", &DisplayErrorContext(&error));
                    tokio::time::sleep(RECORD_POLL).await;
                    continue;
                }
            };
            if read.is_empty() {
                first_read_at = Instant::now();
            }
            let idle = records.is_empty();
            if let Some(last) = records.last() {
                checkpoint = Some(last.sequence_number.clone());
            }
            read.extend(records.into_iter().map(record));
            let due = first_read_at.elapsed() >= self.settings.batching_window;
            while read.len() >= self.settings.batch_size || (due && !read.is_empty()) {
                let all = read.make_contiguous();
                let count = batch::count_fitting(all, self.settings.batch_size, MAX_PAYLOAD_BYTES);
                self.process(shard_id, read.drain(..count).collect()).await;
            }
            if next.is_none() && read.is_empty() {
                return; // The shard is closed and read to its end.
            }
            iterator = next;
            if idle {
                tokio::time::sleep(RECORD_POLL).await;
            }
        }
        if !read.is_empty() {
            self.process(shard_id, read.into()).await;
        }
    }

    async fn iterator(&self, shard_id: &str, checkpoint: Option<String>) -> Option<String> {
        let kind = match checkpoint {
            Some(_) => ShardIteratorType::AfterSequenceNumber,
            None => ShardIteratorType::TrimHorizon,
        };
        let output = self
            .client
            .get_shard_iterator()
            .stream_name(&self.settings.stream)
            .shard_id(shard_id)
            .shard_iterator_type(kind)
            .set_starting_sequence_number(checkpoint)
            .send()
            .await;
        match output {
            Ok(output) => output.shard_iterator,
            Err(error) => {
                self.warn("GetShardIterator", &DisplayErrorContext(&error));
                tokio::time::sleep(RECORD_POLL).await;
                None
            }
        }
    }

    /// Processes a batch until it is done or given up on.
    async fn process(&self, shard_id: &str, records: Vec<Record>) {
        let mut attempts = vec![Attempt { records, failures: 0 }];
        while let Some(Attempt { records, failures }) = attempts.pop() {
            let (old, mut records): (Vec<_>, Vec<_>) =
                records.into_iter().partition(|record| self.is_too_old(record));
            if !old.is_empty() {
                self.give_up(shard_id, &old, "RecordAgeExceeded", failures).await;
            }
            if records.is_empty() {
                continue;
            }
            let arn = format!(
                "arn:aws:kinesis:{}:000000000000:stream/{}",
                crate::aws::REGION,
                self.settings.stream
            );
            let payload = batch::payload(&arn, shard_id, &records);
            match self.function.invoke(payload.into()).await {
                Ok(response) => match batch::batch_outcome(&response, &records) {
                    BatchOutcome::Done => {}
                    BatchOutcome::RetryFrom(first) => {
                        let rest = records.split_off(first);
                        // Progress resets the count: the rest is another batch.
                        let failures = if first == 0 { failures + 1 } else { 1 };
                        self.retry(shard_id, rest, failures, &mut attempts).await;
                    }
                    BatchOutcome::RetryAll => {
                        self.retry(shard_id, records, failures + 1, &mut attempts).await;
                    }
                },
                Err(error) => {
                    self.warn("an invocation failed", &error);
                    if self.settings.bisect_on_error && records.len() > 1 {
                        let second = records.split_off(records.len() / 2);
                        attempts.push(Attempt { records: second, failures });
                        attempts.push(Attempt { records, failures });
                    } else {
                        self.retry(shard_id, records, failures + 1, &mut attempts).await;
                    }
                }
            }
        }
    }

    async fn retry(
        &self,
        shard_id: &str,
        records: Vec<Record>,
        failures: u32,
        attempts: &mut Vec<Attempt>,
    ) {
        if self.settings.maximum_retry_attempts.is_some_and(|most| failures > most) {
            self.give_up(shard_id, &records, "RetryAttemptsExhausted", failures).await;
        } else {
            tokio::time::sleep(BACKOFF.delay(failures)).await;
            attempts.push(Attempt { records, failures });
        }
    }

    fn is_too_old(&self, record: &Record) -> bool {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0.0, |since_epoch| since_epoch.as_secs_f64());
        now - record.arrived_at > self.settings.maximum_record_age.as_secs_f64()
    }

    /// Writes a batch, which is not empty, to the on-failure folder.
    async fn give_up(&self, shard_id: &str, records: &[Record], condition: &str, invocations: u32) {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return };
        let payload = batch::payload("", shard_id, records);
        let entry = json!({
            "requestContext": {"condition": condition, "approximateInvokeCount": invocations},
            "KinesisBatchInfo": {
                "shardId": shard_id,
                "startSequenceNumber": first.sequence_number,
                "endSequenceNumber": last.sequence_number,
                "batchSize": records.len(),
            },
            "payload": String::from_utf8_lossy(&payload),
        });
        let name = format!("{}-{shard_id}-{}.json", self.settings.stream, first.sequence_number);
        let path = self.settings.on_failure_folder.join(name);
        tracing::warn!(condition, records = records.len(), path = %path.display(), "gave up on a batch");
        let written = match tokio::fs::create_dir_all(&self.settings.on_failure_folder).await {
            Ok(()) => tokio::fs::write(&path, entry.to_string()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            self.warn("the on-failure folder cannot be written", &error);
        }
    }

    fn warn(&self, what: &str, error: &dyn std::fmt::Display) {
        tracing::warn!(stream = self.settings.stream, %error, "{what}");
    }
}

fn record(record: aws_sdk_kinesis::types::Record) -> Record {
    Record {
        sequence_number: record.sequence_number,
        partition_key: record.partition_key.unwrap_or_default(),
        data: record.data.into_inner(),
        arrived_at: record
            .approximate_arrival_timestamp
            .map_or(0.0, |timestamp| timestamp.as_secs_f64()),
    }
}
