//! What adtrack's processes share: configuration, logs and backoff; access to Kinesis streams (feature
//! `kinesis`), Redis (`redis`) and object stores (`storage`); and, for the Lambda functions (`lambda`),
//! parsing a batch of Kinesis records and storing those that can never succeed.
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic if nobody reads them")]

pub mod backoff;
pub mod cli;
#[cfg(feature = "kinesis")]
pub mod kinesis;
#[cfg(feature = "lambda")]
pub mod lambda;
pub mod log_sampling;
pub mod log_writer;
pub mod output;
#[cfg(feature = "redis")]
pub mod redis_access;
#[cfg(feature = "redis")]
pub mod redis_settings;
pub mod settings_table;
#[cfg(feature = "storage")]
pub mod storage;
pub mod telemetry;
