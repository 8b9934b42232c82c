//! The command `core-data`: publishes core data, and shows what Redis holds.
//!
//! ```text
//! publish  file → input: records with line and column → spool: checks all of them
//!                                    spool → outbox: batches → stream: Kinesis, one per region
//! verify   file → input → spool → redis: compares, program by program
//! get, watch, mark-loaded         redis
//! repair   file → input → spool → stream
//! ```
//!
//! Only `redis` knows Redis, and only `stream` knows Kinesis.
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic if nobody reads them")]

mod arguments;
mod exit;
mod get;
mod input;
mod mark_loaded;
mod outbox;
mod progress;
mod publish;
mod redis;
mod repair;
mod signals;
mod spool;
mod stream;
mod verify;
mod watch;

use std::process::ExitCode;

use adtrack_runtime::{cli, errln, output};
use arguments::{Arguments, Command};
use exit::{Exit, Failure};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = match cli::parse() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    output::finish(match run(&arguments.command).await {
        Ok(exit) => exit.into(),
        Err(failure) => {
            errln!("core-data: {failure}");
            failure.exit.into()
        }
    })
}

async fn run(command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Publish(arguments) => publish::run(arguments).await,
        Command::Get(arguments) => get::run(arguments).await,
        Command::Watch(arguments) => watch::run(arguments).await,
        Command::Verify(arguments) => verify::run(arguments).await,
        Command::MarkLoaded(arguments) => mark_loaded::run(arguments).await,
        Command::Repair(arguments) => repair::run(arguments).await,
    }
}
