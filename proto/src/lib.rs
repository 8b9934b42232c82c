//! The formats that cross a process boundary, and nothing else: no I/O, no runtime.
//!
//! | format | written by | read by | module |
//! |---|---|---|---|
//! | an event, protobuf on the event stream | tracker | kinesis-consumer, archiver | [`event`] |
//! | many events in one Kinesis record | tracker | kinesis-consumer, archiver, any KPL reader | [`aggregate`] |
//! | what a journal says of itself, protobuf on the event stream | tracker | archiver | [`journal`] |
//! | which events a Kinesis record has, its partition key | tracker | archiver | [`receipt`] |
//! | core data, JSON on the core-data stream | data teams | redis-updater | [`program`] |
//! | core data, a hash in Redis | redis-updater; tracker (samples) | tracker, core-data | [`program`], [`keys`], [`store_script`] |
//! | core data, JSON on the Redis channel | redis-updater; tracker (samples) | tracker, core-data | [`program`] |
//! | a record that can never succeed, JSON in the failure store | all Lambdas | people, replay tools | [`failed_record`] |
//!
//! [`message_id`] and [`rank`] decide which events are the same one, and which of them is kept. [`unfilled`] finds
//! macros that nobody filled, in requests and in core data. [`samples`] has the local stack's programs.

pub mod aggregate;
pub mod aliases;
pub mod event;
pub mod failed_record;
pub mod journal;
pub mod keys;
pub mod landing_url;
pub mod members;
pub mod message_id;
pub mod program;
mod program_id;
mod program_json;
pub mod rank;
pub mod receipt;
pub mod samples;
pub mod sequence_number;
pub mod store_script;
pub mod unfilled;
mod validity;
mod version;
pub mod web_url;

pub use program_id::{InvalidProgramId, ProgramId};
pub use version::{InvalidVersion, Version};
