//! From a Kinesis record to an event. Pure.

use adtrack_proto::event::TrackingEvent;
use adtrack_runtime::lambda::{PoisonRecord, StreamRecord};
use prost::Message;

/// DynamoDB's limit for a partition key, in bytes.
const MAX_KEY_BYTES: usize = 2_048;

/// The event that `record` carries.
pub fn decode(record: &StreamRecord) -> Result<TrackingEvent, PoisonRecord> {
    let event = TrackingEvent::decode(&*record.data)
        .map_err(|error| poison(record, format!("not a TrackingEvent: {error}")))?;
    match event.message_id.len() {
        0 => Err(poison(record, "message_id is empty".to_owned())),
        1..=MAX_KEY_BYTES => Ok(event),
        length => Err(poison(
            record,
            format!("message_id has {length} bytes; DynamoDB takes at most {MAX_KEY_BYTES}"),
        )),
    }
}

/// `record` as one that can never succeed.
pub fn poison(record: &StreamRecord, reason: String) -> PoisonRecord {
    PoisonRecord {
        carrier: record.clone(),
        sub_sequence_number: 0,
        data: record.data.clone(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(data: Vec<u8>) -> StreamRecord {
        StreamRecord {
            stream_arn: String::new(),
            shard_id: String::new(),
            sequence_number: "1".into(),
            partition_key: String::new(),
            arrived_at: jiff::Timestamp::UNIX_EPOCH,
            data: data.into(),
        }
    }

    fn event(message_id: &str) -> TrackingEvent {
        TrackingEvent { message_id: message_id.into(), ..TrackingEvent::default() }
    }

    #[test]
    fn an_event_is_decoded() {
        assert_eq!(decode(&record(event("m").encode_to_vec())), Ok(event("m")));
    }

    #[test]
    fn what_has_no_usable_message_id_is_poison() {
        for data in [b"not protobuf".to_vec(), vec![], event(&"m".repeat(2_049)).encode_to_vec()] {
            let poison = decode(&record(data.clone())).unwrap_err();
            assert_eq!(poison.data, data);
            assert!(!poison.reason.is_empty());
        }
    }
}
