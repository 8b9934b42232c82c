//! The `loadtest` program: reads the command line, runs a command, and sets the exit status.
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic if nobody reads them")]

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use adtrack_runtime::cli as runtime_cli;
use adtrack_runtime::{errln, outln, output};
use loadtest::capacity::{self, Capacity};
use loadtest::cli::{Arguments, CapacityArguments, Command, RunArguments, ScenarioCommand};
use loadtest::compare::{Condition, compare};
use loadtest::report::{Report, file, summary};
use loadtest::run::{self, RunError};
use loadtest::scenario::{BUILT_IN, Scenario};

mod count;
mod demo;
mod stack;
mod traffic;

use count::Load;

/// A threshold was crossed.
const EXIT_THRESHOLD: u8 = 2;
/// The harness was not faithful, or no request got a good response.
const EXIT_INVALID: u8 = 3;
/// The run was interrupted.
const EXIT_INTERRUPTED: u8 = 4;

// The senders are threads of their own; two threads are enough for the rest.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Arguments = match runtime_cli::parse() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    output::finish(execute(arguments.command).await)
}

async fn execute(command: Command) -> ExitCode {
    match command {
        Command::Run(arguments) => run(*arguments).await,
        Command::Capacity(arguments) => capacity(*arguments).await,
        Command::Scenarios => list_scenarios(),
        Command::Scenario { command: ScenarioCommand::Show { name } } => show_scenario(&name),
        Command::Compare { a, b, fail_if } => compare_files(&a, &b, &fail_if),
        Command::Demo => run_on_stack(None).await,
        Command::Count { requests, rate } => run_on_stack(Some(Load { requests, rate })).await,
    }
}

async fn run(arguments: RunArguments) -> ExitCode {
    let outcome = match run::run(arguments).await {
        Ok(outcome) => outcome,
        Err(RunError::Usage(error)) => return runtime_cli::usage_error(error),
        Err(error) => return failure(error),
    };
    let report = &outcome.report;
    outln!("\n{}", summary(report));
    outln!("Report: {}", file(&outcome.base, "html").display());
    outln!("        {}", file(&outcome.base, "json").display());
    for problem in &outcome.problems {
        errln!("loadtest: {problem}");
    }
    if report.run.interrupted {
        ExitCode::from(EXIT_INTERRUPTED)
    } else if !report.verdict.valid || !report.verdict.has_good_response {
        ExitCode::from(EXIT_INVALID)
    } else if report.thresholds.iter().any(|row| row.failed) {
        ExitCode::from(EXIT_THRESHOLD)
    } else if !outcome.problems.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

async fn capacity(arguments: CapacityArguments) -> ExitCode {
    let rate = arguments.from.0;
    if arguments.run.overrides.rate.is_some() || rate < 1.0 || arguments.tolerance.0 < 0.01 {
        return runtime_cli::usage_error(
            "capacity chooses the rate: give no --rate, --from of 1 or more, and --tolerance of 0.01 or more",
        );
    }
    let found = match capacity::search(arguments).await {
        Ok(found) => found,
        Err(RunError::Usage(error)) => return runtime_cli::usage_error(error),
        Err(error) => return failure(error),
    };
    outln!("\n{}", capacity::describe(&found));
    match &found {
        Capacity { ended_early: Some(reason), .. } if reason == "interrupted" => {
            ExitCode::from(EXIT_INTERRUPTED)
        }
        Capacity { ended_early: Some(_), .. } => ExitCode::from(EXIT_INVALID),
        Capacity { held: Some(_), .. } => ExitCode::SUCCESS,
        Capacity { .. } => ExitCode::FAILURE,
    }
}

fn list_scenarios() -> ExitCode {
    for (name, toml) in BUILT_IN {
        match Scenario::parse(toml, name) {
            Ok(scenario) => outln!("{name:<12} {}", scenario.description),
            Err(error) => return failure(error),
        }
    }
    ExitCode::SUCCESS
}

fn show_scenario(name: &str) -> ExitCode {
    match Scenario::load(name) {
        Ok((_, toml)) => {
            output::text(toml);
            ExitCode::SUCCESS
        }
        Err(error) => runtime_cli::usage_error(error),
    }
}

fn compare_files(a: &Path, b: &Path, conditions: &[Condition]) -> ExitCode {
    match (Report::read(a), Report::read(b)) {
        (Ok(a), Ok(b)) => {
            let comparison = compare(&a, &b, conditions);
            output::text(&comparison.text);
            if !conditions.is_empty() && !comparison.both_valid {
                ExitCode::from(EXIT_INVALID)
            } else if !comparison.crossed.is_empty() {
                ExitCode::from(EXIT_THRESHOLD)
            } else {
                ExitCode::SUCCESS
            }
        }
        (Err(error), _) | (_, Err(error)) => runtime_cli::usage_error(error),
    }
}

/// Runs `make demo`, or `make count` if there is a load to count.
async fn run_on_stack(count: Option<Load>) -> ExitCode {
    let stack = match stack::RunningStack::from_environment().await {
        Ok(stack) => stack,
        Err(error) => return runtime_cli::usage_error(error),
    };
    let outcome = match count {
        Some(load) => count::run(&stack, &load).await,
        None => demo::run(&stack).await,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failure(error),
    }
}

fn failure(problem: impl Display) -> ExitCode {
    errln!("loadtest: {problem}");
    ExitCode::FAILURE
}
