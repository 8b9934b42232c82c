//! The whole pipeline on one machine, without an AWS account.
//!
//! ```text
//! tracker (real) ──→ Kinesis (ferrokinesis, embedded) ──┬→ kinesis-consumer (real bootstrap) ──→ DynamoDB (dynoxide, embedded)
//!    ↑                                                  └→ archiver (real bootstrap) ──→ archive (a folder)
//!    ↑ L1 ← pub/sub ─ redis-server (real) ←── redis-updater (real bootstrap) ←── Kinesis: core data
//! ```
//!
//! [`lambda`] does what AWS does between the streams and the functions: it has the runtime API that a
//! bootstrap binary talks to, and an event-source mapping per stream. Each test starts its own [`Stack`]
//! on free ports.

pub mod archive;
pub mod aws;
pub mod damage;
pub mod error;
pub mod faults;
pub mod index_partitions;
pub mod lambda;
pub mod ports;
pub mod process;
pub mod redis_server;
pub mod stack;
pub mod tcp_proxy;
pub mod tracker;

pub use error::StackError;
pub use redis_server::RedisServer;
pub use stack::{Stack, StackOptions};
