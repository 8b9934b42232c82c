//! The command `core-data`: feeds core data, and shows what became of it.
//!
//! ```text
//! publish  file → input: records with line and column → spool: all of them checked
//!                                    spool → outbox: batches → stream: Kinesis, one per region
//! verify   file → input → spool → redis: compared, program by program
//! get, watch                      redis
//! ```
//!
//! `redis` is the only module that knows Redis, `stream` the only one that knows Kinesis.

mod arguments;
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

use std::process::ExitCode;

use adtrack_runtime::cli;
use arguments::{Arguments, Command};
use exit::{Exit, Failure};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = match cli::parse() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    match run(&arguments.command).await {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("core-data: {failure}");
            failure.exit.into()
        }
    }
}

async fn run(command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Publish(arguments) => publish::run(arguments).await,
        Command::Get(arguments) => get::run(arguments).await,
        Command::Watch(arguments) => watch::run(arguments).await,
        Command::Verify(arguments) => verify::run(arguments).await,
    }
}
