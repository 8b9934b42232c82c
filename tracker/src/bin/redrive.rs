//! Puts events on the event stream that trackers could not deliver: what they spilled at shutdown, and what is
//! left in a journal.
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic if nobody reads them")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use adtrack_runtime::cli::{self, non_empty};
use adtrack_runtime::storage::{EXPECTED, storage_url};
use adtrack_runtime::telemetry::{self, LogSettings};
use adtrack_runtime::{errln, outln, output};
use aws_config::BehaviorVersion;
use clap::{Parser, Subcommand};
use tracker::delivery::{
    EventStream, Journal, JournalError, RedriveError, Salvage, SpillError, SpillStore, put_all,
    put_journal, put_records,
};

/// Bytes of a journal's events that are put on the stream at a time.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;

/// Puts the events that trackers left at SPILL_URL on the event stream, and removes each object once the
/// stream has its events.
///
/// It is safe to run it again, or several at a time: an event's id is the key of its row. AWS region,
/// endpoints and credentials come from the AWS SDK's default chain.
#[derive(Debug, Parser)]
#[command(version, subcommand_negates_reqs = true, after_help = HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where the events are: s3://BUCKET/PREFIX or file:///FOLDER.
    #[arg(long, env, required = true, value_parser = storage_url)]
    spill_url: Option<String>,
    /// Name of the Kinesis stream that receives the events.
    #[arg(long, env, global = true, default_value = "adtrack-events", value_parser = non_empty("the name of a Kinesis stream"))]
    event_stream: String,
    /// Keep the objects or files.
    #[arg(long, global = true)]
    keep: bool,
    #[command(flatten)]
    logs: LogSettings,
}

const HELP: &str = "\
Exit status: 0 everything is on the stream; 1 objects or files failed, or hold no event, and are kept; 64 usage error; 74 everything is \
on the stream, but standard output could not be written. A closed standard output ends the report, not the work.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Puts the events of a tracker's journal on the stream instead: all that can still be recognized in files
    /// that the tracker has set aside as damaged, and, if no tracker uses the folder, what waits in its rings.
    ///
    /// Removes a damaged file once the stream has its events; one without any is kept. A damaged file may hold events that were delivered
    /// before; they become the same rows.
    Journal {
        /// The tracker's JOURNAL_DIR.
        folder: PathBuf,
    },
}

/// Where the events come from.
enum Source {
    Journal(PathBuf),
    Spilled(SpillStore),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = match cli::parse() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let source = match (arguments.command, arguments.spill_url) {
        (Some(Command::Journal { folder }), _) => Source::Journal(folder),
        (None, url) => {
            let url = url.unwrap_or_default();
            match SpillStore::open(&url) {
                Ok(store) => Source::Spilled(store),
                Err(problem) => {
                    return cli::usage_error(format!("SPILL_URL={url:?}: {problem}; {EXPECTED}"));
                }
            }
        }
    };
    let _log = telemetry::init(&arguments.logs);
    let shared = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let stream = EventStream::new(&shared, arguments.event_stream);
    let (outcome, kind) = match &source {
        Source::Journal(folder) => {
            (redrive_journal(folder, &stream, arguments.keep).await, "files")
        }
        Source::Spilled(store) => (redrive(store, &stream, arguments.keep).await, "objects"),
    };
    output::finish(match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            errln!(
                "redrive: {failed} {kind} failed, or hold no event, and are kept; the log says why"
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            errln!("redrive: {error}");
            ExitCode::FAILURE
        }
    })
}

/// Why events are not redriven.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Spill(#[from] SpillError),
    #[error(transparent)]
    Redrive(#[from] RedriveError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("{0:?}: {1}")]
    File(PathBuf, std::io::Error),
}

/// Redrives a journal. Returns how many of its files are kept because they failed or hold no event.
async fn redrive_journal(
    folder: &Path,
    stream: &EventStream,
    keep: bool,
) -> Result<usize, Failure> {
    // First, because it sets files aside that no tracker has tried to open yet.
    match drain(folder, stream, keep).await {
        Ok(count) => outln!("{}: {count} events", folder.display()),
        Err(Failure::Journal(JournalError::Locked(_))) => {
            outln!("{}: a tracker uses it; only damaged files are read", folder.display());
        }
        Err(error) => return Err(error),
    }
    let files = Salvage::files(folder).map_err(|error| Failure::File(folder.to_owned(), error))?;
    outln!("{} damaged files", files.len());
    let mut failed = 0;
    for file in files {
        match salvage(&file, stream, keep).await {
            Ok(count) => {
                outln!("{}: {count} events", file.display());
                if count == 0 && !keep {
                    failed += 1;
                    tracing::warn!(file = %file.display(), "no event is recognized in the file; it is kept for somebody to look at and remove");
                }
            }
            Err(error) => {
                failed += 1;
                tracing::error!(file = %file.display(), %error, "the file cannot be redriven; it is kept");
            }
        }
    }
    Ok(failed)
}

/// Puts on the stream what waits in the rings. Returns how many events that was.
async fn drain(folder: &Path, stream: &EventStream, keep: bool) -> Result<usize, Failure> {
    let reader = Journal::open_to_drain(folder)?;
    Ok(put_journal(stream, reader, keep).await?)
}

/// Puts on the stream what can be recognized in a damaged file. Returns how many events that was.
async fn salvage(file: &Path, stream: &EventStream, keep: bool) -> Result<usize, Failure> {
    let opened = Salvage::open(file);
    let opened = opened.map_err(|error| JournalError::File(file.to_owned(), error))?;
    let Some(mut salvage) = opened else { return Ok(0) };
    let mut count = 0;
    loop {
        let (mut events, mut bytes) = (Vec::new(), 0);
        while bytes < CHUNK_BYTES
            && let Some(event) = salvage.next()
        {
            bytes += event.len();
            events.push(event);
        }
        if events.is_empty() {
            break;
        }
        count += events.len();
        put_all(stream, events).await?;
    }
    if count > 0 && !keep {
        salvage.remove().map_err(|error| Failure::File(file.to_owned(), error))?;
    }
    Ok(count)
}

/// Returns how many objects failed.
async fn redrive(store: &SpillStore, stream: &EventStream, keep: bool) -> Result<usize, Failure> {
    let names = store.list().await?;
    outln!("{} objects", names.len());
    let mut failed = 0;
    for name in names {
        let outcome = async {
            let records = store.read(&name).await?;
            let count: usize = records.iter().map(|record| record.aggregate.len()).sum();
            put_records(stream, records).await?;
            if !keep {
                store.remove(&name).await?;
            }
            Ok::<_, RedriveError>(count)
        };
        match outcome.await {
            Ok(count) => outln!("{name}: {count} events"),
            Err(error) => {
                failed += 1;
                tracing::error!(object = %name, %error, "the object cannot be redriven; it is kept");
            }
        }
    }
    Ok(failed)
}
