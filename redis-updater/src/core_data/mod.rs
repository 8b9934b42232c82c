//! The command `core-data`: core data in, and a look at what became of it.
//!
//! ```text
//! publish  file → input: records with line and column → spool: all of them checked
//!                                    spool → outbox: batches → stream: Kinesis, one per region
//! verify   file → input → spool → redis: compared, program by program
//! get, watch                      redis
//! ```
//!
//! `redis` is the only module that knows Redis, `stream` the only one that knows Kinesis.

pub mod arguments;
mod exit;
mod get;
mod input;
mod outbox;
mod output;
mod progress;
mod publish;
mod redis;
mod signals;
mod spool;
mod stream;
mod verify;
mod watch;

pub use exit::{Exit, Failure};

use arguments::Command;

/// Runs one command.
pub async fn run(command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Publish(arguments) => publish::run(arguments).await,
        Command::Get(arguments) => get::run(arguments).await,
        Command::Watch(arguments) => watch::run(arguments).await,
        Command::Verify(arguments) => verify::run(arguments).await,
    }
}
