//! Packs many events into one Kinesis record, in the aggregation format of the Amazon Kinesis Producer
//! Library (KPL), so that any KPL de-aggregator can read them:
//!
//! ```text
//! F3 89 9A C2 | protobuf AggregatedRecord | MD5 of the protobuf
//! ```

use bytes::{Buf, Bytes, BytesMut};
use md5::{Digest, Md5};
use prost::Message;

#[allow(missing_docs, reason = "generated; documented in kpl_aggregate.proto")]
mod kpl {
    include!(concat!(env!("OUT_DIR"), "/kpl.rs"));
}

use kpl::{AggregatedRecord, Record};

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
const MD5_BYTES: usize = 16;
/// What a user record adds to its data: tags and lengths.
const OVERHEAD_BYTES: usize = 10;

/// An aggregate being filled.
#[derive(Debug, Default)]
pub struct Aggregate {
    records: Vec<Record>,
    bytes: usize,
}

impl Aggregate {
    /// Adds a user record.
    pub fn push(&mut self, data: Bytes) {
        self.bytes += data.len() + OVERHEAD_BYTES;
        let record = Record { data, ..Record::default() };
        self.records.push(record);
    }

    /// The number of user records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it has no user records.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// An upper bound on the encoded records' size; the frame around them is not included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Encodes the Kinesis record's data, to be put under `partition_key`. A lone user record is not
    /// wrapped, because every reader accepts plain records too.
    pub fn finish(mut self, partition_key: &str) -> Bytes {
        if self.records.len() == 1
            && let Some(record) = self.records.pop()
        {
            return record.data;
        }
        let message = AggregatedRecord {
            partition_key_table: vec![partition_key.to_owned()],
            records: self.records,
            ..AggregatedRecord::default()
        };
        let length = message.encoded_len();
        let mut bytes = BytesMut::with_capacity(MAGIC.len() + length + MD5_BYTES);
        bytes.extend_from_slice(&MAGIC);
        message.encode_raw(&mut bytes);
        let digest = Md5::digest(&bytes[MAGIC.len()..]);
        bytes.extend_from_slice(&digest);
        bytes.freeze()
    }
}

/// Returns the user records in a Kinesis record. A plain record is returned as its only user record; as in
/// KPL's own readers, that is one without the magic number or with a wrong checksum. Returns `None`
/// for an aggregate with a right checksum whose protobuf cannot be decoded.
pub fn user_records(data: &Bytes) -> Option<Vec<Bytes>> {
    let Some(message) = aggregate_message(data) else { return Some(vec![data.clone()]) };
    let aggregate = AggregatedRecord::decode(message).ok()?;
    Some(aggregate.records.into_iter().map(|record| record.data).collect())
}

fn aggregate_message(data: &Bytes) -> Option<Bytes> {
    let end = data.len().checked_sub(MD5_BYTES)?;
    if end < MAGIC.len() || !data.starts_with(&MAGIC) {
        return None;
    }
    let mut message = data.slice(..end);
    message.advance(MAGIC.len());
    let digest = Md5::digest(&message);
    (digest[..] == data[end..]).then_some(message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn aggregate(records: &[Bytes]) -> Bytes {
        let mut aggregate = Aggregate::default();
        for record in records {
            aggregate.push(record.clone());
        }
        let bound = aggregate.bytes() + MAGIC.len() + MD5_BYTES + 40;
        let bytes = aggregate.finish("key");
        assert!(bytes.len() <= bound, "{} > {bound}", bytes.len());
        bytes
    }

    #[test]
    fn writes_the_kpl_format() {
        let bytes = aggregate(&["a".into(), "bc".into()]);
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
        let mut bytes = aggregate(&["a".into(), "b".into()]).to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        for data in [bytes, MAGIC.to_vec(), vec![0; 40], vec![]] {
            let data = Bytes::from(data);
            assert_eq!(user_records(&data), Some(vec![data.clone()]));
        }
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
