//! Puts spilled events on the stream, outside the tracker.

use adtrack_proto::aggregate::Aggregate;
use adtrack_runtime::backoff::Backoff;
use adtrack_runtime::kinesis::PutError;
use bytes::Bytes;
use std::time::Duration;

use super::EventStream;
use super::batch::{AGGREGATE_BYTES, Batch, SplitBatch, StreamRecord};
use super::spill::SpillError;

/// Consecutive attempts without a delivered record after which a batch is given up.
const ATTEMPTS: u32 = 10;
const BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(100), ceiling: Duration::from_secs(10) };

/// Why an object's events are not on the stream.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// The object cannot be read or removed.
    #[error(transparent)]
    Spill(#[from] SpillError),
    /// A call failed in a way that no retry changes, or every retry failed.
    #[error(transparent)]
    Call(#[from] PutError),
    /// The stream rejected records in every retry, with these error codes.
    #[error("the stream rejected records: {0}")]
    Rejected(String),
}

/// Puts all events on the stream. Returns when the stream has them all. It is harmless to repeat this, because an event's id is the key of its row.
pub async fn put_all(stream: &EventStream, events: Vec<Bytes>) -> Result<(), RedriveError> {
    let mut events = events.into_iter().peekable();
    while events.peek().is_some() {
        let mut batch = Batch::default();
        while batch.has_room_for(AGGREGATE_BYTES) && events.peek().is_some() {
            let mut aggregate = Aggregate::default();
            while aggregate.bytes() < AGGREGATE_BYTES
                && let Some(event) = events.next()
            {
                aggregate.push(event);
            }
            batch.push(StreamRecord { aggregate, claims: Vec::new() });
        }
        put(stream, batch).await?;
    }
    Ok(())
}

async fn put(stream: &EventStream, mut batch: Batch) -> Result<(), RedriveError> {
    let mut failures = 0;
    loop {
        let problem = match stream.put(&batch).await {
            Ok(outcome) => {
                let SplitBatch { delivered, rejected } = batch.split(&outcome);
                if rejected.is_empty() {
                    return Ok(());
                }
                batch = rejected;
                if !delivered.is_empty() {
                    failures = 0;
                }
                RedriveError::Rejected(outcome.error_codes().collect::<Vec<_>>().join(", "))
            }
            Err(error) if error.permanent => return Err(error.into()),
            Err(error) => error.into(),
        };
        failures += 1;
        if failures == ATTEMPTS {
            return Err(problem);
        }
        tokio::time::sleep(BACKOFF.delay(failures)).await;
    }
}
