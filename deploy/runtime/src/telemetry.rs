//! Logs to standard output, one line per entry, JSON by default. Never waits for a reader.

use std::sync::OnceLock;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::log_writer::LogWriter;

/// How long [`flush`] waits at most.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Set once the process logs.
static WRITER: OnceLock<LogWriter> = OnceLock::new();

/// The settings of the log.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs")]
pub struct LogSettings {
    /// What to log: a level (error, warn, info, debug, trace), or directives of tracing-subscriber's
    /// EnvFilter, such as `info,tracker=debug`.
    #[arg(long, env, default_value = "info", value_parser = filter)]
    pub rust_log: String,
    /// Format of a log line.
    #[arg(long, env, default_value = "json")]
    pub log_format: LogFormat,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

fn filter(directives: &str) -> Result<String, String> {
    EnvFilter::try_new(directives)
        .map(|_| directives.to_owned())
        .map_err(|error| format!("expected a level or EnvFilter directives: {error}"))
}

/// Silences actix-http's line per invalid request, which would let anybody fill the log, and actix-server's lines
/// about its threads, which would follow the line with which the tracker ends. `RUST_LOG` can turn them on again.
const QUIET: &str = "actix_http=off,actix_server=warn";

/// Writes the end of the log when it is dropped: half a second at most.
#[must_use]
#[derive(Debug)]
pub struct LogGuard(());

impl Drop for LogGuard {
    fn drop(&mut self) {
        flush();
    }
}

/// Starts to log, including panics, as errors, until the guard is dropped. Does nothing if the process already
/// logs, as in tests.
pub fn init(settings: &LogSettings) -> LogGuard {
    let directives = format!("{QUIET},{}", settings.rust_log);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(|| writer().clone());
    let result = match settings.log_format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => builder.with_ansi(false).try_init(),
    };
    if result.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            tracing::error!(panic = %panic, "a thread panicked; this is a bug in adtrack");
            flush();
        }));
    }
    LogGuard(())
}

fn writer() -> &'static LogWriter {
    WRITER.get_or_init(|| LogWriter::start(std::io::stdout()))
}

/// Writes `line`, which is not a log entry, between the log's lines. Drops it if nobody reads standard output.
pub fn write_line(line: &str) {
    writer().push(format!("{line}\n").as_bytes());
}

/// Waits until the log is written, half a second at most: for the end of a function's invocation, after which
/// Lambda freezes the process, or before an exit that drops nothing.
pub fn flush() {
    if let Some(writer) = WRITER.get() {
        writer.flush(FLUSH_TIMEOUT);
    }
}

/// Log lines dropped so far because nobody read standard output in time.
pub fn dropped_lines() -> u64 {
    WRITER.get().map_or(0, LogWriter::dropped_lines)
}
