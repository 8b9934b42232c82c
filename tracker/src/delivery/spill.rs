//! At shutdown, writes undelivered events as objects to S3 or a folder: the disk of a Fargate task, and the
//! journal with it, is lost when the task ends.
//!
//! An object starts with eight bytes that name the format. The Kinesis records follow that were to be put, each with
//!
//! - its receipt without the attempt, as text; empty for events without one,
//! - an encoded `JournalNotice`; empty for a record with events,
//! - its number of events, and the events,
//!
//! text, notice and events each after their length, and all numbers as protobuf varints. So redriven events have the
//! receipt that they would have had. What a journal says when it ends is in the last object. Objects of earlier
//! versions have events only, each after its length. `redrive` puts both on the stream.

use std::sync::Arc;

use adtrack_proto::journal::JournalNotice;
use adtrack_runtime::storage::{self, StorageError};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::TryStreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use prost::Message;
use uuid::Uuid;

use super::batch::{AGGREGATE_BYTES, StreamRecord};
use super::journal::{Claim, Journal, JournalReader, Kind};
use super::receipt::{Label, Stretches};

/// The start of every object: the format and its version.
const MAGIC: &[u8; 8] = b"adtrkEV2";
/// The start of an object without receipts.
const EVENTS_ONLY: &[u8; 8] = b"adtrkEV1";
/// The extension of every object's name.
const EXTENSION: &str = "events";
/// An object is closed when it reaches this size in bytes.
const OBJECT_BYTES: usize = 4 * 1024 * 1024;
/// Maximum number of objects that are written at a time. At S3's 100 to 200 ms per object, the network then limits
/// how fast a full journal of 1 GiB is written.
const MAX_WRITES: usize = 8;

/// The store of spilled events.
#[derive(Debug, Clone)]
pub struct SpillStore {
    store: Arc<dyn ObjectStore>,
}

/// Why reading or writing objects failed.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] object_store::Error),
    /// The object is cut off, or the tracker did not write it.
    #[error("object {0} is not a complete spill file of adtrack")]
    Malformed(Path),
}

impl SpillStore {
    /// Opens the store at `url`.
    pub fn open(url: &str) -> Result<Self, StorageError> {
        Ok(Self { store: storage::open(url)? })
    }

    /// Writes all events that are left in `journal`, and frees them there. The journal must be closed and
    /// have no other reader. Returns how many events it wrote.
    pub async fn spill(&self, journal: &Journal) -> Result<u64, SpillError> {
        let mut reader = journal.reader();
        let day = Timestamp::now().to_string().get(..10).unwrap_or("unknown-day").to_owned();
        let spill_id = Uuid::now_v7();
        let mut writes = FuturesUnordered::new();
        let mut events = 0;
        let name = |number| Path::from(format!("{day}/{spill_id}-{number:06}.{EXTENSION}"));
        let mut objects = 0;
        while let Some(Object { bytes, claims, events: count }) = next_object(&mut reader) {
            let name = name(objects);
            objects += 1;
            writes.push(async move {
                self.store.put(&name, bytes.into()).await?;
                Ok::<_, SpillError>((claims, count))
            });
            if writes.len() == MAX_WRITES
                && let Some((claims, count)) = writes.try_next().await?
            {
                reader.acknowledge(&claims);
                events += count;
            }
        }
        while let Some((claims, count)) = writes.try_next().await? {
            reader.acknowledge(&claims);
            events += count;
        }
        let last = last_notices(&mut reader);
        if objects > 0 || !last.is_empty() {
            let mut object = BytesMut::from(&MAGIC[..]);
            journal.mark_closed();
            let closed = StreamRecord::notice(journal.notice(Kind::Closed, "spilled"), Vec::new());
            last.iter().chain([&closed]).for_each(|record| write_record(&mut object, record));
            self.store.put(&name(objects), object.freeze().into()).await?;
            reader.acknowledge(
                &last.into_iter().flat_map(|record| record.claims).collect::<Vec<_>>(),
            );
        }
        Ok(events)
    }

