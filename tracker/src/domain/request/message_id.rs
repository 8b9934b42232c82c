//! The id of an event.

use adtrack_proto::message_id::{ConversionIdentity, client_event_id};
use arrayvec::ArrayString;
use uuid::Uuid;

use crate::domain::TrackingRequest;

/// The id of an event: a UUID in lower case, with hyphens.
pub type MessageId = ArrayString<36>;

/// The id of the event of `request`. It is a hash if the client sends an id by which a repetition of the
/// event can be recognized. Otherwise it is random: `random` makes it unguessable.
///
/// A hashed id has UUID version 8 (RFC 9562). It tells kinesis-consumer to keep the first of the events that have
/// it, so that nobody can change an event by repeating its id.
pub fn message_id(request: &TrackingRequest<'_>, random: u128) -> MessageId {
    let mut buffer = Uuid::encode_buffer();
    let text = message_uuid(request, random).as_hyphenated().encode_lower(&mut buffer);
    // Always fits.
    MessageId::from(text).unwrap_or_default()
}

fn message_uuid(request: &TrackingRequest<'_>, random: u128) -> Uuid {
    let program_id = request.program_id.as_str();
    if let Some(event_id) = &request.parameters.event_id {
        return client_event_id(program_id, request.event_type, event_id);
    }
    if let Some(conversion) = &request.conversion {
        let identity = ConversionIdentity {
            program_id,
            event_name: &conversion.event_name,
            transaction_id: &conversion.transaction_id,
            click_id: &request.click_id,
            status: &conversion.status,
        };
        if let Some(id) = identity.message_id() {
            return id;
        }
    }
    let milliseconds = u64::try_from(request.received_at.as_millisecond()).unwrap_or(0);
    let [random @ .., _, _, _, _, _, _] = random.to_le_bytes();
    uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid()
}
