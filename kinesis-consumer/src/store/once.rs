//! Writes rows that are never replaced: those whose id is a hash of data from the client. So repeating
//! an event id, even another client's, does not change the row.

use std::time::SystemTime;

use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure};
use futures::StreamExt;

use super::{BACKOFF, EventTable, Unwritten};
use crate::item::Row;

/// Concurrent `PutItem` calls per invocation. Rows are written one by one, because `BatchWriteItem` takes no
/// condition, and in `TransactWriteItems` one existing row fails the whole call, at twice the price.
const CONCURRENT_PUTS: usize = 64;

/// The outcome of writing a row.
enum Outcome {
    /// The table has it, perhaps from before.
    Stored,
    /// The table has a row with its id that differs in an attribute that must not change.
    Differs,
    /// DynamoDB always refuses it.
    Refused(String),
    /// It may be written later.
    Retryable(String),
}

impl EventTable {
    /// Writes those of `rows` whose ids the table does not have yet. Tries each row once before it
    /// retries any, until `deadline`.
    pub(super) async fn write_once<'a>(
        &self,
        rows: &[&'a Row],
        deadline: SystemTime,
    ) -> Unwritten<'a> {
        let mut first = write_concurrently(rows, |row| self.put(row, deadline)).await;
        let retryable = std::mem::take(&mut first.unwritten.retryable);
        if let Some(error) = &first.error {
            tracing::warn!(error, rows = retryable.len(), "PutItem failed");
        }
        let again = write_concurrently(&retryable, |row| self.retry_put(row, deadline)).await;
        if !again.unwritten.retryable.is_empty() {
            let rows = again.unwritten.retryable.len();
            tracing::warn!(rows, "out of time; left for a retry");
        }
        first.unwritten.merge(again.unwritten)
    }

    /// Retries a row until it is written or the deadline is near.
    async fn retry_put(&self, row: &Row, deadline: SystemTime) -> Outcome {
        let mut outcome = Outcome::Retryable(String::new());
        let mut failures = 0;
        while let Outcome::Retryable(_) = outcome {
            failures += 1;
            let delay = BACKOFF.delay(failures);
            if SystemTime::now() + delay >= deadline {
                break;
            }
            tokio::time::sleep(delay).await;
            outcome = self.put(row, deadline).await;
        }
        outcome
    }

    /// Calls `PutItem` once; the call ends at the deadline.
    async fn put(&self, row: &Row, deadline: SystemTime) -> Outcome {
        let call = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(row.item()))
            .condition_expression("attribute_not_exists(id)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            // Otherwise the response to a successful call is empty, and shows nothing.
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send();
        let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
        let error = match tokio::time::timeout(left, call).await {
            Ok(Ok(output)) if output.consumed_capacity.is_some() => return Outcome::Stored,
            Ok(Ok(_)) => {
                return Outcome::Retryable("the response has no ConsumedCapacity".to_owned());
            }
            Ok(Err(error)) => error,
            Err(_) => return Outcome::Retryable("no response in time".to_owned()),
        };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(failed)) => match failed.item() {
                Some(stored) if row.differs_from(stored) => Outcome::Differs,
                _ => Outcome::Stored,
            },
            _ if error.code() == Some("ValidationException") => {
                Outcome::Refused(error.message().unwrap_or("not valid").to_owned())
            }
            _ => Outcome::Retryable(DisplayErrorContext(&error).to_string()),
        }
    }
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
        .buffer_unordered(CONCURRENT_PUTS)
        .fold(Outcomes::default(), |outcomes, (row, outcome)| async { outcomes.add(row, outcome) })
        .await
}
