//! Delivery of accepted events to the stream.
//!
//! ```text
//! accept → journal (files, bounded) → aggregate → batch → PutRecords ─┬→ delivered: its place is free
//!             ↑ read on a tick, never woken                            └→ rejected records alone: again
//! ```
//!
//! - [`journal`] holds every accepted event until the stream has it. It is the only queue.
//! - `producer` is the one consumer of the journal, a task. It reads every `LINGER_MS`, since waking it
//!   per event would cost more than the rest of a request; packs events into aggregates of about 50 KB (a
//!   Kinesis record in the KPL's format) and those into `batch`es of up to 1 MiB; calls the stream; frees
//!   what the stream took.
//! - `schedule` decides when it calls and what it sends again. It is pure and has no clock.
//! - `kinesis` makes the call; the client's settings, the classes of errors and partial failures are those
//!   of [`adtrack_runtime::kinesis`], shared with everything that writes to a stream.
//! - `spill` writes at shutdown what could not be delivered in time; `redrive` puts it on the stream later.
//!
//! # Invariants
//!
//! 1. Delivery is at least once: a place in the journal is freed only when the stream has acknowledged the
//!    event with a sequence number. An event that is delivered twice has the same message id, so it becomes
//!    the same row.
//! 2. Memory is bounded: at most 6 MiB of events are read and not acknowledged, and at most four calls are
//!    under way, each with one copy of its batch. In an outage events wait on disk.
//! 3. Nothing that is rejected holds back what follows it: rejected records are sent again, alone, under
//!    another partition key, outside and inside.
//! 4. The order of events is not kept.
//!
//! A crash leaves the journal as it is; the next start delivers from there.

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
