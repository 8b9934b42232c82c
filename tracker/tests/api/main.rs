//! Tests the tracker over HTTP, with a real redis-server and an embedded Kinesis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod acknowledgements;
mod batches;
mod clicks;
mod conversions;
mod core_data;
mod delivery;
mod description;
mod documents;
mod events;
mod field;
mod field_forms;
mod helpers;
mod impressions;
mod integration_guide;
mod journal_files;
mod limits;
mod management;
mod open_redirects;
mod privacy;
mod programs;
mod rate_limits;
mod redis_loss;
mod settings;
mod signals;
mod task_protection;
mod tracker_process;
mod traffic;
