//! The event that the event stream carries: `adtrack.v1.TrackingEvent`.

#![allow(missing_docs, reason = "generated; the fields are documented in tracking_event.proto")]

use std::collections::BTreeMap;

use prost::encoding::WireType;
use prost::{Message, length_delimiter_len};

use crate::program::Program;
pub use crate::validity::InvalidReason;

include!(concat!(env!("OUT_DIR"), "/adtrack.v1.rs"));

impl EventType {
    /// All types.
    pub const ALL: [Self; 5] =
        [Self::Event, Self::Impression, Self::Click, Self::Conversion, Self::Unspecified];

    /// The name in the DynamoDB table and in the input of hashed event ids.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Event => "event",
            Self::Impression => "impression",
            Self::Click => "click",
            Self::Conversion => "conversion",
        }
    }
}

/// The fields that all events of a program share, encoded once.
///
/// Two encoded protobuf messages in a row decode as their merge (protobuf encoding guide, "Last One
/// Wins"), so an event is these bytes followed by the encoded [`RequestFields`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramFields(Box<[u8]>);

impl ProgramFields {
    /// Encodes the fields that an event takes from `program`.
    pub fn of(program: &Program) -> Self {
        let event = TrackingEvent {
            program_id: program.program_id.as_str().to_owned(),
            checksum: program.checksum.clone(),
            customer_id: program.customer_id,
            program_name: program.program_name.clone(),
            customer_name: program.customer_name.clone(),
            is_test: program.test,
            ..TrackingEvent::default()
        };
        Self(event.encode_to_vec().into())
    }

    /// Decodes them into an event whose other fields are empty.
    pub fn to_event(&self) -> TrackingEvent {
        TrackingEvent::decode(&*self.0).unwrap_or_default()
    }

    /// Encodes the whole event: these fields followed by those of `request`.
    pub fn encode_event(&self, request: &RequestFields<'_>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() + request.size_hint());
        bytes.extend_from_slice(&self.0);
        request.encode(&mut bytes);
        bytes
    }
}

/// The fields that an event takes from its request. They are borrowed, so that encoding copies each text
/// only once. Empty texts and zeros are not encoded, as in proto3.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "documented in tracking_event.proto")]
pub struct RequestFields<'a> {
    pub user_agent: &'a str,
    pub is_valid: bool,
    pub message_id: &'a str,
    pub event_type: EventType,
    pub occurred_at_ms: i64,
    pub received_at_ms: i64,
    pub visitor_id: &'a str,
    pub click_id: &'a str,
    pub impression_id: &'a str,
    pub referrer: &'a str,
    pub client_ip: &'a str,
    pub traffic_flags: &'a [&'a str],
    pub parameters: &'a BTreeMap<String, String>,
    pub conversion: Option<ConversionFields<'a>>,
    pub invalid_reason: Option<InvalidReason>,
    pub client_event_id: &'a str,
    pub host: &'a str,
}

/// The fields that only a conversion has.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "documented in tracking_event.proto")]
pub struct ConversionFields<'a> {
    pub transaction_id: &'a str,
    pub amount_micros: i64,
    pub currency: &'a str,
    pub event_name: &'a str,
    pub status: &'a str,
}

impl RequestFields<'_> {
    /// Large enough that the buffer rarely has to grow.
    fn size_hint(&self) -> usize {
        let texts = self.user_agent.len() + self.referrer.len() + self.host.len();
        let parameters = self.parameters.iter().map(|(name, value)| name.len() + value.len() + 12);
        texts + parameters.sum::<usize>() + 130
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        use tag::{
            CLICK_ID, CLIENT_EVENT_ID, CLIENT_IP, EVENT_TYPE, HOST, IMPRESSION_ID, INVALID_REASON,
            IS_VALID, MESSAGE_ID, OCCURRED_AT_MS, PARAMETERS, RECEIVED_AT_MS, REFERRER,
            TRAFFIC_FLAGS, USER_AGENT, VISITOR_ID,
        };
        text(bytes, USER_AGENT, self.user_agent);
        number(bytes, IS_VALID, self.is_valid.into());
        text(bytes, MESSAGE_ID, self.message_id);
        number(bytes, EVENT_TYPE, i32::from(self.event_type).into());
        number(bytes, OCCURRED_AT_MS, self.occurred_at_ms);
        text(bytes, VISITOR_ID, self.visitor_id);
        text(bytes, CLICK_ID, self.click_id);
        text(bytes, REFERRER, self.referrer);
        text(bytes, CLIENT_IP, self.client_ip);
        for flag in self.traffic_flags {
            text(bytes, TRAFFIC_FLAGS, flag);
        }
        for (name, value) in self.parameters {
            // protobuf encodes each entry of a map as a message of key and value.
            let sizes = [name, value].map(|part| match part.len() {
                0 => 0,
                length => 1 + length_delimiter_len(length) + length,
            });
            key(bytes, PARAMETERS, WireType::LengthDelimited);
            varint(bytes, sizes.iter().sum::<usize>() as u64);
            text(bytes, 1, name);
            text(bytes, 2, value);
        }
        if let Some(conversion) = &self.conversion {
            conversion.encode(bytes);
        }
        text(bytes, INVALID_REASON, self.invalid_reason.map_or("", InvalidReason::as_str));
        number(bytes, RECEIVED_AT_MS, self.received_at_ms);
        text(bytes, CLIENT_EVENT_ID, self.client_event_id);
        text(bytes, IMPRESSION_ID, self.impression_id);
        text(bytes, HOST, self.host);
    }
}

