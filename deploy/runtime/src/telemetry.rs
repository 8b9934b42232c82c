//! Logs: one line an entry on standard output, JSON by default.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How to log.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs")]
pub struct LogSettings {
    /// What to log: a level (error, warn, info, debug, trace) or the directives of
    /// tracing-subscriber's EnvFilter, such as `info,tracker=debug`.
    #[arg(long, env, default_value = "info", value_parser = filter)]
    pub rust_log: String,
    /// How a log line looks.
    #[arg(long, env, default_value = "json")]
    pub log_format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A JSON object a line.
    Json,
    /// For people.
    Text,
}

fn filter(directives: &str) -> Result<String, String> {
    EnvFilter::try_new(directives)
        .map(|_| directives.to_owned())
        .map_err(|error| format!("expected a level or EnvFilter directives: {error}"))
}

/// What is not logged unless a directive of its own asks for it: a line for each request that is no
/// HTTP, with which anybody could fill the log.
const QUIET: &str = "actix_http=off";

/// Begins to log. Panics are logged as errors from here on. Does nothing where the process logs
/// already, as in tests.
pub fn init(settings: &LogSettings) {
    let directives = format!("{QUIET},{}", settings.rust_log);
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(directives));
    let begun = match settings.log_format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => builder.with_ansi(false).try_init(),
    };
    if begun.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            tracing::error!(panic = %panic, "a thread panicked; this is a bug in adtrack");
        }));
    }
}
