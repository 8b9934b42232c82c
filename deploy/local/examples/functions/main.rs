//! What the Lambda functions cost: `functions kinesis-consumer|redis-updater [--rounds N]
//! [--report package]`.
//!
//! Runs the real binary of a function, a process of its own, under the local stack's runtime API;
//! DynamoDB and the runtime API are in this process, redis-server in another. What counts is the
//! CPU time of the function's process, so that what else the machine does matters little. Batches of
//! different shapes take turns, and each has a process of its own, whose peak of memory is its own.

#![allow(missing_docs, reason = "an example")]

mod kinesis_consumer;
mod measure;
mod package;
mod redis_updater;
mod turns;

use std::path::PathBuf;
use std::process::ExitCode;

use adtrack_runtime::cli;
use clap::{Parser, ValueEnum};

type Error = Box<dyn std::error::Error>;

/// What a function costs: CPU, memory, and what it asks of its store.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which function.
    #[arg(value_enum)]
    function: FunctionName,
    /// How many times each shape of batch takes its turn.
    #[arg(long, default_value_t = 5, value_parser = cli::integer(1_u32, 1_000))]
    rounds: u32,
    /// Only shapes whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// What to report.
    #[arg(long, value_enum, default_value = "cost")]
    report: Report,
    /// Folder with the function's binary.
    #[arg(long)]
    binaries: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FunctionName {
    KinesisConsumer,
    RedisUpdater,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Report {
    /// CPU time an event or program, memory, calls of the store.
    Cost,
    /// Time from a process's start to its first poll and answer, and for a batch; memory.
    Package,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = match cli::parse() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let finished = match (arguments.function, arguments.report) {
        (FunctionName::KinesisConsumer, Report::Cost) => kinesis_consumer::cost(&arguments).await,
        (FunctionName::KinesisConsumer, Report::Package) => {
            kinesis_consumer::package(&arguments).await
        }
        (FunctionName::RedisUpdater, Report::Cost) => redis_updater::cost(&arguments).await,
        (FunctionName::RedisUpdater, Report::Package) => redis_updater::package(&arguments).await,
    };
    match finished {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("functions: {error}");
            ExitCode::FAILURE
        }
    }
}
