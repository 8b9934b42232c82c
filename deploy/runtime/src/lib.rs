//! What every adtrack process does alike around its own work: read its configuration, log, wait before
//! a retry; reach Redis (feature `redis`), write objects (`storage`); and, for the Lambda functions
//! (`lambda`), take a batch of Kinesis records apart and keep what can never succeed.

pub mod backoff;
pub mod cli;
pub mod kinesis_errors;
#[cfg(feature = "lambda")]
pub mod lambda;
#[cfg(feature = "redis")]
pub mod redis_access;
#[cfg(feature = "redis")]
pub mod redis_settings;
#[cfg(feature = "storage")]
pub mod storage;
pub mod telemetry;
