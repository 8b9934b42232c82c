//! The event on the event stream: `adtrack.v1.TrackingEvent`.

#![allow(missing_docs, reason = "generated; the fields are documented in tracking_event.proto")]

use bytes::{Bytes, BytesMut};
use prost::Message;

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
pub struct ProgramFields(Bytes);

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

    /// The bytes of the whole event: these fields and `rest`, in which they are left empty.
    pub fn with(&self, rest: &TrackingEvent) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.0.len() + rest.encoded_len());
        bytes.extend_from_slice(&self.0);
        rest.encode_raw(&mut bytes);
        bytes.freeze()
    }
}
