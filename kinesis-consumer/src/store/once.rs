//! Writes rows of which the table has one for all copies of an event: those whose id is a hash of data from the
//! client. So repeating an event id, even another client's, does not change the row, but for what
//! [`crate::repeats`] says.
//!
//! A writer creates the row if the table does not have it. Otherwise it combines its copy with the row that it
//! found, and replaces that row if it is still what it found; if not, it combines again. Each replacement is by an
//! earlier copy or click, so writers never undo each other's work, and one of them always makes progress.
//!
//! A conversion may also be in the table under other ids, from before the roll-out of today's. Its row is created
//! in a transaction that fails if one of those exists, because an event of an earlier tracker and one of today's
//! may be written at the same time. If one exists, the copy is combined with that row.

use std::collections::HashMap;
use std::time::SystemTime;

use adtrack_runtime::backoff::Pauses;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, ConditionCheck, Put, ReturnConsumedCapacity,
    ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use futures::StreamExt;

use super::{BACKOFF, EventTable, Unwritten};
use crate::item::{CLICK_RANK, Item, RANK, Row};

/// Concurrent rows per invocation. Rows are written one by one, because `BatchWriteItem` takes no condition, and
/// in `TransactWriteItems` one existing row fails the whole call, at twice the price.
const CONCURRENT_ROWS: usize = 64;

const IS_ABSENT: &str = "attribute_not_exists(id)";

/// The outcome of writing a row.
enum Outcome {
    /// The table has it, perhaps from before.
    Stored,
    /// The table had a copy of it that differs in an attribute that must not change.
    Differs,
    /// DynamoDB always refuses it.
    Refused(String),
    /// It may be written later.
    Retryable(String),
}

/// The outcome of a conditional call.
enum Call {
    Written,
    /// The table has this row, which the condition excludes.
    Found(Item),
    Failed(Outcome),
}

impl EventTable {
    /// Writes `rows`, each combined with what the table has of its event. Tries each row once before it
    /// retries any, until `deadline`.
    pub(super) async fn write_once<'a>(
        &self,
        rows: &[&'a Row],
        deadline: SystemTime,
    ) -> Unwritten<'a> {
        let mut first = write_concurrently(rows, |row| self.write_row(row, deadline)).await;
        let retryable = std::mem::take(&mut first.unwritten.retryable);
        if let Some(error) = &first.error {
            tracing::warn!(error, rows = retryable.len(), "PutItem failed");
        }
        let again = write_concurrently(&retryable, |row| self.retry_row(row, deadline)).await;
        if let rows @ 1.. = again.unwritten.retryable.len() {
            tracing::warn!(rows, "out of time; left for a retry");
        }
        first.unwritten.merge(again.unwritten)
    }

    /// Retries a row until it is written or the deadline is near.
    async fn retry_row(&self, row: &Row, deadline: SystemTime) -> Outcome {
        let mut outcome = Outcome::Retryable(String::new());
        let mut pauses = Pauses::new(BACKOFF, deadline);
        while matches!(outcome, Outcome::Retryable(_)) && pauses.wait().await {
            outcome = self.write_row(row, deadline).await;
        }
        outcome
    }

    /// Writes a row, unless a call fails or the deadline passes.
    async fn write_row(&self, row: &Row, deadline: SystemTime) -> Outcome {
        let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
        match tokio::time::timeout(left, self.create_or_combine(row)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Retryable("no response in time".to_owned()),
        }
    }

    async fn create_or_combine(&self, row: &Row) -> Outcome {
        let mut stored = match self.create(row).await {
            Call::Written => return Outcome::Stored,
            Call::Found(stored) => stored,
            Call::Failed(outcome) => return outcome,
        };
        let outcome = if row.differs_from(&stored) { Outcome::Differs } else { Outcome::Stored };
        while let Some(item) = row.combine_with(&stored) {
            match self.put_if(item, &Condition::is_still(&stored)).await {
                Call::Written => break,
                Call::Found(newer) => stored = newer,
                Call::Failed(outcome) => return outcome,
            }
        }
        outcome
    }

    /// Creates a row, if the table has none under its id or the other ids that its event may have.
    async fn create(&self, row: &Row) -> Call {
        let other_ids = row.other_ids();
        if other_ids.is_empty() {
            return self.put_if(row.item(), &Condition::is_absent()).await;
        }
        let (name, all_old) = (&self.name, ReturnValuesOnConditionCheckFailure::AllOld);
        let put = Put::builder()
            .table_name(name)
            .set_item(Some(row.item()))
            .condition_expression(IS_ABSENT)
            .return_values_on_condition_check_failure(all_old.clone())
            .build()
            .map(|put| TransactWriteItem::builder().put(put).build());
        let checks = other_ids.into_iter().map(|id| {
            ConditionCheck::builder()
                .table_name(name)
                .key("id", AttributeValue::S(id))
                .condition_expression(IS_ABSENT)
                .return_values_on_condition_check_failure(all_old.clone())
                .build()
                .map(|check| TransactWriteItem::builder().condition_check(check).build())
        });
        // The row's own id comes first: a redelivered event finds its own row.
        let items: Result<Vec<_>, _> = std::iter::once(put).chain(checks).collect();
        let items = match items {
            Ok(items) => items,
            Err(error) => return Call::Failed(Outcome::Refused(error.to_string())),
        };
        let call = self.client.transact_write_items().set_transact_items(Some(items));
        let call = call.return_consumed_capacity(ReturnConsumedCapacity::Total);
        match call.send().await {
            Ok(output) => written(!output.consumed_capacity().is_empty()),
            Err(error) => match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => {
                    canceled_call(canceled.cancellation_reasons())
                }
                _ => failed_call(&error),
            },
        }
    }

    /// Calls `PutItem` once.
    async fn put_if(&self, item: Item, condition: &Condition) -> Call {
        let Condition { expression, names, values } = condition;
        let call = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item))
            .condition_expression(expression)
            .set_expression_attribute_names(names.clone())
            .set_expression_attribute_values(values.clone())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        match call.send().await {
            Ok(output) => written(output.consumed_capacity.is_some()),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                    found(failed.item().cloned())
                }
                _ => failed_call(&error),
            },
        }
    }
}

