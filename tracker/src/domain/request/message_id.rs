//! The id of an event.

use arrayvec::ArrayString;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::TrackingRequest;

/// The id of an event: a UUID in lower case, with hyphens.
pub type MessageId = ArrayString<36>;

/// The id of the event of `request`. It is a hash if the client sends an id by which a repetition of the
/// event can be recognized. Otherwise it is random: `random` makes it unguessable.
///
/// A hashed id has UUID version 8 (RFC 9562). It tells kinesis-consumer to write the row once and never
/// overwrite it, so that nobody can change an event by repeating its id. Clients cannot choose a message id:
/// the hash also covers program and event type.
pub fn message_id(request: &TrackingRequest<'_>, random: u128) -> MessageId {
    let mut buffer = Uuid::encode_buffer();
    let text = message_uuid(request, random).as_hyphenated().encode_lower(&mut buffer);
    // Always fits.
    MessageId::from(text).unwrap_or_default()
}

fn message_uuid(request: &TrackingRequest<'_>, random: u128) -> Uuid {
    let program = request.program_id.as_str();
    let kind = request.event_type.name();
    if let Some(event_id) = &request.parameters.event_id {
        return hash(&["client event", program, kind, event_id]);
    }
    if let Some(conversion) = &request.conversion
        && !(conversion.transaction_id.is_empty() && request.click_id.is_empty())
    {
        return hash(&[
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

/// A `UUIDv8` from SHA-256 over the parts. Each follows its length, so that no two lists of parts hash the
/// same text.
fn hash(parts: &[&str]) -> Uuid {
    // Joined first: hashing one text costs less than hashing many.
    let mut text = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(&text)[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
