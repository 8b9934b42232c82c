//! The Lambda function that stores events in DynamoDB.
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
pub mod store;
