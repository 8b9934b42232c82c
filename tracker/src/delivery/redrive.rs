//! Puts spilled events on the stream, outside the tracker.

use adtrack_runtime::backoff::Backoff;
use adtrack_runtime::kinesis::PutError;
use bytes::Bytes;
use std::time::Duration;

use super::EventStream;
use super::batch::{AGGREGATE_BYTES, Batch, SplitBatch, StreamRecord};
use super::journal::JournalReader;
use super::spill::SpillError;

/// Consecutive attempts without a delivered record after which a batch is given up.
const ATTEMPTS: u32 = 10;
/// Bytes of a journal's events that are put on the stream at a time.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Attempts count from here, so that no key is that of an attempt of the tracker.
const REDRIVEN: u32 = 1 << 20;
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

/// Puts records on the stream, under the receipts that they have. Returns when the stream has them all. It is harmless
/// to repeat this, because an event's id is the key of its row.
pub async fn put_records(
    stream: &EventStream,
    records: Vec<StreamRecord>,
) -> Result<(), RedriveError> {
    let mut records = records.into_iter().peekable();
    while records.peek().is_some() {
        let mut batch = Batch::default();
        while batch.has_room_for(AGGREGATE_BYTES)
            && let Some(record) = records.next()
        {
            batch.push(record);
        }
        put(stream, batch).await?;
    }
    Ok(())
}

/// Puts events of which nobody knows where they were on the stream, like [`put_records`].
pub async fn put_all(stream: &EventStream, events: Vec<Bytes>) -> Result<(), RedriveError> {
    let mut records = vec![StreamRecord::default()];
    for event in events {
        if let Some(last) = records.last_mut() {
            last.aggregate.push(event);
            if last.aggregate.bytes() >= AGGREGATE_BYTES {
                records.push(StreamRecord::default());
            }
        }
    }
    records.retain(|record| !record.aggregate.is_empty());
    put_records(stream, records).await
}

/// Puts on the stream what waits in a journal that no tracker uses, and that its rings are closed. Returns how many
/// events that was. With `keep`, the journal stays as it is, and nothing is said of it.
pub async fn put_journal(
    stream: &EventStream,
    mut reader: JournalReader,
    keep: bool,
) -> Result<usize, RedriveError> {
    let mut count = 0;
    loop {
        let damaged = reader.damaged_stretches();
        let (mut records, mut bytes) = (Vec::new(), 0);
        while bytes < CHUNK_BYTES
            && let Some(record) = StreamRecord::next(&mut reader, |_| true)
        {
            bytes += record.aggregate.bytes();
            count += record.aggregate.len();
            records.push(record);
        }
        let damages = reader.take_damages().into_iter();
        let damages: Vec<_> =
            damages.map(|(notice, claim)| StreamRecord::notice(notice, vec![claim])).collect();
        if records.is_empty() && damages.is_empty() && reader.damaged_stretches() == damaged {
            break;
        }
        records.extend(damages.into_iter().filter(|_| !keep));
        let claims: Vec<_> = records.iter().flat_map(|record| record.claims.clone()).collect();
        put_records(stream, records).await?;
        if !keep {
            reader.acknowledge(&claims);
        }
    }
    if keep {
        return Ok(count);
    }
    let journal = reader.journal();
    let closed = journal.others().iter().flat_map(|other| journal.close_other(other, "redriven"));
    let closed = closed.map(|notice| StreamRecord::notice(notice, Vec::new()));
    put_records(stream, closed.collect()).await?;
    Ok(count)
}

async fn put(stream: &EventStream, mut batch: Batch) -> Result<(), RedriveError> {
    let (mut failures, mut attempt) = (0, REDRIVEN);
    loop {
        attempt += 1;
        let problem = match stream.put(&batch, attempt).await {
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
