//! Packs records into `PutRecords` calls, and separates rejected records from delivered ones. Pure.

use adtrack_proto::aggregate::Aggregate;
use adtrack_proto::journal::JournalNotice;
use adtrack_runtime::kinesis::PutOutcome;
use prost::Message;

use super::journal::{Claim, JournalReader};
use super::receipt::Label;

/// The maximum number of records in a `PutRecords` call.
const MAX_RECORDS: usize = 500;
/// The maximum size of a call in bytes: well below `PutRecords`' 5 MiB, because every call in flight holds a
/// copy.
const MAX_BYTES: usize = 1024 * 1024;
/// What a record adds to its events in a call besides its partition key: the aggregate's frame.
const FRAME_BYTES: usize = 30;
/// The same with the longest partition key, outside and inside.
const MAX_FRAME_BYTES: usize = FRAME_BYTES + 2 * adtrack_proto::receipt::MAX_BYTES;

/// An aggregate is closed when it reaches this size in bytes: the usual size of the KPL, and two of
/// Kinesis' 25 KB billing units.
pub const AGGREGATE_BYTES: usize = 50_000;

/// A Kinesis record: an aggregate of events, a single event, or a notice. It is encoded, with a partition key, for each
/// attempt to send it.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct StreamRecord {
    /// The events.
    pub aggregate: Aggregate,
    /// What it is, which makes its partition key.
    pub label: Label,
    /// By which it is acknowledged in the journal.
    pub claims: Vec<Claim>,
}

impl StreamRecord {
    /// An upper bound on its size in a call.
    fn bytes(&self) -> usize {
        let content = match &self.label {
            Label::Notice(notice) => notice.encoded_len(),
            _ => self.aggregate.bytes(),
        };
        content + FRAME_BYTES + 2 * self.label.key_bytes()
    }

    /// What a journal says of itself, acknowledged by `claims`.
    pub fn notice(notice: JournalNotice, claims: Vec<Claim>) -> Self {
        Self { aggregate: Aggregate::default(), label: Label::Notice(Box::new(notice)), claims }
    }

    /// The next events of the journal, as long as `may_read`; none if none wait. Takes from each ring as much as there
    /// is before it turns to the next one, so that the record has few stretches.
    pub fn next(
        reader: &mut JournalReader,
        may_read: impl Fn(&JournalReader) -> bool,
    ) -> Option<Self> {
        let mut record = Self::default();
        for _ in 0..reader.rings() {
            let is_other = !record.aggregate.is_empty() && !record.label.takes(reader.place());
            if is_other || !record.label.has_room() {
                break;
            }
            while record.aggregate.bytes() < AGGREGATE_BYTES && may_read(reader) {
                let Some((event, claim, stretch)) = reader.next_in_ring() else { break };
                record.aggregate.push(event);
                record.label.add(stretch);
                record.claims.push(claim);
            }
            reader.turn();
            if record.aggregate.bytes() >= AGGREGATE_BYTES {
                break;
            }
        }
        (!record.aggregate.is_empty()).then_some(record)
    }
}

/// The records of one `PutRecords` call.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Batch {
    /// The records.
    pub records: Vec<StreamRecord>,
    bytes: usize,
}

/// A batch after its call.
#[derive(Debug, Default, PartialEq)]
pub struct SplitBatch {
    /// The records that the stream took.
    pub delivered: Batch,
    /// The records that it did not take.
    pub rejected: Batch,
}

impl Batch {
    /// Whether a record with `event_bytes` bytes of events fits.
    pub fn has_room_for(&self, event_bytes: usize) -> bool {
        self.is_empty()
            || self.records.len() < MAX_RECORDS
                && self.bytes + event_bytes + MAX_FRAME_BYTES <= MAX_BYTES
    }

    /// Whether everything of `other` fits.
    pub fn has_room_for_all(&self, other: &Self) -> bool {
        self.records.len() + other.records.len() <= MAX_RECORDS
            && self.bytes + other.bytes <= MAX_BYTES
    }

    /// Adds all records of `other`. The caller has checked that they fit.
    pub fn append(&mut self, mut other: Self) {
        self.bytes += other.bytes;
        self.records.append(&mut other.records);
    }

