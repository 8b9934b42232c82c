//! Decodes a user record's bytes into an event. Pure.

use adtrack_proto::event::TrackingEvent;
use prost::Message;

/// DynamoDB's limit for a partition key, in bytes.
const MAX_KEY_BYTES: usize = 2_048;

/// Decodes the event in `data`. The error says why it can never be stored.
pub fn decode(data: &[u8]) -> Result<TrackingEvent, String> {
    let event =
        TrackingEvent::decode(data).map_err(|error| format!("not a TrackingEvent: {error}"))?;
    match event.message_id.len() {
        0 => Err("message_id is empty".to_owned()),
        1..=MAX_KEY_BYTES => Ok(event),
        length => {
            Err(format!("message_id has {length} bytes; DynamoDB takes at most {MAX_KEY_BYTES}"))
        }
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
            let error = decode(&data).unwrap_err();
            assert!(error.starts_with(reason), "{error}");
        }
    }
}
