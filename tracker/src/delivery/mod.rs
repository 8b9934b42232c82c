//! From an accepted event to the stream.
//!
//! ```text
//! accept → buffer (bounded) → batch → PutRecords ─┬→ acknowledged: forgotten
//!             ↑ drained on a tick, never woken     └→ failed entries alone: again, after a backoff
//! ```
//!
//! The order of events is not kept: entries that fail go again beside later ones.

mod batch;
mod buffer;
mod kinesis;
mod producer;

pub use buffer::EventBuffer;
pub use kinesis::KinesisStream;
pub use producer::{Delivery, Drained, Producer};
