//! The Lambda function that keeps Redis, and through it every tracker, up to date.
//!
//! ```text
//! Kinesis batch → decode ─┬→ store → Redis: compare, store and publish in one step
//!                         └→ records that can never succeed → failure store
//!                  records that a retry may store → batchItemFailures
//! ```

pub mod config;
pub mod decode;
pub mod handler;
pub mod store;
