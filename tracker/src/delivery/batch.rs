//! Packs records into `PutRecords` calls, and separates rejected records from delivered ones. Pure.

use adtrack_proto::aggregate::Aggregate;
use adtrack_runtime::kinesis::PutOutcome;
use bytes::Bytes;
use uuid::Uuid;

use super::journal::Claim;

/// The maximum number of records in a `PutRecords` call.
const MAX_RECORDS: usize = 500;
/// The maximum size of a call in bytes: well below `PutRecords`' 5 MiB, because every call in flight holds a
/// copy.
const MAX_BYTES: usize = 1024 * 1024;
/// The length of a partition key: a UUID as text.
const PARTITION_KEY_BYTES: usize = 36;

/// An aggregate is closed when it reaches this size in bytes: the usual size of the KPL, and two of
/// Kinesis' 25 KB billing units.
pub const AGGREGATE_BYTES: usize = 50_000;

/// A Kinesis record: an aggregate of events, or a single event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRecord {
    /// Random, so that records spread evenly over the shards.
    pub partition_key: Uuid,
    /// The bytes on the wire.
    pub data: Bytes,
    /// By which its events are acknowledged in the journal.
    pub claims: Vec<Claim>,
}

impl StreamRecord {
    /// The record of an aggregate, under a random partition key.
    pub fn new(aggregate: Aggregate, claims: Vec<Claim>) -> Self {
        let partition_key = Uuid::new_v4();
        Self { partition_key, data: aggregate.finish(&partition_key.to_string()), claims }
    }
}

/// The records of one `PutRecords` call.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The records.
    pub records: Vec<StreamRecord>,
    bytes: usize,
}

/// A batch after its call.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SplitBatch {
    /// The records that the stream took.
    pub delivered: Batch,
    /// The records that it did not take.
    pub rejected: Batch,
}

impl Batch {
    /// Whether a record of `data_bytes` bytes fits.
    pub fn has_room_for(&self, data_bytes: usize) -> bool {
        self.is_empty()
            || self.records.len() < MAX_RECORDS
                && self.bytes + data_bytes + PARTITION_KEY_BYTES <= MAX_BYTES
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
        self.bytes += record.data.len() + PARTITION_KEY_BYTES;
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
        self.records.iter().map(|record| record.claims.len()).sum()
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

    fn record(number: u128, length: usize) -> StreamRecord {
        let partition_key = Uuid::from_u128(number);
        StreamRecord { partition_key, data: vec![0; length].into(), claims: Vec::new() }
    }

    fn full_batch(length: usize) -> Batch {
        let mut batch = Batch::default();
        while batch.has_room_for(length) {
            batch.push(record(0, length));
        }
        batch
    }

    #[test]
    fn is_full_at_500_records_or_1_mib() {
        assert_eq!(full_batch(200).records.len(), 500);
        let large = full_batch(50_000);
        assert_eq!(large.records.len(), MAX_BYTES / 50_036);
        assert!(large.bytes <= MAX_BYTES);
        assert_eq!(full_batch(2_000_000).records.len(), 1, "a large record goes alone");
    }

    #[test]
    fn joins_batches_that_fit_together() {
        let (mut batch, mut other) = (Batch::default(), Batch::default());
        batch.push(record(0, 10));
        other.push(record(1, 20));
        assert!(batch.has_room_for_all(&other));
        batch.append(other);
        assert_eq!(batch.records, [record(0, 10), record(1, 20)]);
        assert_eq!(batch.bytes, 30 + 2 * PARTITION_KEY_BYTES);
        assert!(!full_batch(50_000).has_room_for_all(&full_batch(50_000)));
        assert!(!batch.has_room_for_all(&full_batch(10)), "500 records already");
    }

    #[test]
    fn splits_off_the_first_record() {
        let mut batch = Batch::default();
        (0..3).for_each(|number| batch.push(record(number, 10)));
        let rest = batch.split_off_first();
        assert_eq!((batch.records.as_slice(), batch.bytes), (&[record(0, 10)][..], 46));
        assert_eq!(
            (rest.records.as_slice(), rest.bytes),
            (&[record(1, 10), record(2, 10)][..], 92)
        );
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
        assert_eq!(rejected.bytes, 2 * (10 + PARTITION_KEY_BYTES));
    }
}
