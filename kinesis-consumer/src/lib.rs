//! The Lambda function that persists events.
//!
//! ```text
//! Kinesis batch → decode ─┬→ item → store → DynamoDB
//!                         └→ what can never succeed → failure store
//!                  what a retry may mend → batchItemFailures
//! ```

pub mod config;
pub mod decode;
pub mod handler;
pub mod item;
pub mod store;
