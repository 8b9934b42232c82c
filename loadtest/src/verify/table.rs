//! The events' table, read as far as a load test needs it.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::DisplayErrorContext;
use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, KeysAndAttributes, WriteRequest};
use futures::{StreamExt, TryStreamExt, stream};

use super::partitions::Entry;

/// `BatchGetItem`'s limit.
const KEYS_PER_READ: usize = 100;
/// `BatchWriteItem`'s limit.
const KEYS_PER_WRITE: usize = 25;

/// Deletions under way at a time. One by one they would wait, each in its turn, behind all the writes
/// that the functions have under way, and rows would come faster than they go.
const DELETIONS_AT_ONCE: usize = 16;
/// Rows that a page of a scan looks at. DynamoDB ends one at 1 MB, about as many; a stand-in that is
/// told no number reads the whole rest of the table for each page.
const ROWS_PER_PAGE: i32 = 2_000;

type Item = HashMap<String, AttributeValue>;
/// The key at which a scan goes on.
pub(super) type Position = Item;

/// Some of the run's rows.
#[derive(Debug)]
pub(super) struct Page {
    /// Those of requests that are measured: their user agent ends in the run's mark.
    pub(super) counted: Vec<Entry>,
    /// Those of looks at programs that were changed: something follows the mark.
    pub(super) looks: Vec<Entry>,
    /// Where the next page begins; none behind the last.
    pub(super) next: Option<Position>,
}

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

    /// A page of the run's rows: those whose user agent holds its mark. No position: the first.
    pub(super) async fn page(&self, mark: &str, from: Option<Position>) -> Result<Page, String> {
        let page = self
            .client
            .scan()
            .table_name(&self.name)
            .limit(ROWS_PER_PAGE)
            .projection_expression("id, stored_at, user_agent")
            .filter_expression("contains(user_agent, :mark)")
            .expression_attribute_values(":mark", AttributeValue::S(mark.to_owned()))
            .set_exclusive_start_key(from)
            .send()
            .await
            .map_err(|error| format!("Scan: {}", DisplayErrorContext(&error)))?;
        let (counted, looks): (Vec<Item>, Vec<Item>) =
            page.items.unwrap_or_default().into_iter().partition(|row| ends_in(row, mark));
        let entries = |rows: &[Item]| rows.iter().filter_map(entry).collect();
        let next = page.last_evaluated_key;
        Ok(Page { counted: entries(&counted), looks: entries(&looks), next })
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
        let calls: Vec<_> =
            rows.chunks(KEYS_PER_WRITE).map(|chunk| self.delete_chunk(chunk)).collect();
        stream::iter(calls).buffer_unordered(DELETIONS_AT_ONCE).try_collect().await
    }

    async fn delete_chunk(&self, rows: &[Entry]) -> Result<(), String> {
        let requests = rows
            .iter()
            .map(|row| {
                let delete = DeleteRequest::builder().set_key(Some(key(row.id))).build()?;
                Ok(WriteRequest::builder().delete_request(delete).build())
            })
            .collect::<Result<Vec<_>, aws_sdk_dynamodb::error::BuildError>>()
            .map_err(|error| error.to_string())?;
        let call = self.client.batch_write_item().request_items(&self.name, requests);
        call.send()
            .await
            .map_err(|error| format!("BatchWriteItem: {}", DisplayErrorContext(&error)))?;
        Ok(())
    }
}

fn key(id: u128) -> Position {
    let text = uuid::Uuid::from_u128(id).to_string();
    HashMap::from([("id".to_owned(), AttributeValue::S(text))])
}

fn ends_in(row: &Item, mark: &str) -> bool {
    let user_agent = row.get("user_agent").and_then(|agent| agent.as_s().ok());
    user_agent.is_some_and(|agent| agent.ends_with(mark))
}

/// None for a row that is none of adtrack's.
fn entry(row: &Item) -> Option<Entry> {
    let id = uuid::Uuid::try_parse(row.get("id")?.as_s().ok()?).ok()?.as_u128();
    let at_ms = row.get("stored_at")?.as_n().ok()?.parse().ok()?;
    Some(Entry { id, at_ms })
}
