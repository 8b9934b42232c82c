//! What every adtrack process does alike around its own work: read its configuration, log, find
//! Redis, wait before a retry; and, for the Lambda functions (feature `lambda`), take a batch of Kinesis records apart
//! and keep what can never succeed.

pub mod backoff;
pub mod cli;
#[cfg(feature = "lambda")]
pub mod lambda;
pub mod redis_settings;
#[cfg(feature = "storage")]
pub mod storage;
pub mod telemetry;
