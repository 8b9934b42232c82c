//! Writes rows to the DynamoDB table of events.
//!
//! A row is written when DynamoDB's response says so. A 200 that says nothing, such as an empty body from
//! something between the function and DynamoDB, leaves all rows of its call to be retried.

mod once;
mod request;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use adtrack_runtime::backoff::{Backoff, Pauses};
use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_dynamodb::types::{AttributeValue, WriteRequest};
use futures::StreamExt;

use crate::item::Row;

/// The limit of `BatchWriteItem`.
const ITEMS_PER_CALL: usize = 25;
/// Concurrent calls per invocation.
const CONCURRENT_CALLS: usize = 8;
const BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(50), ceiling: Duration::from_secs(2) };

/// The DynamoDB table of events.
#[derive(Debug, Clone)]
pub struct EventTable {
    client: Client,
    name: String,
}

/// The rows that were not written.
#[derive(Debug, Default)]
pub struct Unwritten<'a> {
    /// A retry may write these: until the deadline, the table throttled them or did not respond.
    pub retryable: Vec<&'a Row>,
    /// DynamoDB always refuses these, for the reason given.
    pub refused: Vec<(&'a Row, String)>,
    /// Rows of which the table already had a copy, with a difference in an attribute that must not change. The
    /// copy received first is kept.
    pub differing: Vec<&'a Row>,
}

impl Unwritten<'_> {
    fn merge(mut self, other: Self) -> Self {
        self.retryable.extend(other.retryable);
        self.refused.extend(other.refused);
        self.differing.extend(other.differing);
        self
    }
}

/// What became of up to 25 rows that were sent in one call.
enum Attempt<'a> {
    /// DynamoDB took all rows except these, which a retry may write.
    Taken { except: Vec<&'a Row> },
    /// DynamoDB took none: one of them is invalid, for the reason given.
    Refused { reason: String },
}

enum CallError {
    /// The call can never succeed, because one of its items is invalid.
    Refused(String),
    /// The call may succeed later: throttled, unavailable, no response, no table, no permission.
    Retryable(String),
}

impl EventTable {
    /// A client of the table `name`, configured by the AWS SDK's own chain. Makes no call to DynamoDB.
    pub async fn connect(name: String) -> Self {
        let shared = aws_config::load_defaults(BehaviorVersion::latest()).await;
        Self::new(&shared, name)
    }