/// When a row may be written.
struct Condition {
    expression: String,
    names: Option<HashMap<String, String>>,
    values: Option<HashMap<String, AttributeValue>>,
}

impl Condition {
    fn is_absent() -> Self {
        Self { expression: IS_ABSENT.to_owned(), names: None, values: None }
    }

    /// The table has `stored`, unchanged: its ranks say which copies it is made from.
    fn is_still(stored: &Item) -> Self {
        let mut expression = "attribute_exists(id)".to_owned();
        let (mut names, mut values) = (HashMap::new(), HashMap::new());
        for name in [RANK, CLICK_RANK] {
            // `rank` is a reserved word.
            names.insert(format!("#{name}"), name.to_owned());
            match stored.get(name) {
                Some(value) => {
                    values.insert(format!(":{name}"), value.clone());
                    expression.push_str(&format!(" AND #{name} = :{name}"));
                }
                None => expression.push_str(&format!(" AND attribute_not_exists(#{name})")),
            }
        }
        Self { expression, names: Some(names), values: (!values.is_empty()).then_some(values) }
    }
}

/// A successful call, if its response says that it was executed: without the capacity that was asked for, it
/// would be empty.
fn written(has_consumed_capacity: bool) -> Call {
    if has_consumed_capacity {
        return Call::Written;
    }
    Call::Failed(Outcome::Retryable("the response has no ConsumedCapacity".to_owned()))
}

/// A failed condition. Without the row that failed it, the row was deleted meanwhile.
fn found(item: Option<Item>) -> Call {
    let deleted = || Call::Failed(Outcome::Retryable("the row was deleted".to_owned()));
    item.map_or_else(deleted, Call::Found)
}

fn canceled_call(reasons: &[CancellationReason]) -> Call {
    let reason = |code| reasons.iter().find(|reason| reason.code() == Some(code));
    if let Some(reason) = reason("ConditionalCheckFailed") {
        return found(reason.item().cloned());
    }
    let outcome = match reason("ValidationError") {
        Some(reason) => Outcome::Refused(reason.message().unwrap_or("not valid").to_owned()),
        // Throttled, or in conflict with another writer of the row.
        None => {
            let codes: Vec<_> = reasons.iter().filter_map(CancellationReason::code).collect();
            Outcome::Retryable(format!("the transaction was cancelled: {}", codes.join(", ")))
        }
    };
    Call::Failed(outcome)
}

fn failed_call<E>(error: &SdkError<E>) -> Call
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    Call::Failed(match error.code() {
        Some("ValidationException") => {
            Outcome::Refused(error.message().unwrap_or("not valid").to_owned())
        }
        _ => Outcome::Retryable(DisplayErrorContext(error).to_string()),
    })
}

/// The outcomes of several rows.
#[derive(Default)]
struct Outcomes<'a> {
    unwritten: Unwritten<'a>,
    /// Why one of the retryable rows failed; usually, the others failed for the same reason.
    error: Option<String>,
}

impl<'a> Outcomes<'a> {
    fn add(mut self, row: &'a Row, outcome: Outcome) -> Self {
        match outcome {
            Outcome::Stored => {}
            Outcome::Differs => self.unwritten.differing.push(row),
            Outcome::Refused(reason) => self.unwritten.refused.push((row, reason)),
            Outcome::Retryable(error) => {
                self.unwritten.retryable.push(row);
                self.error.get_or_insert(error);
            }
        }
        self
    }
}

async fn write_concurrently<'a, F: Future<Output = Outcome>>(
    rows: &[&'a Row],
    write: impl Fn(&'a Row) -> F,
) -> Outcomes<'a> {
    futures::stream::iter(rows)
        .map(|row| {
            let written = write(row);
            async { (*row, written.await) }
        })
        .buffer_unordered(CONCURRENT_ROWS)
        .fold(Outcomes::default(), |outcomes, (row, outcome)| async { outcomes.add(row, outcome) })
        .await
}
