//! Packs many events into one Kinesis record, in the aggregation format of the Amazon Kinesis Producer
//! Library (KPL), so that any KPL de-aggregator can read them:
//!
//! ```text
//! F3 89 9A C2 | protobuf AggregatedRecord | MD5 of the protobuf
//! ```

use bytes::Bytes;
use md5::{Digest, Md5};
use prost::Message;

use crate::journal::JournalNotice;

#[allow(missing_docs, reason = "generated; documented in kpl_aggregate.proto")]
mod kpl {
    include!(concat!(env!("OUT_DIR"), "/kpl.rs"));
}

use kpl::{AggregatedRecord, Record};

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
const MD5_BYTES: usize = 16;
/// What a user record adds to its data: tags and lengths.
const OVERHEAD_BYTES: usize = 10;

/// User records that become one Kinesis record.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Aggregate {
    /// Without a key: [`Self::encode`] writes it.
    message: AggregatedRecord,
    bytes: usize,
}

impl Aggregate {
    /// Adds a user record.
    pub fn push(&mut self, data: Bytes) {
        self.bytes += data.len() + OVERHEAD_BYTES;
        let record = Record { data, ..Record::default() };
        self.message.records.push(record);
    }

    /// The user records, in order.
    pub fn user_records(&self) -> impl Iterator<Item = &Bytes> {
        self.message.records.iter().map(|record| &record.data)
    }

    /// The number of user records.
    pub fn len(&self) -> usize {
        self.message.records.len()
    }

    /// Whether it has no user records.
    pub fn is_empty(&self) -> bool {
        self.message.records.is_empty()
    }

    /// An upper bound on the encoded records' size; the frame around them is not included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Encodes the Kinesis record's data, to be put under `partition_key` and under no other: readers that
    /// follow the Kinesis Client Library drop user records whose key hashes to another shard than the one
    /// that they were read from. A lone user record is not wrapped, because every reader accepts plain
    /// records too.
    pub fn encode(&self, partition_key: &str) -> Vec<u8> {
        if let [record] = self.message.records.as_slice() {
            return record.data.to_vec();
        }
        encode(partition_key, &self.message)
    }
}

/// Encodes a record that has `notice` and no user records, so that readers of events pass over it.
pub fn encode_notice(partition_key: &str, notice: &JournalNotice) -> Vec<u8> {
    let notice = AggregatedRecord {
        journal_notice: Some(notice.encode_to_vec().into()),
        ..AggregatedRecord::default()
    };
    encode(partition_key, &notice)
}

/// Encodes `message`, which has no keys, with `partition_key` as its only one.
fn encode(partition_key: &str, message: &AggregatedRecord) -> Vec<u8> {
    let keys = AggregatedRecord {
        partition_key_table: vec![partition_key.to_owned()],
        ..AggregatedRecord::default()
    };
    // Protobuf joins messages by concatenation; the keys are the first field.
    let length = keys.encoded_len() + message.encoded_len();
    let mut bytes = Vec::with_capacity(MAGIC.len() + length + MD5_BYTES);
    bytes.extend_from_slice(&MAGIC);
    keys.encode_raw(&mut bytes);
    message.encode_raw(&mut bytes);
    let digest = Md5::digest(&bytes[MAGIC.len()..]);
    bytes.extend_from_slice(&digest);
    bytes
}

/// What a Kinesis record carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The user records, in order.
    pub user_records: Vec<Bytes>,
    /// An encoded [`JournalNotice`], which records without user records have.
    pub notice: Option<Bytes>,
}

/// Unpacks a Kinesis record. A plain record is its own only user record; as in KPL's own readers, that is one
/// without the magic number or with a wrong checksum. Returns `None` for an aggregate with a right checksum
/// whose protobuf cannot be decoded.
pub fn contents(data: &Bytes) -> Option<Contents> {
    let Some(message) = aggregate_message(data) else {
        return Some(Contents { user_records: vec![data.clone()], notice: None });
    };
    let aggregate = AggregatedRecord::decode(message).ok()?;
    let user_records = aggregate.records.into_iter().map(|record| record.data).collect();
    Some(Contents { user_records, notice: aggregate.journal_notice })
}

/// The user records in a Kinesis record, as [`contents`] finds them.
pub fn user_records(data: &Bytes) -> Option<Vec<Bytes>> {
    contents(data).map(|contents| contents.user_records)
}

