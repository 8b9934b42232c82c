//! From an accepted event to the stream.
//!
//! ```text
//! accept → journal (files, bounded) → aggregate → batch → PutRecords ─┬→ acknowledged: its place is free
//!             ↑ read on a tick, never woken                            └→ failed records alone: again
//! ```
//!
//! The order of events is not kept: records that fail are sent again next to later ones.

mod batch;
pub mod journal;
mod kinesis;
mod producer;
mod redrive;
mod schedule;
mod spill;

pub use journal::{Journal, JournalError, SyncMode};
pub use kinesis::EventStream;
pub use producer::{Delivery, Producer};
pub use redrive::put_all;
pub use spill::{SpillError, SpillStore};
