//! The tracker over HTTP, against a real redis-server and an embedded Kinesis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod clicks;
mod core_data;
mod delivery;
mod events;
mod helpers;
mod management;
mod open_redirects;
mod programs;
mod settings;