    /// Adds the record. The caller has checked that it fits.
    pub fn push(&mut self, record: StreamRecord) {
        self.bytes += record.bytes();
        self.records.push(record);
    }

    /// Keeps the first record and returns the others.
    pub fn split_off_first(&mut self) -> Self {
        let mut rest = Self::default();
        for record in self.records.split_off(self.records.len().min(1)) {
            rest.push(record);
        }
        self.bytes -= rest.bytes;
        rest
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many events the records contain.
    pub fn events(&self) -> usize {
        self.records.iter().map(|record| record.aggregate.len()).sum()
    }

    /// Splits the records by what the stream did with them.
    pub fn split(self, outcome: &PutOutcome) -> SplitBatch {
        let mut split = SplitBatch::default();
        for (position, record) in self.records.into_iter().enumerate() {
            let side = if outcome.is_delivered(position) {
                &mut split.delivered
            } else {
                &mut split.rejected
            };
            side.push(record);
        }
        split
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of one event with these bytes.
    fn record(byte: u8, length: usize) -> StreamRecord {
        let mut record = StreamRecord::default();
        record.aggregate.push(vec![byte; length].into());
        record
    }

    /// What a record of one event takes in a batch, in addition to the event.
    fn overhead() -> usize {
        record(0, 0).bytes()
    }

    fn full_batch(length: usize) -> Batch {
        let mut batch = Batch::default();
        let record = record(0, length);
        while batch.has_room_for(record.aggregate.bytes()) {
            batch.push(record.clone());
        }
        batch
    }

    #[test]
    fn is_full_at_500_records_or_1_mib() {
        assert_eq!(full_batch(200).records.len(), 500);
        let large = full_batch(50_000);
        assert_eq!(large.records.len(), MAX_BYTES / (50_000 + overhead()));
        assert!(large.bytes <= MAX_BYTES);
        assert_eq!(full_batch(2_000_000).records.len(), 1, "a large record goes alone");
    }

    #[test]
    fn counts_at_least_the_bytes_of_a_record_on_the_wire() {
        let key = uuid::Uuid::new_v4().to_string();
        for (events, length) in [(1, 0), (2, 0), (2, 300), (200, 250)] {
            let mut record = StreamRecord::default();
            (0..events).for_each(|_| record.aggregate.push(vec![7; length].into()));
            let on_the_wire = key.len() + record.aggregate.encode(&key).len();
            assert!(record.bytes() >= on_the_wire, "{} < {on_the_wire}", record.bytes());
        }
    }

    #[test]
    fn joins_batches_that_fit_together() {
        let (mut batch, mut other) = (Batch::default(), Batch::default());
        batch.push(record(0, 10));
        other.push(record(1, 20));
        assert!(batch.has_room_for_all(&other));
        batch.append(other);
        assert_eq!(batch.records, [record(0, 10), record(1, 20)]);
        assert_eq!(batch.bytes, 30 + 2 * overhead());
        assert!(!full_batch(50_000).has_room_for_all(&full_batch(50_000)));
        assert!(!batch.has_room_for_all(&full_batch(10)), "500 records already");
    }

    #[test]
    fn splits_off_the_first_record() {
        let mut batch = Batch::default();
        (0..3).for_each(|number| batch.push(record(number, 10)));
        let rest = batch.split_off_first();
        let one = 10 + overhead();
        assert_eq!((batch.records.as_slice(), batch.bytes), (&[record(0, 10)][..], one));
        let others = [record(1, 10), record(2, 10)];
        assert_eq!((rest.records.as_slice(), rest.bytes), (&others[..], 2 * one));
        assert!(batch.split_off_first().is_empty());
        assert!(Batch::default().split_off_first().is_empty());
    }

    #[test]
    fn separates_rejected_records_from_delivered_ones() {
        let mut batch = Batch::default();
        (0..4).for_each(|number| batch.push(record(number, 10)));
        let SplitBatch { delivered, rejected } =
            batch.split(&PutOutcome::new(vec![None, Some("InternalFailure".to_owned()), None]));
        assert_eq!(delivered.records, [record(0, 10), record(2, 10)]);
        assert_eq!(rejected.records, [record(1, 10), record(3, 10)]);
        assert_eq!(rejected.bytes, 2 * (10 + overhead()));
    }
}
