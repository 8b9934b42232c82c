//! User records, and those of a batch that can never succeed. Pure.
//!
//! Each is kept on its own, so that it can be repaired without its neighbours. A Kinesis record with very many
//! of them is kept whole instead, as one object under the name of its first user record: it can contain more than
//! 100,000, and S3 takes a few hundred objects per second.

use std::collections::BTreeMap;

use adtrack_proto::aggregate;
use bytes::Bytes;

use super::batch::{PoisonRecord, StreamRecord};

/// The most objects that one Kinesis record becomes. A batch of 1,000 records, all of them this bad, is then
/// written within 30 s, of the 60 s that an invocation has: 16 objects at a time, 30 ms each.
const MAX_OBJECTS: usize = 16;

/// A user record within a Kinesis record.
#[derive(Debug, Clone)]
pub struct UserRecord<'a> {
    /// The Kinesis record.
    pub kinesis_record: &'a StreamRecord,
    /// Which of its user records, from 0.
    pub sub_sequence_number: u32,
    /// The user record's own bytes.
    pub data: Bytes,
}

/// A Kinesis record that begins as an aggregate does, with the right checksum, and is not valid protobuf.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an aggregate with the right checksum that is not valid protobuf")]
pub struct InvalidAggregate;

/// What a Kinesis record carries.
#[derive(Debug, Clone)]
pub struct Contents<'a> {
    /// Its user records: several if it is an aggregate, else itself.
    pub user_records: Vec<UserRecord<'a>>,
    /// An encoded [`JournalNotice`](adtrack_proto::journal::JournalNotice).
    pub notice: Option<Bytes>,
}

impl<'a> Contents<'a> {
    /// Unpacks `kinesis_record`.
    pub fn of(kinesis_record: &'a StreamRecord) -> Result<Self, InvalidAggregate> {
        let contents = aggregate::contents(&kinesis_record.data).ok_or(InvalidAggregate)?;
        let user_record =
            |(sub_sequence_number, data)| UserRecord { kinesis_record, sub_sequence_number, data };
        let user_records = (0..).zip(contents.user_records).map(user_record).collect();
        Ok(Self { user_records, notice: contents.notice })
    }
}

impl<'a> UserRecord<'a> {
    /// The user records of `kinesis_record`: several if it is an aggregate, else itself.
    pub fn all_of(kinesis_record: &'a StreamRecord) -> Result<Vec<Self>, InvalidAggregate> {
        Contents::of(kinesis_record).map(|contents| contents.user_records)
    }

    /// `kinesis_record` as its only user record.
    pub fn whole(kinesis_record: &'a StreamRecord) -> Self {
        Self { kinesis_record, sub_sequence_number: 0, data: kinesis_record.data.clone() }
    }
}

/// The user records of a batch that can never succeed.
#[derive(Debug, Default)]
pub struct Poison<'a> {
    /// By sequence number.
    findings: BTreeMap<&'a str, Findings<'a>>,
    /// Those to be kept on their own, and not taken yet.
    pending: Vec<PoisonRecord>,
}

/// What one Kinesis record has of them.
#[derive(Debug)]
struct Findings<'a> {
    kinesis_record: &'a StreamRecord,
    count: usize,
    first_reason: String,
    /// Whether the Kinesis record was taken.
    is_kept_whole: bool,
}

impl Findings<'_> {
    fn are_too_many(&self) -> bool {
        self.count > MAX_OBJECTS
    }

    fn whole_record(&self) -> PoisonRecord {
        self.kinesis_record.poison(format!(
            "the whole Kinesis record, because {} of its user records can never succeed; the first: {}",
            self.count, self.first_reason
        ))
    }
}

impl<'a> Poison<'a> {
    /// Adds a user record, and what is wrong with it.
    pub fn add(&mut self, user_record: &UserRecord<'a>, reason: String) {
        let kinesis_record = user_record.kinesis_record;
        let findings =
            self.findings.entry(&kinesis_record.sequence_number).or_insert_with(|| Findings {
                kinesis_record,
                count: 0,
                first_reason: reason.clone(),
                is_kept_whole: false,
            });
        findings.count += 1;
        if !findings.are_too_many() {
            let (number, data) = (user_record.sub_sequence_number, user_record.data.clone());
            self.pending.push(kinesis_record.poison_within(number, data, reason));
        }
    }