    /// A client of the table `name`. The SDK's retries are off: ours keep to the invocation's deadline,
    /// and repeat only the items that DynamoDB left out.
    pub fn new(shared: &aws_config::SdkConfig, name: String) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(2))
            .operation_attempt_timeout(Duration::from_secs(5))
            .build();
        let config = aws_sdk_dynamodb::config::Builder::from(shared)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .build();
        Self { client: Client::from_conf(config), name }
    }

    /// Writes `rows`, whose ids differ, and retries until `deadline`. Replaces rows that the table has
    /// under their ids, except for ids that are written once: those are combined with what the table has.
    pub async fn write<'a>(&self, rows: &'a [Row], deadline: SystemTime) -> Unwritten<'a> {
        let (once, replacing): (Vec<&Row>, Vec<&Row>) =
            rows.iter().partition(|row| row.is_written_once());
        let (replacing, once) =
            tokio::join!(self.replace(&replacing, deadline), self.write_once(&once, deadline));
        replacing.merge(once)
    }

    /// Writes `rows`, replacing those that the table has under their ids.
    ///
    /// Tries each row once before it retries any, so that throttled rows, such as those of a hot
    /// partition of the index, do not delay others.
    async fn replace<'a>(&self, rows: &[&'a Row], deadline: SystemTime) -> Unwritten<'a> {
        let first =
            in_chunks(rows, |chunk| async move { self.write_or_isolate(&chunk, deadline).await })
                .await;
        let again = in_chunks(&first.retryable, |chunk| self.retry_until(chunk, deadline)).await;
        Unwritten { retryable: Vec::new(), ..first }.merge(again)
    }

    /// Retries up to 25 rows until all are written or the deadline is near.
    async fn retry_until<'a>(&self, rows: Vec<&'a Row>, deadline: SystemTime) -> Unwritten<'a> {
        let mut unwritten = Unwritten { retryable: rows, ..Unwritten::default() };
        let mut pauses = Pauses::new(BACKOFF, deadline);
        while !unwritten.retryable.is_empty() {
            if !pauses.wait().await {
                let (rows, failures) = (unwritten.retryable.len(), pauses.failures());
                tracing::warn!(rows, failures, "out of time; left for a retry");
                break;
            }
            let rows = std::mem::take(&mut unwritten.retryable);
            unwritten = unwritten.merge(self.write_or_isolate(&rows, deadline).await);
        }
        unwritten
    }

    /// Writes up to 25 rows in one call. A row that DynamoDB refuses fails the whole call; then each row gets
    /// a call of its own.
    async fn write_or_isolate<'a>(&self, rows: &[&'a Row], deadline: SystemTime) -> Unwritten<'a> {
        match self.call_with_deadline(rows, deadline).await {
            Attempt::Taken { except: retryable } => Unwritten { retryable, ..Unwritten::default() },
            Attempt::Refused { .. } => {
                let mut unwritten = Unwritten::default();
                for row in rows {
                    match self.call_with_deadline(&[row], deadline).await {
                        Attempt::Taken { except } => unwritten.retryable.extend(except),
                        Attempt::Refused { reason } => unwritten.refused.push((row, reason)),
                    }
                }
                unwritten
            }
        }
    }

    /// Makes one call, cut off at the deadline.
    async fn call_with_deadline<'a>(&self, rows: &[&'a Row], deadline: SystemTime) -> Attempt<'a> {
        let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
        match tokio::time::timeout(left, self.call(rows)).await {
            Ok(Ok(unprocessed)) => {
                let is_left = |row: &&Row| unprocessed.contains(row.id());
                Attempt::Taken { except: rows.iter().copied().filter(is_left).collect() }
            }
            Ok(Err(CallError::Refused(reason))) => Attempt::Refused { reason },
            Ok(Err(CallError::Retryable(error))) => {
                tracing::warn!(error, rows = rows.len(), "BatchWriteItem failed");
                Attempt::Taken { except: rows.to_vec() }
            }
            Err(_) => Attempt::Taken { except: rows.to_vec() },
        }
    }

    /// Calls `BatchWriteItem` once. Returns the ids that DynamoDB left unprocessed.
    async fn call(&self, rows: &[&Row]) -> Result<HashSet<String>, CallError> {
        let body = request::batch_write_item(&self.name, rows);
        let output = self
            .client
            .batch_write_item()
            // The SDK finds the endpoint by the table's name. It signs and sends our body in place of its own.
            .request_items(&self.name, Vec::new())
            .customize()
            .mutate_request(move |request| {
                request.headers_mut().insert("content-length", body.len().to_string());
                *request.body_mut() = body.clone().into();
            })
            .send()
            .await
            .map_err(|error| {
                let text = DisplayErrorContext(&error).to_string();
                match error.code() {
                    Some("ValidationException") => {
                        CallError::Refused(error.message().map_or(text, str::to_owned))
                    }
                    _ => CallError::Retryable(text),
                }
            })?;
        let ids = rows.iter().map(|row| row.id());
        unprocessed_ids(output.unprocessed_items, ids).map_err(CallError::Retryable)
    }
}

/// The ids of the rows that a response says are unprocessed; `sent` are those of the call. DynamoDB names
/// every unprocessed row, and sends an empty map if there are none. A response without the map, or with rows
/// that were not sent, does not say what was written.
fn unprocessed_ids<'a>(
    unprocessed: Option<HashMap<String, Vec<WriteRequest>>>,
    sent: impl Iterator<Item = &'a str>,
) -> Result<HashSet<String>, String> {
    let requests = unprocessed.ok_or("the response has no UnprocessedItems")?;
    let sent: HashSet<&str> = sent.collect();
    let id_of_sent = |request| id_of(request).filter(|id| sent.contains(id.as_str()));
    let ids: Option<_> = requests.into_values().flatten().map(id_of_sent).collect();
    ids.ok_or_else(|| "UnprocessedItems names a row that the call did not have".to_owned())
}

/// Passes `rows` to `write` in chunks, several at a time.
async fn in_chunks<'a, F: Future<Output = Unwritten<'a>>>(
    rows: &[&'a Row],
    write: impl Fn(Vec<&'a Row>) -> F,
) -> Unwritten<'a> {
    futures::stream::iter(rows.chunks(ITEMS_PER_CALL))
        .map(|chunk| write(chunk.to_vec()))
        .buffer_unordered(CONCURRENT_CALLS)
        .fold(Unwritten::default(), |sum, one| async { sum.merge(one) })
        .await
}

fn id_of(request: WriteRequest) -> Option<String> {
    match request.put_request?.item.remove("id")? {
        AttributeValue::S(id) => Some(id),
        _ => None,
    }
}
