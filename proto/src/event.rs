//! The event on the event stream: `adtrack.v1.TrackingEvent`.

#![allow(missing_docs, reason = "generated; the fields are documented in tracking_event.proto")]

use std::collections::BTreeMap;

use prost::encoding::{WireType, encode_key, encode_varint};
use prost::{Message, length_delimiter_len};

use crate::program::Program;

include!(concat!(env!("OUT_DIR"), "/adtrack.v1.rs"));

/// Why an event is not valid, as `invalid_reason` on the wire and in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidReason {
    /// The program's `valid` flag is false.
    ProgramDisabled,
    /// Now is before the program's `validFrom`.
    ProgramNotStarted,
    /// Now is not before the program's `validUntil`.
    ProgramEnded,
}

impl InvalidReason {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProgramDisabled => "program_disabled",
            Self::ProgramNotStarted => "program_not_started",
            Self::ProgramEnded => "program_ended",
        }
    }
}

/// The part of an event that is the same for every event of a program, encoded once.
///
/// Two encoded protobuf messages that follow each other decode as their merge (protobuf encoding
/// guide, "Last One Wins"), so an event is these bytes followed by the encoded rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramFields(Box<[u8]>);

impl ProgramFields {
    /// Encodes what an event takes from its program.
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

    /// The event as far as the program goes.
    pub fn to_event(&self) -> TrackingEvent {
        TrackingEvent::decode(&*self.0).unwrap_or_default()
    }

    /// The bytes of the whole event: these fields, and those of the request.
    pub fn with(&self, request: &RequestFields<'_>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() + request.size_hint());
        bytes.extend_from_slice(&self.0);
        request.encode(&mut bytes);
        bytes
    }
}

/// The part of an event that a request brings, borrowed: encoded for every event, without a copy of
/// each text on the way. What is empty or zero is left out, as protobuf has it.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "documented in tracking_event.proto")]
pub struct RequestFields<'a> {
    pub user_agent: &'a str,
    pub is_valid: bool,
    pub message_id: &'a str,
    pub event_type: EventType,
    pub occurred_at_ms: i64,
    pub received_at_ms: i64,
    pub referrer: &'a str,
    pub parameters: &'a BTreeMap<String, String>,
    pub invalid_reason: Option<InvalidReason>,
    pub host: &'a str,
}

impl RequestFields<'_> {
    /// Enough, as a rule, that the buffer does not grow.
    fn size_hint(&self) -> usize {
        let texts = self.user_agent.len() + self.referrer.len() + self.host.len();
        let parameters = self.parameters.iter().map(|(name, value)| name.len() + value.len() + 12);
        texts + parameters.sum::<usize>() + 100
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        use tag::{
            EVENT_TYPE, HOST, INVALID_REASON, IS_VALID, MESSAGE_ID, OCCURRED_AT_MS, PARAMETERS,
            RECEIVED_AT_MS, REFERRER, USER_AGENT,
        };
        text(bytes, USER_AGENT, self.user_agent);
        number(bytes, IS_VALID, self.is_valid.into());
        text(bytes, MESSAGE_ID, self.message_id);
        number(bytes, EVENT_TYPE, i32::from(self.event_type).into());
        number(bytes, OCCURRED_AT_MS, self.occurred_at_ms);
        text(bytes, REFERRER, self.referrer);
        for (name, value) in self.parameters {
            // A map is a message of key and value for each of its entries.
            let sizes = [name, value].map(|part| match part.len() {
                0 => 0,
                length => 1 + length_delimiter_len(length) + length,
            });
            encode_key(PARAMETERS, WireType::LengthDelimited, bytes);
            encode_varint(sizes.iter().sum::<usize>() as u64, bytes);
            text(bytes, 1, name);
            text(bytes, 2, value);
        }
        text(bytes, INVALID_REASON, self.invalid_reason.map_or("", InvalidReason::as_str));
        number(bytes, RECEIVED_AT_MS, self.received_at_ms);
        text(bytes, HOST, self.host);
    }
}

fn text(bytes: &mut Vec<u8>, tag: u32, text: &str) {
    if !text.is_empty() {
        encode_key(tag, WireType::LengthDelimited, bytes);
        encode_varint(text.len() as u64, bytes);
        bytes.extend_from_slice(text.as_bytes());
    }
}

fn number(bytes: &mut Vec<u8>, tag: u32, number: i64) {
    if number != 0 {
        encode_key(tag, WireType::Varint, bytes);
        encode_varint(number.cast_unsigned(), bytes);
    }
}

/// Field numbers of tracking_event.proto; tests/formats.rs compares with what prost reads.
mod tag {
    pub(super) const USER_AGENT: u32 = 4;
    pub(super) const IS_VALID: u32 = 7;
    pub(super) const MESSAGE_ID: u32 = 8;
    pub(super) const EVENT_TYPE: u32 = 9;
    pub(super) const OCCURRED_AT_MS: u32 = 10;
    pub(super) const REFERRER: u32 = 13;
    pub(super) const PARAMETERS: u32 = 16;
    pub(super) const INVALID_REASON: u32 = 20;
    pub(super) const RECEIVED_AT_MS: u32 = 21;
    pub(super) const HOST: u32 = 27;
}
