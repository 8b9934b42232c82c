//! The DynamoDB table of events.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use adtrack_runtime::backoff::Backoff;
use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use futures::StreamExt;

use crate::item::Item;

/// `BatchWriteItem`'s limit.
const ITEMS_PER_CALL: usize = 25;
/// Calls under way at once, per invocation.
const CONCURRENT_CALLS: usize = 8;
const BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(50), ceiling: Duration::from_secs(2) };

/// The table.
#[derive(Debug, Clone)]
pub struct EventTable {
    client: Client,
    name: String,
}

/// What became of rows that were not written, by id.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unwritten {
    /// A retry may mend these: the table throttled, or did not answer, until the deadline.
    pub retryable: BTreeSet<String>,
    /// DynamoDB refuses these whenever they come, with its reason.
    pub refused: BTreeMap<String, String>,
}

impl Unwritten {
    fn merge(mut self, other: Self) -> Self {
        self.retryable.extend(other.retryable);
        self.refused.extend(other.refused);
        self
    }
}

enum CallError {
    /// The request as a whole can never succeed: one item of it is at fault.
    Refused(String),
    /// Throttled, unavailable, no answer, no table, no permission: later it may.
    Retryable(String),
}

impl EventTable {
    /// The table `name`, by the AWS SDK's own configuration chain.
    pub async fn connect(name: String) -> Self {
        let shared = aws_config::load_defaults(BehaviorVersion::latest()).await;
        Self::new(&shared, name)
    }

    /// The table `name`. Retries are ours, so that each stays within the invocation's deadline and
    /// repeats only the items that DynamoDB left out.
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

    /// Writes `items` (by id), over what the table holds for their ids. Tries until `deadline`.
    pub async fn write(&self, items: HashMap<String, Item>, deadline: SystemTime) -> Unwritten {
        let mut items = items.into_iter();
        let chunks = std::iter::from_fn(|| {
            let chunk: HashMap<_, _> = items.by_ref().take(ITEMS_PER_CALL).collect();
            (!chunk.is_empty()).then_some(chunk)
        });
        futures::stream::iter(chunks)
            .map(|chunk| self.write_chunk(chunk, deadline))
            .buffer_unordered(CONCURRENT_CALLS)
            .fold(Unwritten::default(), |sum, one| async { sum.merge(one) })
            .await
    }

    /// Writes up to 25 items. One that DynamoDB refuses fails the call for its neighbours, so they
    /// are then written one by one.
    async fn write_chunk(&self, chunk: HashMap<String, Item>, deadline: SystemTime) -> Unwritten {
        match self.write_until(chunk.clone(), deadline).await {
            Ok(retryable) => Unwritten { retryable, ..Unwritten::default() },
            Err(reason) if chunk.len() == 1 => Unwritten {
                refused: chunk.into_keys().map(|id| (id, reason.clone())).collect(),
                ..Unwritten::default()
            },
            Err(_) => {
                let mut unwritten = Unwritten::default();
                for (id, item) in chunk {
                    let single = HashMap::from([(id.clone(), item)]);
                    match self.write_until(single, deadline).await {
                        Ok(retryable) => unwritten.retryable.extend(retryable),
                        Err(reason) => {
                            unwritten.refused.insert(id, reason);
                        }
                    }
                }
                unwritten
            }
        }
    }

    /// Writes the items, and again those that DynamoDB leaves out, until all are written or the
    /// deadline is near. Returns the ids that are not written.
    async fn write_until(
        &self,
        mut items: HashMap<String, Item>,
        deadline: SystemTime,
    ) -> Result<BTreeSet<String>, String> {
        let mut failures = 0;
        loop {
            let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
            match tokio::time::timeout(left, self.call(&items)).await {
                Ok(Ok(unprocessed)) => items.retain(|id, _| unprocessed.contains(id)),
                Ok(Err(CallError::Refused(reason))) => return Err(reason),
                Ok(Err(CallError::Retryable(error))) => {
                    tracing::warn!(error, items = items.len(), "BatchWriteItem failed");
                }
                Err(_) => return Ok(items.into_keys().collect()),
            }
            if items.is_empty() {
                return Ok(BTreeSet::new());
            }
            failures += 1;
            let delay = BACKOFF.delay(failures);
            if SystemTime::now() + delay >= deadline {
                tracing::warn!(items = items.len(), failures, "out of time; left for a retry");
                return Ok(items.into_keys().collect());
            }
            tokio::time::sleep(delay).await;
        }
    }

    /// One `BatchWriteItem`. Returns the ids that DynamoDB left unprocessed.
    async fn call(&self, items: &HashMap<String, Item>) -> Result<BTreeSet<String>, CallError> {
        let mut requests = Vec::with_capacity(items.len());
        for item in items.values() {
            let put = PutRequest::builder()
                .set_item(Some(item.clone()))
                .build()
                .map_err(|error| CallError::Refused(error.to_string()))?;
            requests.push(WriteRequest::builder().put_request(put).build());
        }
        let output = self
            .client
            .batch_write_item()
            .request_items(&self.name, requests)
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
        let unprocessed = output.unprocessed_items.unwrap_or_default();
        Ok(unprocessed.into_values().flatten().filter_map(id_of).collect())
    }
}

fn id_of(request: WriteRequest) -> Option<String> {
    match request.put_request?.item.remove("id")? {
        AttributeValue::S(id) => Some(id),
        _ => None,
    }
}
