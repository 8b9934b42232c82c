//! The command `core-data`, run as a data team runs it: real Redis, embedded Kinesis, the function
//! behind an event-source mapping.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod local;
mod look;
mod publish;
