//! Puts spilled events on the stream, outside the tracker.

use adtrack_proto::aggregate::Aggregate;
use adtrack_runtime::backoff::Backoff;
use bytes::Bytes;
use std::time::Duration;

use super::EventStream;
use super::batch::{AGGREGATE_BYTES, Batch, Record};

/// Consecutive tries without a delivered record after which a batch is given up.
const TRIES: u32 = 10;
const BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(100), ceiling: Duration::from_secs(10) };

/// Puts all events on the stream. Returns when the stream has them all; an error says why it does not. It
/// is harmless to repeat this, because an event's id is the key of its row.
pub async fn put_all(stream: &EventStream, events: Vec<Bytes>) -> Result<(), String> {
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
            batch.push(Record { aggregate, claims: Vec::new() });
        }
        put(stream, batch).await?;
    }
    Ok(())
}

async fn put(stream: &EventStream, mut batch: Batch) -> Result<(), String> {
    let mut failures = 0;
    loop {
        let problem = match stream.put(&batch).await {
            Ok(outcome) => {
                let (delivered, rejected) = batch.split(&outcome);
                if rejected.is_empty() {
                    return Ok(());
                }
                batch = rejected;
                if !delivered.is_empty() {
                    failures = 0;
                }
                outcome.error_codes().collect::<Vec<_>>().join(", ")
            }
            Err(error) if error.permanent => return Err(error.text),
            Err(error) => error.text,
        };
        failures += 1;
        if failures == TRIES {
            return Err(problem);
        }
        tokio::time::sleep(BACKOFF.delay(failures)).await;
    }
}
