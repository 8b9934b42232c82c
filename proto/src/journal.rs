//! What a journal says of itself on the event stream; journal.proto documents the fields.

pub use crate::event::{JournalNotice, journal_notice};