    /// The number of user records added.
    pub fn count(&self) -> usize {
        self.findings.values().map(|findings| findings.count).sum()
    }

    /// What is to be kept of those added since the last call: nothing of a Kinesis record that was taken whole.
    pub fn take(&mut self) -> Vec<PoisonRecord> {
        let mut taken = std::mem::take(&mut self.pending);
        taken.retain(|record| {
            let findings = self.findings.get(record.carrier.sequence_number.as_str());
            findings.is_none_or(|findings| !findings.are_too_many())
        });
        for findings in self.findings.values_mut() {
            if findings.are_too_many() && !findings.is_kept_whole {
                findings.is_kept_whole = true;
                taken.push(findings.whole_record());
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinesis_record(sequence_number: &str) -> StreamRecord {
        StreamRecord {
            stream_arn: "arn".into(),
            shard_id: "shardId-000000000000".into(),
            sequence_number: sequence_number.into(),
            partition_key: "k".into(),
            arrived_at: jiff::Timestamp::UNIX_EPOCH,
            data: Bytes::from_static(b"whole"),
        }
    }

    fn add<'a>(
        poison: &mut Poison<'a>,
        kinesis_record: &'a StreamRecord,
        numbers: std::ops::Range<usize>,
    ) {
        for number in numbers {
            let sub_sequence_number = u32::try_from(number).unwrap();
            let data = Bytes::from_static(b"part");
            poison.add(
                &UserRecord { kinesis_record, sub_sequence_number, data },
                format!("bad {number}"),
            );
        }
    }

    fn objects(records: &[PoisonRecord]) -> Vec<(&str, u32, &[u8])> {
        let object = |record| {
            let PoisonRecord { carrier, sub_sequence_number, data, .. }: &PoisonRecord = record;
            (carrier.sequence_number.as_str(), *sub_sequence_number, data.as_ref())
        };
        records.iter().map(object).collect()
    }

    #[test]
    fn keeps_each_of_a_few_on_its_own() {
        let (one, two) = (kinesis_record("1"), kinesis_record("2"));
        let mut poison = Poison::default();

        add(&mut poison, &one, 3..5);
        add(&mut poison, &two, 0..MAX_OBJECTS);
        let taken = poison.take();

        assert_eq!(taken.len(), 2 + MAX_OBJECTS);
        assert_eq!(objects(&taken[..2]), [("1", 3, &b"part"[..]), ("1", 4, b"part")]);
        assert_eq!(taken[1].reason, "bad 4");
        assert_eq!(poison.count(), 2 + MAX_OBJECTS);
        assert_eq!(poison.take(), []);
    }

    #[test]
    fn keeps_a_record_with_many_whole_and_once() {
        let (one, two) = (kinesis_record("1"), kinesis_record("2"));
        let mut poison = Poison::default();

        add(&mut poison, &one, 7..7 + MAX_OBJECTS + 1);
        add(&mut poison, &two, 2..3);
        let taken = poison.take();
        add(&mut poison, &one, 40..45);
        let later = poison.take();

        assert_eq!(objects(&taken), [("2", 2, &b"part"[..]), ("1", 0, b"whole")]);
        assert!(
            taken[1].reason.ends_with("17 of its user records can never succeed; the first: bad 7")
        );
        assert_eq!(objects(&later), []);
        assert_eq!(poison.count(), MAX_OBJECTS + 7);
    }

    #[test]
    fn keeps_a_record_whole_when_later_ones_are_too_many() {
        let one = kinesis_record("1");
        let mut poison = Poison::default();

        add(&mut poison, &one, 0..MAX_OBJECTS);
        let first = poison.take();
        add(&mut poison, &one, 20..21);
        let later = poison.take();

        assert_eq!(first.len(), MAX_OBJECTS);
        assert_eq!(objects(&later), [("1", 0, &b"whole"[..])]);
    }
}
