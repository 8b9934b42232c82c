//! `make run`: runs the stack in the foreground until Ctrl-C.
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic if nobody reads them")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use adtrack_runtime::telemetry::{self, LogFormat, LogSettings};
use adtrack_runtime::{cli, errln, outln, output};
use clap::Parser;
use local_stack::ports::Port;
use local_stack::stack::PortPlan;
use local_stack::{Stack, StackError, StackOptions};
use tokio::signal::unix::{SignalKind, signal};

mod env_file;
mod parent;
mod report;
mod watch;

use env_file::EnvFile;

/// Runs the whole adtrack pipeline on this machine: Kinesis and DynamoDB embedded, redis-server, the
/// tracker and the Lambda functions as real processes.
///
/// If a default port is busy, the stack takes the next free one. Ctrl-C, SIGINT or SIGTERM stops
/// everything.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Folder with the binaries of tracker, kinesis-consumer, archiver and redis-updater.
    /// [default: the folder of this program]
    #[arg(long)]
    binaries: Option<PathBuf>,
    /// Folder for logs, failed records, the archive and the journal.
    /// [default: local-stack/run-PID next to the folder of the binaries]
    #[arg(long)]
    folder: Option<PathBuf>,
    /// File for `export NAME=value` lines.
    /// [default: local-stack.env next to the folder of the binaries; local-stack-2.env and so on
    /// while other stacks have it]
    #[arg(long)]
    env_file: Option<PathBuf>,
    /// First port to try for the tracker's public listener.
    #[arg(long, default_value_t = 8080)]
    tracker_port: u16,
    /// First port to try for the tracker's management listener.
    #[arg(long, default_value_t = 9090)]
    management_port: u16,
    /// First port to try for Kinesis.
    #[arg(long, default_value_t = 4567)]
    kinesis_port: u16,
    /// First port to try for DynamoDB.
    #[arg(long, default_value_t = 8000)]
    dynamodb_port: u16,
    /// First port to try for Redis.
    #[arg(long, default_value_t = 6379)]
    redis_port: u16,
    /// Number of shards per stream, and of sandboxes per function.
    #[arg(long, default_value_t = 2, value_parser = cli::integer(1_i32, 100))]
    shards: i32,
    /// Milliseconds that a batch waits to fill before its function is invoked.
    #[arg(long, default_value = "0", value_parser = cli::milliseconds(0, 300_000))]
    batching_window_ms: Duration,
    /// Do not start a tracker, so that you can start one by hand.
    #[arg(long)]
    no_tracker: bool,
    /// Do not start the functions: the streams fill up, and nothing reads them.
    #[arg(long)]
    no_functions: bool,
    /// Also stop when the program that started this one ends or is interrupted.
    #[arg(long)]
    stop_with_parent: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = match cli::parse() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let _log = telemetry::init(&LogSettings {
        rust_log: std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()),
        log_format: LogFormat::Text,
    });
    match run(arguments).await {
        Ok(()) => output::finish(ExitCode::SUCCESS),
        Err(error) => {
            errln!("local-stack: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), StackError> {
    let started = Instant::now();
    let binaries = match arguments.binaries {
        Some(folder) => std::path::absolute(&folder).map_err(|e| StackError::File(folder, e))?,
        None => own_folder()?,
    };
    let target = binaries.parent().unwrap_or(&binaries).to_owned();
    let folder = arguments.folder.unwrap_or_else(|| run_folder(&target));
    let options = StackOptions {
        ports: PortPlan {
            kinesis: Port::From(arguments.kinesis_port),
            dynamodb: Port::From(arguments.dynamodb_port),
            redis: Port::From(arguments.redis_port),
            tracker: Port::From(arguments.tracker_port),
            management: Port::From(arguments.management_port),
        },
        shards: arguments.shards,
        batching_window: arguments.batching_window_ms,
        functions: !arguments.no_functions,
        tracker_environment: if arguments.no_tracker { None } else { Some(Vec::new()) },
        ..StackOptions::new(&binaries, &folder)
    };

    let stop = wait_for_stop_request(arguments.stop_with_parent);
    tokio::pin!(stop);
    // If the stack is stopped while it starts, dropping it kills what already runs.
    let mut stack = tokio::select! {
        stack = start(&options) => stack?,
        () = &mut stop => return Ok(()),
    };
    let mut environment = stack.environment.clone();
    environment.push(("BIN".to_owned(), binaries.display().to_string()));
    let env_file = match &arguments.env_file {
        Some(file) => EnvFile::write(file, &environment)?,
        None => EnvFile::write_first_free(&target.join("local-stack.env"), &environment)?,
    };
    report::announce(&stack, &options, &env_file, started.elapsed());
    tokio::select! {
        () = &mut stop => {}
        () = watch::run(&mut stack, &folder) => {}
    }
    outln!(
        "\nStopping: the tracker drains, then the rest ends. Press Ctrl-C again to stop at once."
    );
    let again = wait_for_signal();
    tokio::select! {
        () = stack.stop() => {}
        // Dropping the stack kills what still runs.
        () = again => {}
    }
    env_file.remove();
    outln!("Stopped.");
    Ok(())
}

async fn start(options: &StackOptions) -> Result<Stack, StackError> {
    let stack = Stack::start(options).await?;
    if options.tracker_environment.is_some() {
        stack.load_samples().await?;
    }
    Ok(stack)
}

/// Waits for a signal or, if `with_parent`, for the end of the parent process.
async fn wait_for_stop_request(with_parent: bool) {
    tokio::select! {
        () = wait_for_signal() => {}
        () = parent::wait_for_end(), if with_parent => {}
    }
}

async fn wait_for_signal() {
    let mut terminate = signal(SignalKind::terminate()).ok();
    let mut interrupt = signal(SignalKind::interrupt()).ok();
    let mut hang_up = signal(SignalKind::hangup()).ok();
    tokio::select! {
        Some(_) = next_signal(&mut terminate) => {}
        Some(_) = next_signal(&mut interrupt) => {}
        Some(_) = next_signal(&mut hang_up) => {}
        // None of them can be listened for.
        else => std::future::pending().await,
    }
}

async fn next_signal(signal: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => None,
    }
}

fn own_folder() -> Result<PathBuf, StackError> {
    let file_error = |error| StackError::File(PathBuf::from("local-stack"), error);
    let program = std::env::current_exe().map_err(file_error)?;
    Ok(program.parent().map_or_else(|| PathBuf::from("."), Path::to_owned))
}

/// The folder of this run. Removes the folders of runs that have ended.
fn run_folder(target: &Path) -> PathBuf {
    let runs = target.join("local-stack");
    for entry in std::fs::read_dir(&runs).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("run-"));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // If it cannot be removed now, the next start tries again.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    runs.join(format!("run-{}", std::process::id()))
}
