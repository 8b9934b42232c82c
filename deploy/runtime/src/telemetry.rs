//! Logs to standard output, one line per entry, JSON by default.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

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

/// Silences actix-http's line per invalid request, which would let anybody fill the log. `RUST_LOG` can turn it
/// on again.
const QUIET: &str = "actix_http=off";

/// Starts to log, including panics, as errors. Does nothing if the process already logs, as in tests.
pub fn init(settings: &LogSettings) {
    let directives = format!("{QUIET},{}", settings.rust_log);
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(directives));
    let result = match settings.log_format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => builder.with_ansi(false).try_init(),
    };
    if result.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            tracing::error!(panic = %panic, "a thread panicked; this is a bug in adtrack");
        }));
    }
}
