//! The DynamoDB table of events: finds and deletes the rows of a run.

use std::borrow::Cow;
use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, KeysAndAttributes, WriteRequest};
use futures::{StreamExt, TryStreamExt, stream};

use super::partitions::Entry;
use crate::attributes::Attributes;
use crate::aws_call::CallError;

/// `BatchGetItem`'s limit.
const KEYS_PER_READ: usize = 100;
/// `BatchWriteItem`'s limit.
const KEYS_PER_WRITE: usize = 25;

/// Concurrent deletions. One at a time, each would queue behind the writes of the functions, and rows
/// would arrive faster than they are deleted.
const DELETIONS_AT_ONCE: usize = 16;
/// Rows that a page of a scan reads. DynamoDB ends a page at 1 MB, which is about as many; without a
/// limit, the stand-in reads the whole rest of the table for each page.
const ROWS_PER_PAGE: i32 = 2_000;

/// What is read of a row.
const ATTRIBUTES: &str = "id, stored_at, user_agent, click_id, impression_id, event_type, program_id, \
                          transaction_id, amount_micros, currency";

type Item = HashMap<String, AttributeValue>;
/// The key after which a scan continues.
pub(super) type Position = Item;

/// A page of a scan for the run's rows.
#[derive(Debug)]
pub(super) struct Page {
    /// Rows of the run's requests: their user agent ends in the run's mark.
    pub(super) counted: Vec<Entry>,
    /// Rows of probes of changed programs: in their user agent, something follows the mark.
    pub(super) probes: Vec<Entry>,
    /// Start of the next page; `None` after the last.
    pub(super) next: Option<Position>,
}

/// The table in which events are stored.
#[derive(Debug, Clone)]
pub struct EventTable {
    client: Client,
    name: String,
    is_stand_in: bool,
}

impl EventTable {
    /// A client for the table `name`. `is_stand_in`: the endpoint is a stand-in on this machine.
    pub fn new(shared: &SdkConfig, name: String, is_stand_in: bool) -> Self {
        Self { client: Client::new(shared), name, is_stand_in }
    }

    /// Whether the table is in a stand-in on this machine, so that rows may be deleted.
    pub fn is_stand_in(&self) -> bool {
        self.is_stand_in
    }

    /// Scans a page for rows whose user agent contains the run's mark, from the start of the table if
    /// there is no position.
    pub(super) async fn page(&self, mark: &str, from: Option<Position>) -> Result<Page, CallError> {
        let page = self
            .client
            .scan()
            .table_name(&self.name)
            .limit(ROWS_PER_PAGE)
            .projection_expression(ATTRIBUTES)
            .filter_expression("contains(user_agent, :mark)")
            .expression_attribute_values(":mark", AttributeValue::S(mark.to_owned()))
            .set_exclusive_start_key(from)
            .send()
            .await
            .map_err(|error| CallError::new("Scan", error))?;
        let (counted, probes): (Vec<Item>, Vec<Item>) =
            page.items.unwrap_or_default().into_iter().partition(|row| ends_in(row, mark));
        let entries = |rows: &[Item]| rows.iter().filter_map(entry).collect();
        let next = page.last_evaluated_key;
        Ok(Page { counted: entries(&counted), probes: entries(&probes), next })
    }

    /// The rows with these ids.
    pub(super) async fn find(&self, ids: &[u128]) -> Result<Vec<Entry>, CallError> {
        let mut found = Vec::new();
        for chunk in ids.chunks(KEYS_PER_READ) {
            let request = KeysAndAttributes::builder()
                .set_keys(Some(chunk.iter().copied().map(key).collect()))
                .projection_expression("id, stored_at")
                .build()
                .map_err(|error| CallError::new("BatchGetItem", error))?;
            let output = self
                .client
                .batch_get_item()
                .request_items(&self.name, request)
                .send()
                .await
                .map_err(|error| CallError::new("BatchGetItem", error))?;
            // Unprocessed keys are requested again at the next call.
            let rows = output.responses.unwrap_or_default().into_values().flatten();
            found.extend(rows.filter_map(|row| entry(&row)));
        }
        Ok(found)
    }

    /// Deletes rows. The next scan finds and deletes those that DynamoDB left unprocessed.
    pub(super) async fn delete(&self, rows: &[Entry]) -> Result<(), CallError> {
        let calls: Vec<_> =
            rows.chunks(KEYS_PER_WRITE).map(|chunk| self.delete_chunk(chunk)).collect();
        stream::iter(calls).buffer_unordered(DELETIONS_AT_ONCE).try_collect().await
    }

    async fn delete_chunk(&self, rows: &[Entry]) -> Result<(), CallError> {
        let requests = rows
            .iter()
            .map(|row| {
                let delete = DeleteRequest::builder().set_key(Some(key(row.id))).build()?;
                Ok(WriteRequest::builder().delete_request(delete).build())
            })
            .collect::<Result<Vec<_>, aws_sdk_dynamodb::error::BuildError>>()
            .map_err(|error| CallError::new("BatchWriteItem", error))?;
        let call = self.client.batch_write_item().request_items(&self.name, requests);
        call.send().await.map_err(|error| CallError::new("BatchWriteItem", error))?;
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

/// `None` if the row is not adtrack's.
fn entry(row: &Item) -> Option<Entry> {
    let id = uuid::Uuid::try_parse(row.get("id")?.as_s().ok()?).ok()?.as_u128();
    let at_ms = row.get("stored_at")?.as_n().ok()?.parse().ok()?;
    // A conversion has a click; a click has an impression.
    let link = row.get("click_id").or_else(|| row.get("impression_id"));
    let link = link.and_then(|link| uuid::Uuid::try_parse(link.as_s().ok()?).ok());
    let link = link.map_or(0, |link| link.as_u128());
    Some(Entry { id, at_ms, link, digest: attributes(row).digest() })
}

fn attributes(row: &Item) -> Attributes<'_> {
    let text = |name: &str| {
        let text = row.get(name).and_then(|value| value.as_s().ok());
        text.map_or(Cow::Borrowed(""), |text| Cow::Borrowed(text.as_str()))
    };
    let amount = row.get("amount_micros").and_then(|amount| amount.as_n().ok());
    Attributes {
        event_type: text("event_type"),
        program_id: text("program_id"),
        user_agent: text("user_agent"),
        transaction_id: text("transaction_id"),
        amount_micros: amount.and_then(|amount| amount.parse().ok()),
        currency: text("currency"),
    }
}
