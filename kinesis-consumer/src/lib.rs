//! The two Lambda functions that read the event stream: kinesis-consumer stores events in DynamoDB, and the archiver
//! writes them to the [`archive`].
//!
//! ```text
//! Kinesis batch → decode ─┬→ item → store → DynamoDB
//!                         └→ records that can never succeed → failure store
//!                  records that a retry may store → batchItemFailures
//! ```

pub mod archive;
pub mod config;
pub mod decode;
pub mod handler;
pub mod item;
mod repeats;
pub mod row_types;
pub mod store;
