//! Measures what the Lambda functions cost: `functions kinesis-consumer|archiver|redis-updater
//! [--rounds N] [--report package]`.
//!
//! Runs the real binary of a function under the local stack's runtime API. The function, DynamoDB with
//! the runtime API, and redis-server are three processes. The measure is the CPU time of the function's
//! process, so that other work on the machine matters little. Batches of different shapes take turns.
//! Each shape has its own process, and so its own peak memory.

#![allow(missing_docs, reason = "an example")]

mod archiver;
mod batches;
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

/// Measures what a function costs: CPU time, memory, and calls of its store.
#[derive(Debug, Parser)]
struct Arguments {
    /// The function to measure.
    #[arg(value_enum)]
    function: FunctionName,
    /// Number of turns of each shape of batch.
    #[arg(long, default_value_t = 5, value_parser = cli::integer(1_u32, 1_000))]
    rounds: u32,
    /// Measure only shapes whose name contains this text.
    #[arg(long, default_value = "")]
    only: String,
    /// The figures to report.
    #[arg(long, value_enum, default_value = "cost")]
    report: Report,
    /// Folder with the function's binary.
    #[arg(long)]
    binaries: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FunctionName {
    Archiver,
    KinesisConsumer,
    RedisUpdater,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Report {
    /// CPU time per event or program, memory, calls of the store.
    Cost,
    /// Time from the start of a process to its first poll and response, time per batch, memory.
    Package,
    /// Bytes per event in an archive of as many full batches as there are rounds.
    Size,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = match cli::parse() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let finished = match (arguments.function, arguments.report) {
        (FunctionName::Archiver, Report::Cost) => archiver::cost(&arguments).await,
        (FunctionName::Archiver, Report::Package) => archiver::package(&arguments).await,
        (FunctionName::Archiver, Report::Size) => archiver::size_of_archive(&arguments).await,
        (_, Report::Size) => Err("--report size: only the archiver has an archive".into()),
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
