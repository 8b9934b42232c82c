//! What adtrack's processes share around their own work: reading the configuration, logging, waiting
//! before a retry; writing to a stream (feature `kinesis`), reaching Redis (`redis`), writing objects
//! (`storage`); and, for the Lambda functions (`lambda`), taking a batch of Kinesis records apart and
//! keeping those that can never succeed.

pub mod backoff;
pub mod cli;
#[cfg(feature = "kinesis")]
pub mod kinesis;
#[cfg(feature = "lambda")]
pub mod lambda;
pub mod log_sampling;
#[cfg(feature = "redis")]
pub mod redis_access;
#[cfg(feature = "redis")]
pub mod redis_settings;
pub mod settings_table;
#[cfg(feature = "storage")]
pub mod storage;
pub mod telemetry;
