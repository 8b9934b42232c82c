//! The command `core-data`, run as a data team runs it: with a real Redis, an embedded Kinesis and
//! redis-updater behind an event-source mapping.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod local;
mod look;
mod publish;
mod repair;
