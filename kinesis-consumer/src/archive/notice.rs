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
    pub message: JournalNotice,
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
        let message = JournalNotice::decode(bytes).map_err(InvalidNotice::Malformed)?;
        let kind = match message.kind() {
            Kind::Unspecified => return Err(InvalidNotice::UnknownKind(message.kind)),
            Kind::Opened => "opened",
            Kind::Heartbeat => "heartbeat",
            Kind::Damaged => "damaged",
            Kind::Closed => "closed",
        };
        Ok(Self { kind, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kinds_and_rejects_others() {
        let decode = |kind| {
            let notice = JournalNotice { kind, at_ms: 7, ..JournalNotice::default() };
            let decoded = Notice::decode(&notice.encode_to_vec());
            decoded.map(|decoded| (decoded.kind, decoded.message.at_ms))
        };
        let kinds = ["opened", "heartbeat", "damaged", "closed"];
        for (kind, name) in (1..).zip(kinds) {
            assert_eq!(decode(kind), Ok((name, 7)));
        }
        for kind in [0, 5, -1] {
            assert_eq!(decode(kind), Err(InvalidNotice::UnknownKind(kind)));
        }
        let malformed = Notice::decode(b"\xff").unwrap_err().to_string();
        assert!(malformed.starts_with("its notice is not a JournalNotice"), "{malformed}");
    }
}