fn aggregate_message(data: &Bytes) -> Option<Bytes> {
    let (message, digest) = data.strip_prefix(&MAGIC)?.split_last_chunk::<MD5_BYTES>()?;
    (Md5::digest(message)[..] == digest[..]).then(|| data.slice_ref(message))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(records: &[Bytes]) -> Aggregate {
        let mut aggregate = Aggregate::default();
        for record in records {
            aggregate.push(record.clone());
        }
        aggregate
    }

    fn aggregate(records: &[Bytes]) -> Bytes {
        let aggregate = of(records);
        let bytes = aggregate.encode("key");
        let bound = aggregate.bytes() + MAGIC.len() + MD5_BYTES + 40;
        assert!(bytes.len() <= bound, "{} > {bound}", bytes.len());
        bytes.into()
    }

    #[test]
    fn counts_its_user_records_and_their_bytes() {
        let empty = Aggregate::default();
        let two = of(&["a".into(), "bc".into()]);

        assert!(empty.is_empty() && !two.is_empty());
        assert_eq!((empty.len(), empty.bytes()), (0, 0));
        assert_eq!((two.len(), two.bytes()), (2, 3 + 2 * OVERHEAD_BYTES));
    }

    #[test]
    fn has_the_key_of_the_attempt_inside() {
        let aggregate = of(&["a".into(), "bc".into()]);
        for key in ["first", "another key, of another length"] {
            let bytes = aggregate.encode(key);

            let message = &bytes[MAGIC.len()..bytes.len() - MD5_BYTES];
            let decoded = AggregatedRecord::decode(message).unwrap();
            assert_eq!(decoded.partition_key_table, [key]);
            assert!(decoded.records.iter().all(|record| record.partition_key_index == 0));
            let data = Bytes::from(bytes);
            assert_eq!(user_records(&data), Some(vec!["a".into(), "bc".into()]));
        }
    }

    #[test]
    fn writes_the_kpl_format() {
        let bytes = of(&["a".into(), "bc".into()]).encode("key");
        // Key table "key"; two records with the index written out, as proto2 requires.
        let message = b"\x0a\x03key\x1a\x05\x08\x00\x1a\x01a\x1a\x06\x08\x00\x1a\x02bc";
        assert_eq!(bytes[..4], MAGIC);
        assert_eq!(bytes[4..bytes.len() - 16], message[..]);
        assert_eq!(bytes[bytes.len() - 16..], Md5::digest(message)[..]);
    }

    #[test]
    fn does_not_wrap_a_lone_record() {
        assert_eq!(aggregate(&["alone".into()]), "alone");
    }

    #[test]
    fn reads_a_record_that_only_looks_like_an_aggregate_as_plain() {
        let valid = aggregate(&["a".into(), "b".into()]);
        let (mut wrong_magic, mut wrong_checksum) = (valid.to_vec(), valid.to_vec());
        wrong_magic[0] ^= 1;
        *wrong_checksum.last_mut().unwrap() ^= 1;
        let mut cases = vec![wrong_magic, wrong_checksum, vec![0; 40], vec![]];
        // Too short for a checksum.
        cases.extend((0..MD5_BYTES).map(|length| [&MAGIC[..], &vec![0; length]].concat()));
        for data in cases {
            let data = Bytes::from(data);
            assert_eq!(user_records(&data), Some(vec![data.clone()]));
        }
    }

    #[test]
    fn an_aggregate_may_be_empty() {
        let data = [&MAGIC[..], &Md5::digest(b"")].concat();
        assert_eq!(user_records(&data.into()), Some(vec![]));
    }

    #[test]
    fn a_notice_has_no_user_records() {
        let notice = JournalNotice { journal: "j".into(), at_ms: 7, ..JournalNotice::default() };
        let data = Bytes::from(encode_notice("j.h", &notice));

        let contents = contents(&data).unwrap();

        assert_eq!(contents.user_records, Vec::<Bytes>::new());
        assert_eq!(JournalNotice::decode(contents.notice.unwrap()), Ok(notice));
        let message = &data[MAGIC.len()..data.len() - MD5_BYTES];
        assert_eq!(AggregatedRecord::decode(message).unwrap().partition_key_table, ["j.h"]);
    }

    /// The format without our field, as other readers and earlier versions know it.
    #[derive(Clone, PartialEq, Message)]
    struct PublishedFormat {
        #[prost(string, repeated, tag = "1")]
        partition_key_table: Vec<String>,
        #[prost(message, repeated, tag = "3")]
        records: Vec<Record>,
    }

    #[test]
    fn readers_that_do_not_know_notices_pass_over_them() {
        let data = encode_notice("j.h", &JournalNotice { at_ms: 7, ..JournalNotice::default() });

        let message = &data[MAGIC.len()..data.len() - MD5_BYTES];
        let read = PublishedFormat::decode(message).unwrap();

        assert_eq!(read.partition_key_table, ["j.h"]);
        assert_eq!(read.records, []);
    }

    #[test]
    fn encodes_into_a_buffer_of_the_right_size() {
        let bytes = of(&["a".into(), "bc".into()]).encode("key");
        assert_eq!(bytes.capacity(), bytes.len());
    }

    #[test]
    fn rejects_an_aggregate_that_is_not_protobuf() {
        let message = b"\xff\xff\xff";
        let data = [&MAGIC[..], message, &Md5::digest(message)].concat();
        assert_eq!(user_records(&data.into()), None);
    }

    proptest! {
        #[test]
        fn user_records_round_trip(
            records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 2..20),
        ) {
            let records: Vec<Bytes> = records.into_iter().map(Bytes::from).collect();
            prop_assert_eq!(user_records(&aggregate(&records)), Some(records));
        }

        #[test]
        fn never_panics_on_arbitrary_bytes(
            message in proptest::collection::vec(any::<u8>(), 0..200),
            with_checksum in any::<bool>(),
        ) {
            let digest = if with_checksum { Md5::digest(&message).to_vec() } else { vec![0; 16] };
            let _ = user_records(&[&MAGIC[..], &message, &digest].concat().into());
        }
    }
}
