//! The Lambda function that keeps Redis, and through it every tracker, up to date; and the command
//! that feeds it ([`core_data`]).
//!
//! ```text
//! Kinesis batch → decode ─┬→ store → Redis: compare, store and publish in one step
//!                         └→ what can never succeed → failure store
//!                  what a retry may mend → batchItemFailures
//! ```

pub mod config;
pub mod core_data;
pub mod decode;
pub mod handler;
pub mod store;
