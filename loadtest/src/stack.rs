//! A running stack as `demo` and `count` use it: the tracker's URL, the core-data stream, the table.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, Select};
use aws_sdk_kinesis::primitives::Blob;
use loadtest::aws_call::CallError;
use tokio::sync::mpsc;

/// `BatchGetItem`'s limit.
const KEYS_PER_CALL: usize = 100;
const POLL: Duration = Duration::from_millis(20);

/// Why `demo` or `count` ended without a result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StackError {
    #[error("{0} is not set: start a stack with `make run`, then `. target/local-stack.env`")]
    NotSet(&'static str),
    #[error(transparent)]
    Aws(#[from] CallError),
    #[error("the tracker does not respond: {0}")]
    Tracker(#[from] reqwest::Error),
}

/// A stack that is already running.
#[derive(Debug, Clone)]
pub(crate) struct RunningStack {
    pub(crate) tracker_url: String,
    table: String,
    core_data_stream: String,
    dynamodb: aws_sdk_dynamodb::Client,
    kinesis: aws_sdk_kinesis::Client,
}

impl RunningStack {
    /// The stack that the environment variables name.
    pub(crate) async fn from_environment() -> Result<Self, StackError> {
        let variable = |name| std::env::var(name).map_err(|_| StackError::NotSet(name));
        let shared = aws_config::load_defaults(BehaviorVersion::latest()).await;
        Ok(Self {
            tracker_url: variable("TRACKER_URL")?,
            table: variable("TABLE_NAME")?,
            core_data_stream: variable("CORE_DATA_STREAM")?,
            dynamodb: aws_sdk_dynamodb::Client::new(&shared),
            kinesis: aws_sdk_kinesis::Client::new(&shared),
        })
    }

    /// Puts a record on the core-data stream.
    pub(crate) async fn put_core_data(
        &self,
        program_id: &str,
        json: String,
    ) -> Result<(), CallError> {
        self.kinesis
            .put_record()
            .stream_name(&self.core_data_stream)
            .partition_key(program_id)
            .data(Blob::new(json))
            .send()
            .await
            .map_err(|error| CallError::new("PutRecord", error))?;
        Ok(())
    }

    /// Counts the rows whose parameter `run` has this value.
    pub(crate) async fn count_rows(&self, run: &str) -> Result<usize, CallError> {
        let mut count = 0;
        let mut start = None;
        loop {
            let page = self
                .dynamodb
                .scan()
                .table_name(&self.table)
                .select(Select::Count)
                .filter_expression("#parameters.#run = :run")
                .expression_attribute_names("#parameters", "parameters")
                .expression_attribute_names("#run", "run")
                .expression_attribute_values(":run", AttributeValue::S(run.to_owned()))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| CallError::new("Scan", error))?;
            count += usize::try_from(page.count).unwrap_or(0);
            match page.last_evaluated_key {
                Some(key) => start = Some(key),
                None => return Ok(count),
            }
        }
    }

    /// Waits for the rows of the events that arrive on `accepted`, each with the time of its response,
    /// until all are there or `patience` after the channel closed. Returns the time from response to
    /// row by message id; an event without a row is missing.
    pub(crate) async fn follow(
        &self,
        mut accepted: mpsc::UnboundedReceiver<(String, Instant)>,
        patience: Duration,
    ) -> Result<HashMap<String, Duration>, CallError> {
        let mut missing = HashMap::new();
        let mut delays = HashMap::new();
        let mut give_up = None;
        while give_up.is_none_or(|moment| Instant::now() < moment) {
            loop {
                match accepted.try_recv() {
                    Ok((id, responded_at)) => {
                        missing.insert(id, responded_at);
                    }
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => {
                        give_up = give_up.or_else(|| Some(Instant::now() + patience));
                        break;
                    }
                }
            }
            if give_up.is_some() && missing.is_empty() {
                break;
            }
            let ids: Vec<_> = missing.keys().cloned().collect();
            for chunk in ids.chunks(KEYS_PER_CALL) {
                for id in self.find_rows(chunk).await? {
                    if let Some(responded_at) = missing.remove(&id) {
                        delays.insert(id, responded_at.elapsed());
                    }
                }
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(delays)
    }

    /// The attributes of a row on one line.
    pub(crate) async fn describe_row(&self, id: &str) -> Result<String, CallError> {
        let key = AttributeValue::S(id.to_owned());
        let output = self.dynamodb.get_item().table_name(&self.table).key("id", key).send().await;
        let item = output.map_err(|error| CallError::new("GetItem", error))?.item;
        let mut attributes: Vec<_> = item
            .unwrap_or_default()
            .into_iter()
            .filter(|(name, _)| name != "id")
            .map(|(name, value)| match value {
                AttributeValue::S(text) => format!("{name}={text:?}"),
                AttributeValue::N(number) => format!("{name}={number}"),
                AttributeValue::Bool(value) => format!("{name}={value}"),
                _ => format!("{name}=…"),
            })
            .collect();
        attributes.sort_unstable();
        Ok(attributes.join(" "))
    }

    /// Those of `ids` that have a row.
    async fn find_rows(&self, ids: &[String]) -> Result<Vec<String>, CallError> {
        let keys = ids
            .iter()
            .map(|id| HashMap::from([("id".to_owned(), AttributeValue::S(id.clone()))]))
            .collect();
        let request = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .projection_expression("id")
            .build()
            .map_err(|error| CallError::new("BatchGetItem", error))?;
        let output = self
            .dynamodb
            .batch_get_item()
            .request_items(&self.table, request)
            .send()
            .await
            .map_err(|error| CallError::new("BatchGetItem", error))?;
        let rows = output.responses.unwrap_or_default().into_values().flatten();
        Ok(rows
            .filter_map(|mut row| match row.remove("id") {
                Some(AttributeValue::S(id)) => Some(id),
                _ => None,
            })
            .collect())
    }
}
