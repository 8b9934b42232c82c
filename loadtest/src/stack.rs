//! The stack under test: its endpoints, and a look into its table.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::error::DisplayErrorContext;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, Select};
use aws_sdk_kinesis::primitives::Blob;

/// `BatchGetItem`'s limit.
const KEYS_PER_CALL: usize = 100;
const POLL: Duration = Duration::from_millis(20);

/// A stack that runs somewhere.
#[derive(Debug, Clone)]
pub(crate) struct RunningStack {
    pub(crate) tracker_url: String,
    table: String,
    core_data_stream: String,
    dynamodb: aws_sdk_dynamodb::Client,
    kinesis: aws_sdk_kinesis::Client,
}

impl RunningStack {
    /// The stack that the environment names.
    pub(crate) async fn from_environment() -> Result<Self, String> {
        let variable = |name: &str| {
            std::env::var(name).map_err(|_| {
                format!("{name} is not set: start a stack with `make run`, then `. target/local-stack.env`")
            })
        };
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
    pub(crate) async fn put_core_data(&self, program_id: &str, json: String) -> Result<(), String> {
        self.kinesis
            .put_record()
            .stream_name(&self.core_data_stream)
            .partition_key(program_id)
            .data(Blob::new(json))
            .send()
            .await
            .map_err(|error| format!("PutRecord: {}", DisplayErrorContext(&error)))?;
        Ok(())
    }

    /// How many rows have the parameter `run` with this value.
    pub(crate) async fn count_rows(&self, run: &str) -> Result<usize, String> {
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
                .map_err(|error| format!("Scan: {}", DisplayErrorContext(&error)))?;
            count += usize::try_from(page.count).unwrap_or(0);
            match page.last_evaluated_key {
                Some(key) => start = Some(key),
                None => return Ok(count),
            }
        }
    }

    /// Waits up to `patience` until every id is a row. Returns when each was first seen; an id that
    /// is left out never was.
    pub(crate) async fn wait_for_rows(
        &self,
        ids: Vec<String>,
        patience: Duration,
    ) -> Result<HashMap<String, Instant>, String> {
        let give_up = Instant::now() + patience;
        let mut missing = ids;
        let mut seen = HashMap::with_capacity(missing.len());
        while !missing.is_empty() && Instant::now() < give_up {
            for chunk in missing.chunks(KEYS_PER_CALL) {
                let now_there = self.present(chunk).await?;
                seen.extend(now_there.into_iter().map(|id| (id, Instant::now())));
            }
            missing.retain(|id| !seen.contains_key(id));
            if !missing.is_empty() {
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(seen)
    }

    async fn present(&self, ids: &[String]) -> Result<Vec<String>, String> {
        let keys = ids
            .iter()
            .map(|id| HashMap::from([("id".to_owned(), AttributeValue::S(id.clone()))]))
            .collect();
        let request = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .projection_expression("id")
            .build()
            .map_err(|error| error.to_string())?;
        let output = self
            .dynamodb
            .batch_get_item()
            .request_items(&self.table, request)
            .send()
            .await
            .map_err(|error| format!("BatchGetItem: {}", DisplayErrorContext(&error)))?;
        let rows = output.responses.unwrap_or_default().into_values().flatten();
        Ok(rows
            .filter_map(|mut row| match row.remove("id") {
                Some(AttributeValue::S(id)) => Some(id),
                _ => None,
            })
            .collect())
    }
}
