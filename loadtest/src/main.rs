//! Sends traffic through a running stack and says what became of it: `make demo`, `make count`.

use std::process::ExitCode;

use adtrack_runtime::cli;
use clap::{Parser, Subcommand};

mod count;
mod demo;
mod stack;
mod traffic;

/// Sends traffic through a running adtrack stack and says what became of it.
///
/// The stack is found by the environment that `make run` writes to target/local-stack.env.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A few hundred mixed requests and one core-data change: the answers, the rows, the times.
    Demo,
    /// Requests at a steady rate, and a count of their rows: no more, no less.
    Count {
        /// How many requests.
        #[arg(long, default_value_t = 10_000, value_parser = cli::integer(1_u32, 10_000_000))]
        requests: u32,
        /// Requests per second.
        #[arg(long, default_value_t = 500, value_parser = cli::integer(1_u32, 20_000))]
        rate: u32,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = match cli::parse() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let stack = match stack::RunningStack::from_environment().await {
        Ok(stack) => stack,
        Err(problem) => return cli::usage_error(&problem),
    };
    let outcome = match arguments.command {
        Command::Demo => demo::run(&stack).await,
        Command::Count { requests, rate } => count::run(&stack, requests, rate).await,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("loadtest: {problem}");
            ExitCode::FAILURE
        }
    }
}
