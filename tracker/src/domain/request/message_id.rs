//! The id of an event.

use arrayvec::ArrayString;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::TrackingRequest;

/// The id of an event as it is written everywhere: a UUID in lower case, with hyphens.
pub type MessageId = ArrayString<36>;

/// The id of the event that `request` makes. `random` makes it unguessable where the client brings
/// nothing to tell a repetition from another event.
///
/// An id that was hashed has version 8 (RFC 9562), by which kinesis-consumer knows that the row is
/// written once and never over: whoever repeats somebody's event id changes nothing. A client never
/// chooses an id: a hash is over program and kind too.
pub fn message_id(request: &TrackingRequest<'_>, random: u128) -> MessageId {
    let mut buffer = Uuid::encode_buffer();
    let text = message_uuid(request, random).as_hyphenated().encode_lower(&mut buffer);
    // It fits.
    MessageId::from(text).unwrap_or_default()
}

fn message_uuid(request: &TrackingRequest<'_>, random: u128) -> Uuid {
    let program = request.program_id.as_str();
    let kind = request.event_type.name();
    if let Some(event_id) = &request.parameters.event_id {
        return hashed(&["client event", program, kind, event_id]);
    }
    if let Some(conversion) = &request.conversion
        && !(conversion.transaction_id.is_empty() && request.click_id.is_empty())
    {
        return hashed(&[
            "transaction",
            program,
            &request.click_id,
            &conversion.event_name,
            &conversion.transaction_id,
            &conversion.status,
        ]);
    }
    let milliseconds = u64::try_from(request.received_at.as_millisecond()).unwrap_or(0);
    let [random @ .., _, _, _, _, _, _] = random.to_le_bytes();
    uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid()
}

/// `UUIDv8` of SHA-256 over the parts, each behind its length, so that no two lists of parts are one
/// text.
fn hashed(parts: &[&str]) -> Uuid {
    // Put together first: the hash takes one text at a smaller cost than many.
    let mut text = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(&text)[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
