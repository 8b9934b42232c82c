//! What a journal says of itself, decoded. Pure.

use adtrack_proto::journal::JournalNotice;
use adtrack_proto::journal::journal_notice::Kind;
use prost::{DecodeError, Message};

/// A notice of a kind that this version knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// The kind's name in receipts.
    pub kind: &'static str,
    /// What it says.
    pub notice: JournalNotice,
}

/// Why a notice cannot be archived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNotice {
    /// Another message, or none.
    #[error("its notice is not a JournalNotice: {0}")]
    Malformed(DecodeError),
    /// Of a later version.
    #[error("its JournalNotice has the unknown kind {0}")]
    UnknownKind(i32),
}

impl Notice {
    /// Decodes a notice.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidNotice> {
        let notice = JournalNotice::decode(bytes).map_err(InvalidNotice::Malformed)?;
        let kind = match notice.kind() {
            Kind::Unspecified => return Err(InvalidNotice::UnknownKind(notice.kind)),
            Kind::Opened => "opened",
            Kind::Heartbeat => "heartbeat",
            Kind::Damaged => "damaged",
            Kind::Closed => "closed",
        };
        Ok(Self { kind, notice })
    }
}
