//! The events' table, read as far as a load test needs it.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::DisplayErrorContext;
use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, KeysAndAttributes, WriteRequest};

use super::partitions::Entry;

/// `BatchGetItem`'s limit.
const KEYS_PER_READ: usize = 100;
/// `BatchWriteItem`'s limit.
const KEYS_PER_WRITE: usize = 25;

/// Rows that a page of a scan looks at. DynamoDB ends one at 1 MB, about as many; a stand-in that is
/// told no number reads the whole rest of the table for each page.
const ROWS_PER_PAGE: i32 = 2_000;

/// The key at which a scan goes on.
pub(super) type Position = HashMap<String, AttributeValue>;

/// The table in which events end.
#[derive(Debug, Clone)]
pub struct EventTable {
    client: Client,
    name: String,
    is_stand_in: bool,
}

impl EventTable {
    /// The table `name`.
    pub fn new(shared: &SdkConfig, name: String, is_stand_in: bool) -> Self {
        Self { client: Client::new(shared), name, is_stand_in }
    }

    /// Whether it is on this machine, so that rows may be deleted.
    pub fn is_stand_in(&self) -> bool {
        self.is_stand_in
    }

    /// A page of the run's rows: those whose user agent holds its mark. No position: from the
    /// beginning, or behind the end.
    pub(super) async fn page(
        &self,
        mark: &str,
        from: Option<Position>,
    ) -> Result<(Vec<Entry>, Option<Position>), String> {
        let page = self
            .client
            .scan()
            .table_name(&self.name)
            .limit(ROWS_PER_PAGE)
            .projection_expression("id, stored_at")
            .filter_expression("contains(user_agent, :mark)")
            .expression_attribute_values(":mark", AttributeValue::S(mark.to_owned()))
            .set_exclusive_start_key(from)
            .send()
            .await
            .map_err(|error| format!("Scan: {}", DisplayErrorContext(&error)))?;
        let rows = page.items.unwrap_or_default();
        Ok((rows.iter().filter_map(entry).collect(), page.last_evaluated_key))
    }

    /// Those of `ids` that are rows.
    pub(super) async fn present(&self, ids: &[u128]) -> Result<Vec<Entry>, String> {
        let mut found = Vec::new();
        for chunk in ids.chunks(KEYS_PER_READ) {
            let request = KeysAndAttributes::builder()
                .set_keys(Some(chunk.iter().copied().map(key).collect()))
                .projection_expression("id, stored_at")
                .build()
                .map_err(|error| error.to_string())?;
            let output = self
                .client
                .batch_get_item()
                .request_items(&self.name, request)
                .send()
                .await
                .map_err(|error| format!("BatchGetItem: {}", DisplayErrorContext(&error)))?;
            // What is left out now is asked for at the next look.
            let rows = output.responses.unwrap_or_default().into_values().flatten();
            found.extend(rows.filter_map(|row| entry(&row)));
        }
        Ok(found)
    }

    /// Deletes rows. What stays is seen, and deleted, again.
    pub(super) async fn delete(&self, rows: &[Entry]) -> Result<(), String> {
        for chunk in rows.chunks(KEYS_PER_WRITE) {
            let requests = chunk
                .iter()
                .map(|row| {
                    let delete = DeleteRequest::builder().set_key(Some(key(row.id))).build()?;
                    Ok(WriteRequest::builder().delete_request(delete).build())
                })
                .collect::<Result<Vec<_>, aws_sdk_dynamodb::error::BuildError>>()
                .map_err(|error| error.to_string())?;
            self.client
                .batch_write_item()
                .request_items(&self.name, requests)
                .send()
                .await
                .map_err(|error| format!("BatchWriteItem: {}", DisplayErrorContext(&error)))?;
        }
        Ok(())
    }
}

fn key(id: u128) -> Position {
    let text = uuid::Uuid::from_u128(id).to_string();
    HashMap::from([("id".to_owned(), AttributeValue::S(text))])
}

/// None for a row that is none of adtrack's.
fn entry(row: &HashMap<String, AttributeValue>) -> Option<Entry> {
    let id = uuid::Uuid::try_parse(row.get("id")?.as_s().ok()?).ok()?.as_u128();
    let at_ms = row.get("stored_at")?.as_n().ok()?.parse().ok()?;
    Some(Entry { id, at_ms })
}