impl ConversionFields<'_> {
    fn encode(&self, bytes: &mut Vec<u8>) {
        use tag::{AMOUNT_MICROS, CURRENCY, EVENT_NAME, STATUS, TRANSACTION_ID};
        text(bytes, TRANSACTION_ID, self.transaction_id);
        number(bytes, AMOUNT_MICROS, self.amount_micros);
        text(bytes, CURRENCY, self.currency);
        text(bytes, EVENT_NAME, self.event_name);
        text(bytes, STATUS, self.status);
    }
}

/// Inlined like what it calls, so that the compiler knows the key's bytes.
#[inline(always)]
fn text(bytes: &mut Vec<u8>, tag: u32, text: &str) {
    if !text.is_empty() {
        key(bytes, tag, WireType::LengthDelimited);
        varint(bytes, text.len() as u64);
        bytes.extend_from_slice(text.as_bytes());
    }
}

#[inline(always)]
fn number(bytes: &mut Vec<u8>, tag: u32, number: i64) {
    if number != 0 {
        key(bytes, tag, WireType::Varint);
        varint(bytes, number.cast_unsigned());
    }
}

#[inline(always)]
fn key(bytes: &mut Vec<u8>, tag: u32, wire_type: WireType) {
    varint(bytes, (tag << 3 | wire_type as u32).into());
}

/// Keys and lengths take one or two bytes. prost's function is not inlined and pushes byte by byte; an event
/// has about twenty varints.
#[inline(always)]
fn varint(bytes: &mut Vec<u8>, number: u64) {
    match number {
        0..0x80 => bytes.push(number as u8),
        0x80..0x4000 => bytes.extend_from_slice(&[number as u8 | 0x80, (number >> 7) as u8]),
        _ => long_varint(bytes, number),
    }
}

fn long_varint(bytes: &mut Vec<u8>, mut number: u64) {
    let mut varint = [0; 10];
    let mut length = 0;
    while number >= 0x80 {
        varint[length] = number as u8 | 0x80;
        number >>= 7;
        length += 1;
    }
    varint[length] = number as u8;
    bytes.extend_from_slice(&varint[..=length]);
}

/// The field numbers in tracking_event.proto; tests/formats.rs checks them against prost.
mod tag {
    pub(super) const USER_AGENT: u32 = 4;
    pub(super) const IS_VALID: u32 = 7;
    pub(super) const MESSAGE_ID: u32 = 8;
    pub(super) const EVENT_TYPE: u32 = 9;
    pub(super) const OCCURRED_AT_MS: u32 = 10;
    pub(super) const VISITOR_ID: u32 = 11;
    pub(super) const CLICK_ID: u32 = 12;
    pub(super) const REFERRER: u32 = 13;
    pub(super) const CLIENT_IP: u32 = 14;
    pub(super) const TRAFFIC_FLAGS: u32 = 15;
    pub(super) const PARAMETERS: u32 = 16;
    pub(super) const TRANSACTION_ID: u32 = 17;
    pub(super) const AMOUNT_MICROS: u32 = 18;
    pub(super) const CURRENCY: u32 = 19;
    pub(super) const INVALID_REASON: u32 = 20;
    pub(super) const RECEIVED_AT_MS: u32 = 21;
    pub(super) const CLIENT_EVENT_ID: u32 = 22;
    pub(super) const IMPRESSION_ID: u32 = 23;
    pub(super) const EVENT_NAME: u32 = 24;
    pub(super) const STATUS: u32 = 25;
    pub(super) const HOST: u32 = 27;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event of a usual size takes one allocation, and not much more memory than it needs.
    #[test]
    fn the_buffer_of_an_event_is_large_enough_and_not_much_larger() {
        for length in [0, 1, 40, 300] {
            let text = "x".repeat(length);
            let name = |number: u8| format!("{number}{text}");
            let parameters = (0..4).map(|number| (name(number), text.clone())).collect();
            let request = RequestFields {
                user_agent: &text,
                is_valid: true,
                message_id: "019a9c3e-7d0f-7a51-8f6e-0123456789ab",
                event_type: EventType::Click,
                occurred_at_ms: 1_763_712_000_000,
                received_at_ms: 1_763_712_000_001,
                visitor_id: "",
                click_id: "",
                impression_id: "",
                referrer: &text,
                client_ip: "192.0.2.0",
                traffic_flags: &[],
                parameters: &parameters,
                conversion: None,
                invalid_reason: None,
                client_event_id: "",
                host: &text,
            };
            let mut bytes = Vec::new();
            request.encode(&mut bytes);
            let (hint, needed) = (request.size_hint(), bytes.len());
            assert!((needed..needed + 130).contains(&hint), "{length}: {hint} for {needed}");
        }
    }
}
