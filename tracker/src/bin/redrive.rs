//! Puts events that trackers spilled at shutdown on the event stream.
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic if nobody reads them")]

use std::process::ExitCode;

use adtrack_runtime::cli::{self, non_empty};
use adtrack_runtime::storage::storage_url;
use adtrack_runtime::telemetry::{self, LogSettings};
use adtrack_runtime::{errln, outln, output};
use aws_config::BehaviorVersion;
use clap::Parser;
use tracker::delivery::{EventStream, SpillStore, put_all};

/// Puts the events that trackers left at SPILL_URL on the event stream, and removes each object once the
/// stream has its events.
///
/// It is safe to run it again, or several at a time: an event's id is the key of its row. AWS region,
/// endpoints and credentials come from the AWS SDK's default chain.
#[derive(Debug, Parser)]
#[command(version, after_help = HELP)]
struct Arguments {
    /// Where the events are: s3://BUCKET/PREFIX or file:///FOLDER.
    #[arg(long, env, value_parser = storage_url)]
    spill_url: String,
    /// Name of the Kinesis stream that receives the events.
    #[arg(long, env, default_value = "adtrack-events", value_parser = non_empty("the name of a Kinesis stream"))]
    event_stream: String,
    /// Keep the objects.
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    logs: LogSettings,
}

const HELP: &str = "\
Exit status: 0 everything is on the stream; 1 objects failed and are kept; 64 usage; 74 everything is on the \
stream, but standard output could not be written. A closed standard output ends the report, not the work.";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = match cli::parse() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let store = match SpillStore::open(&arguments.spill_url) {
        Ok(store) => store,
        Err(problem) => {
            let url = &arguments.spill_url;
            return cli::usage_error(&format!(
                "SPILL_URL={url:?}: {problem}; {}",
                adtrack_runtime::storage::EXPECTED
            ));
        }
    };
    telemetry::init(&arguments.logs);
    let shared = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let stream = EventStream::new(&shared, arguments.event_stream);
    output::finish(match redrive(&store, &stream, arguments.keep).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            errln!("redrive: {failed} objects failed and are kept; the log says why");
            ExitCode::FAILURE
        }
        Err(error) => {
            errln!("redrive: {error}");
            ExitCode::FAILURE
        }
    })
}

/// Returns how many objects failed.
async fn redrive(store: &SpillStore, stream: &EventStream, keep: bool) -> Result<usize, String> {
    let names = store.list().await.map_err(|error| error.to_string())?;
    outln!("{} objects", names.len());
    let mut failed = 0;
    for name in names {
        let outcome = async {
            let events = store.read(&name).await.map_err(|error| error.to_string())?;
            let count = events.len();
            put_all(stream, events).await?;
            if !keep {
                store.remove(&name).await.map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(count)
        };
        match outcome.await {
            Ok(count) => outln!("{name}: {count} events"),
            Err(error) => {
                failed += 1;
                tracing::error!(object = %name, error, "the object cannot be redriven; it is kept");
            }
        }
    }
    Ok(failed)
}
