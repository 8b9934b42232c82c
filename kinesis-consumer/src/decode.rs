//! Decodes a user record's bytes into an event. Pure.

use adtrack_proto::event::TrackingEvent;
use prost::{DecodeError, Message};

/// DynamoDB's limit for a partition key, in bytes.
const MAX_KEY_BYTES: usize = 2_048;

/// Why a user record can never be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// Another message, or none.
    #[error("not a TrackingEvent: {0}")]
    Malformed(DecodeError),
    /// An event without an id.
    #[error("message_id is empty")]
    NoMessageId,
    /// An id that cannot be a key of the table: its length.
    #[error("message_id has {0} bytes; DynamoDB takes at most {MAX_KEY_BYTES}")]
    LongMessageId(usize),
}

/// Decodes the event in `data`.
pub fn decode(data: &[u8]) -> Result<TrackingEvent, InvalidEvent> {
    let event = TrackingEvent::decode(data).map_err(InvalidEvent::Malformed)?;
    match event.message_id.len() {
        0 => Err(InvalidEvent::NoMessageId),
        1..=MAX_KEY_BYTES => Ok(event),
        length => Err(InvalidEvent::LongMessageId(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message_id: &str) -> TrackingEvent {
        TrackingEvent { message_id: message_id.into(), ..TrackingEvent::default() }
    }

    #[test]
    fn decodes_an_event() {
        assert_eq!(decode(&event("m").encode_to_vec()), Ok(event("m")));
    }

    #[test]
    fn rejects_records_without_a_usable_message_id() {
        for (data, reason) in [
            (b"not protobuf".to_vec(), "not a TrackingEvent"),
            (vec![], "message_id is empty"),
            (event(&"m".repeat(2_049)).encode_to_vec(), "message_id has 2049 bytes"),
        ] {
            let error = decode(&data).unwrap_err().to_string();
            assert!(error.starts_with(reason), "{error}");
        }
    }
}
