//! Turns a batch of Kinesis records into the archive's files. Pure: the same batch makes the same files.

use std::collections::{BTreeMap, BTreeSet};

use adtrack_runtime::lambda::{Contents, Poison, StreamRecord, UserRecord};
use bytes::Bytes;
use parquet::errors::Result;
use sha2::{Digest, Sha256};

use super::hour::Hour;
use super::notice::Notice;
use super::raw::RawRows;
use super::receipts::{ReceiptRows, Tally};
use crate::decode::decode;
use crate::item::or_arrival;

/// Bytes of the hash in a file's name.
const HASH_BYTES: usize = 8;

/// The files of a batch, and its records that can never succeed.
#[derive(Debug)]
pub struct Batch<'a> {
    /// Events, a file for each hour.
    pub raw: Vec<File<'a>>,
    /// Receipts, a file for each hour.
    pub receipts: Vec<File<'a>>,
    /// What can never be archived.
    pub poison: Poison<'a>,
    /// The number of events.
    pub events: usize,
}

/// A file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File<'a> {
    /// Its name, with folders.
    pub path: String,
    /// Its content.
    pub bytes: Bytes,
    /// The sequence numbers of the records that it has rows of.
    pub sequence_numbers: BTreeSet<&'a str>,
}

/// Rows, and the sequence numbers of the records that they are of.
#[derive(Debug, Default)]
struct Rows<'a, T> {
    rows: T,
    sequence_numbers: BTreeSet<&'a str>,
}

impl<'a> Batch<'a> {
    /// The files of `records`, which are of one shard and in its order. Fails only if Parquet does.
    pub fn of(records: &'a [StreamRecord]) -> Result<Self> {
        let mut hours = Hours::default();
        let mut poison = Poison::default();
        for record in records {
            hours.add(record, &mut poison);
        }
        let name = file_name(records);
        let events = hours.events;
        let raw = files("raw", &name, hours.raw, RawRows::encode)?;
        let receipts = files("receipts", &name, hours.receipts, ReceiptRows::encode)?;
        Ok(Self { raw, receipts, poison, events })
    }
}

/// The rows of a batch, by hour.
#[derive(Debug, Default)]
struct Hours<'a> {
    raw: BTreeMap<Hour, Rows<'a, RawRows>>,
    receipts: BTreeMap<Hour, Rows<'a, ReceiptRows>>,
    events: usize,
}

impl<'a> Hours<'a> {
    fn add(&mut self, record: &'a StreamRecord, poison: &mut Poison<'a>) {
        let mut tally = Tally::default();
        let mut hours = BTreeSet::new();
        let mut reject = |user_record: &UserRecord<'a>, reason: String, tally: &mut Tally| {
            tally.poison += 1;
            poison.add(user_record, reason);
        };
        let contents = Contents::of(record).unwrap_or_else(|error| {
            reject(&UserRecord::whole(record), error.to_string(), &mut tally);
            Contents { user_records: Vec::new(), notice: None }
        });
        for user_record in contents.user_records {
            match decode(&user_record.data) {
                Ok(event) => {
                    let received_at = or_arrival(event.received_at_ms, record.arrived_at);
                    let hour = Hour::of(received_at);
                    self.raw.entry(hour).or_default().of(record).add(&event, &user_record);
                    tally.add_event(received_at);
                    hours.insert(hour);
                }
                Err(error) => reject(&user_record, error.to_string(), &mut tally),
            }
        }
        let notice = contents.notice.map(|bytes| Notice::decode(&bytes)).transpose();
        if let Err(error) = &notice {
            reject(&UserRecord::whole(record), error.to_string(), &mut tally);
        }
        self.events += tally.events;

        let notice = notice.ok().flatten();
        if let Some(notice) = &notice {
            let hour = Hour::of(notice.message.at_ms);
            self.receipts.entry(hour).or_default().of(record).add_notice(record, notice);
        }
        if hours.is_empty() && (notice.is_none() || tally.poison > 0) {
            hours.insert(Hour::of(record.arrived_at.as_millisecond()));
        }
        for hour in hours {
            self.receipts.entry(hour).or_default().of(record).add_events(record, tally);
        }
    }
}

impl<'a, T> Rows<'a, T> {
    /// The rows, of which the next one is of `record`.
    fn of(&mut self, record: &'a StreamRecord) -> &mut T {
        self.sequence_numbers.insert(&record.sequence_number);
        &mut self.rows
    }
}

fn files<'a, T>(
    kind: &str,
    name: &str,
    hours: BTreeMap<Hour, Rows<'a, T>>,
    encode: impl Fn(T) -> Result<Vec<u8>>,
) -> Result<Vec<File<'a>>> {
    let file = |(hour, Rows { rows, sequence_numbers })| {
        let path = format!("{kind}/{hour}/{name}.parquet");
        Ok(File { path, bytes: encode(rows)?.into(), sequence_numbers })
    };
    hours.into_iter().map(file).collect()
}

/// The name of a batch's files: `{shard}-{first}-{last}-{hash}`. Batches overlap after a bisection or a moved
/// checkpoint, so the first and the last sequence number do not tell them apart; the hash of all of them does.
fn file_name(records: &[StreamRecord]) -> String {
    let mut hash = Sha256::new();
    for record in records {
        hash.update(&record.sequence_number);
        hash.update("\n");
    }
    let digest = hash.finalize();
    let hash: String = digest.iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
    let [shard, first, last] = match records {
        [first, .., last] => [&first.shard_id, &first.sequence_number, &last.sequence_number],
        [only] => [&only.shard_id, &only.sequence_number, &only.sequence_number],
        [] => return hash,
    };
    format!("{shard}-{first}-{last}-{hash}")
}
