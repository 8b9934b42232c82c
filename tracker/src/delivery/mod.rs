//! Delivery of accepted events to the stream.
//!
//! ```text
//! accept → journal (files, bounded) → aggregate → batch → PutRecords ─┬→ delivered: its space is freed
//!             ↑ read on a tick, never woken                            └→ rejected: retried alone
//! ```
//!
//! - [`journal`] holds every accepted event until the stream has it. It is the only queue.
//! - `producer` is a task, the only consumer of the journal. Every `LINGER_MS` it
//!   1. reads events (it is never woken: that would cost more per event than the rest of a request),
//!   2. packs them into aggregates of about 50 KB, each a Kinesis record in the KPL's format, and those
//!      into `batch`es of up to 1 MiB,
//!   3. calls the stream, and frees the space of what the stream took.
//! - `schedule` decides when it calls and what it sends again. It is pure and has no clock.
//! - `kinesis` makes the call; the client's settings, the classes of errors and partial failures are those
//!   of [`adtrack_runtime::kinesis`], shared with everything that writes to a stream.
//! - `receipt` makes a record's partition key: where its events are in the journal. `notices` says the rest of what a
//!   reader needs to know that nothing is missing.
//! - `spill` writes at shutdown what could not be delivered in time; `redrive` puts it on the stream later.
//!
//! # Invariants
//!
//! 1. Delivery is at least once: an event's space in the journal is freed only when the stream has
//!    acknowledged the event with a sequence number. An event that is delivered twice has the same message id, so it becomes
//!    the same row.
//! 2. Memory is bounded: at most 6 MiB of events are read and not acknowledged, and at most four calls are
//!    in flight, each with one copy of its batch. In an outage events wait on disk.
//! 3. A rejected record never holds back later ones: it is retried without them, under another partition
//!    key, inside the aggregate as well as outside.
//! 4. The order of events is not kept.
//!
//! A crash leaves the journal as it is; the next start delivers from there.

mod batch;
pub mod journal;
mod kinesis;
mod notices;
mod producer;
mod receipt;
mod redrive;
mod schedule;
mod spill;

pub use batch::StreamRecord;
pub use journal::{Journal, JournalError, JournalReader, JournalWatch, Salvage, SyncMode};
pub use kinesis::EventStream;
pub use producer::{Delivery, Producer};
pub use redrive::{RedriveError, put_all, put_journal, put_records};
pub use spill::{SpillError, SpillStore};