    /// The names of all objects, oldest first.
    pub async fn list(&self) -> Result<Vec<Path>, SpillError> {
        let objects: Vec<_> = self.store.list(None).try_collect().await?;
        let mut names: Vec<_> = objects
            .into_iter()
            .map(|object| object.location)
            .filter(|name| name.extension() == Some(EXTENSION))
            .collect();
        names.sort();
        Ok(names)
    }

    /// The records of an object; none if another `redrive` has removed it meanwhile.
    pub async fn read(&self, name: &Path) -> Result<Vec<StreamRecord>, SpillError> {
        let object = match self.store.get(name).await {
            Ok(object) => object.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        records_of(object).ok_or_else(|| SpillError::Malformed(name.clone()))
    }

    /// Removes an object whose events the stream has.
    pub async fn remove(&self, name: &Path) -> Result<(), SpillError> {
        match self.store.delete(name).await {
            // Another `redrive` was faster.
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Records on their way to the store.
struct Object {
    bytes: Bytes,
    claims: Vec<Claim>,
    events: u64,
}

/// What is to be said at the end: damaged stretches, and which other journals are drained.
fn last_notices(reader: &mut JournalReader) -> Vec<StreamRecord> {
    let damages = reader.take_damages().into_iter();
    let mut notices: Vec<_> =
        damages.map(|(notice, claim)| StreamRecord::notice(notice, vec![claim])).collect();
    let journal = reader.journal();
    let others = journal.others().iter().flat_map(|other| journal.close_other(other, "spilled"));
    notices.extend(others.map(|notice| StreamRecord::notice(notice, Vec::new())));
    notices
}

/// The next events that wait, as one object; none if nothing is left.
fn next_object(reader: &mut JournalReader) -> Option<Object> {
    let mut bytes = BytesMut::from(&MAGIC[..]);
    let (mut claims, mut events) = (Vec::new(), 0);
    while bytes.len() < OBJECT_BYTES {
        let Some(record) = next_record(reader) else { break };
        write_record(&mut bytes, &record);
        events += record.aggregate.len() as u64;
        claims.extend(record.claims);
    }
    (!claims.is_empty()).then(|| Object { bytes: bytes.freeze(), claims, events })
}

/// The next record. Behind a damaged stretch, which is said first, others may follow.
fn next_record(reader: &mut JournalReader) -> Option<StreamRecord> {
    loop {
        let damaged = reader.damaged_stretches();
        let record = StreamRecord::next(reader, |_| true);
        if record.is_some() || reader.damaged_stretches() == damaged {
            return record;
        }
    }
}

fn write_record(object: &mut BytesMut, record: &StreamRecord) {
    let receipt = match &record.label {
        Label::Events(stretches) => stretches.receipt(0).to_string(),
        _ => String::new(),
    };
    let notice = match &record.label {
        Label::Notice(notice) => notice.encode_to_vec(),
        _ => Vec::new(),
    };
    write_delimited(object, receipt.as_bytes());
    write_delimited(object, &notice);
    // Cannot fail: the buffer grows.
    let _ = prost::encode_length_delimiter(record.aggregate.len(), &mut *object);
    for event in record.aggregate.user_records() {
        write_delimited(object, event);
    }
}

fn write_delimited(object: &mut BytesMut, bytes: &[u8]) {
    // Cannot fail: the buffer grows.
    let _ = prost::encode_length_delimiter(bytes.len(), &mut *object);
    object.put(bytes);
}

/// The records of an object; none if it is cut off or foreign.
fn records_of(mut object: Bytes) -> Option<Vec<StreamRecord>> {
    let magic = object.get(..MAGIC.len())?.to_vec();
    object.advance(MAGIC.len());
    let mut records = Vec::new();
    if magic == EVENTS_ONLY {
        let mut record = StreamRecord::default();
        while object.has_remaining() {
            record.aggregate.push(read_delimited(&mut object)?);
            if record.aggregate.bytes() >= AGGREGATE_BYTES {
                records.push(std::mem::take(&mut record));
            }
        }
        records.extend(Some(record).filter(|record| !record.aggregate.is_empty()));
        return Some(records);
    }
    while magic == MAGIC && object.has_remaining() {
        records.push(read_record(&mut object)?);
    }
    (magic == MAGIC).then_some(records)
}

fn read_record(object: &mut Bytes) -> Option<StreamRecord> {
    let (receipt, notice) = (read_delimited(object)?, read_delimited(object)?);
    let label = if !notice.is_empty() {
        Label::Notice(Box::new(JournalNotice::decode(notice).ok()?))
    } else if receipt.is_empty() {
        Label::Unreceipted
    } else {
        let receipt = std::str::from_utf8(&receipt).ok()?.parse().ok()?;
        Label::Events(Stretches::of(&receipt)?)
    };
    let mut record = StreamRecord { label, ..StreamRecord::default() };
    for _ in 0..prost::decode_length_delimiter(&mut *object).ok()? {
        record.aggregate.push(read_delimited(object)?);
    }
    Some(record)
}

fn read_delimited(object: &mut Bytes) -> Option<Bytes> {
    let length = prost::decode_length_delimiter(&mut *object).ok()?;
    (length <= object.len()).then(|| object.split_to(length))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use adtrack_proto::receipt::Receipt;
    use proptest::prelude::*;

    use super::*;
    use crate::delivery::SyncMode;
    use crate::delivery::journal::id_text;
    use crate::track::{AcceptedEvent, EventSink};

    #[tokio::test]
    async fn spills_each_event_once_and_frees_it() {
        let folder = tempfile::tempdir().unwrap();
        let journal =
            Journal::open(&folder.path().join("journal"), 80 << 20, 2, SyncMode::Never).unwrap();
        let expected: BTreeSet<Vec<u8>> = (0..20_000_u32)
            .map(|number| [&number.to_le_bytes()[..], &[7; 3_000]].concat())
            .collect();
        for bytes in &expected {
            let event = AcceptedEvent { accepted_at: 0, bytes: bytes.clone() };
            journal.accept(&event).unwrap();
        }
        journal.close();
        let url = format!("file://{}/spill", folder.path().display());
        let store = SpillStore::open(&url).unwrap();
        assert_eq!(store.spill(&journal).await.unwrap(), 20_000);
        assert_eq!(journal.used_bytes(), 0);
        assert_eq!(store.spill(&journal).await.unwrap(), 0, "nothing is left");
        let names = store.list().await.unwrap();
        assert_eq!(names.len(), 16, "60 MB in objects of 4 MiB, and what the journal says last");
        let (mut read, mut receipts) = (BTreeSet::new(), Vec::new());
        for name in names {
            let records = store.read(&name).await.unwrap();
            let events = records.iter().flat_map(|record| record.aggregate.user_records());
            read.extend(events.map(|event| event.to_vec()));
            receipts.extend(records.iter().map(|record| record.label.partition_key(0)));
            store.remove(&name).await.unwrap();
        }
        assert!(read == expected);
        assert_eq!(receipts.pop(), Some(format!("{}.c", id_text(journal.id()))));
        let receipts = receipts.iter().map(|key| key.parse::<Receipt>().unwrap());
        let ranges = receipts.flat_map(|receipt| receipt.ranges);
        let bytes: i64 = ranges.map(|range| range.to - range.from).sum();
        let heads = journal.notice(Kind::Heartbeat, "").rings;
        assert_eq!(bytes, heads.iter().map(|ring| ring.to_position).sum::<i64>());
        assert_eq!(store.list().await.unwrap(), []);
    }

    #[test]
    fn recognizes_incomplete_and_foreign_objects() {
        let mut object = BytesMut::from(&MAGIC[..]);
        let mut record = StreamRecord::default();
        record.aggregate.push("abc".into());
        write_record(&mut object, &record);
        let object = object.freeze();
        assert_eq!(records_of(object.clone()), Some(vec![record]));
        for end in (0..8).chain(9..object.len()) {
            assert_eq!(records_of(object.slice(..end)), None, "{end}");
        }
        assert_eq!(records_of("foreign!".into()), None);
    }

    #[test]
    fn reads_the_objects_of_earlier_versions() {
        let object = [&EVENTS_ONLY[..], b"\x03abc\x01d"].concat();
        let records = records_of(object.into()).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].label, Label::Unreceipted);
        assert!(records[0].aggregate.user_records().eq(["abc", "d"]));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            for magic in [MAGIC, EVENTS_ONLY] {
                let _ = records_of([&magic[..], &bytes].concat().into());
            }
        }
    }
}
