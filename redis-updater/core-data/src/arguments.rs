//! The command line.

use std::path::PathBuf;

use adtrack_proto::{InvalidVersion, ProgramId, Version};
use adtrack_runtime::cli::{integer, non_empty, seconds};
use adtrack_runtime::redis_access::Mark;
use adtrack_runtime::redis_settings::RedisSettings;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Publishes core data (programs and their deletions) to adtrack, and shows what Redis holds.
///
/// docs/CORE_DATA.md describes a program's members, the file formats and the exit statuses.
#[derive(Debug, Parser)]
#[command(version, subcommand_required = true, arg_required_else_help = false)]
pub struct Arguments {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Checks a file and puts its records on the core-data stream.
    #[command(after_help = PUBLISH_HELP)]
    Publish(PublishArguments),
    /// Shows what Redis holds for a program, with its version.
    #[command(after_help = GET_HELP)]
    Get(GetArguments),
    /// Prints updates as they are pushed to the trackers, one JSON object per line.
    #[command(after_help = WATCH_HELP)]
    Watch(WatchArguments),
    /// Compares a file with what Redis holds and lists the differences.
    #[command(after_help = VERIFY_HELP)]
    Verify(VerifyArguments),
    /// Sets how many programs Redis should hold: once after the first publish, and after a loss.
    #[command(after_help = MARK_LOADED_HELP)]
    MarkLoaded(MarkLoadedArguments),
    /// Publishes one program in place of a wrong version that is newer than anything on the stream.
    #[command(after_help = REPAIR_HELP)]
    Repair(RepairArguments),
}

const PUBLISH_HELP: &str = "\
Checks every record of the file before it sends any. AWS region, endpoints and credentials come from
the AWS SDK's own chain. Publishing a file again is harmless: a record is a whole program.

Examples:
  core-data publish programs.csv
  core-data publish programs.jsonl --region eu-west-1 --region us-east-1
  export-programs | core-data publish - --dry-run

Exit status: 0 all records are on every stream; 64 usage; 65 a record is invalid, nothing was sent;
66 the file cannot be read; 69 Kinesis did not take all records; 74 the temporary file cannot be
used, or standard output not written; 130 interrupted.";

const GET_HELP: &str = "\
Example:
  core-data get 212313

Exit status: 0 printed (a deleted program too: \"deleted\":true); 1 Redis holds nothing for it; 64
usage; 65 what Redis holds is not a valid program; 69 Redis cannot be read; 74 standard output cannot be
written.";

const WATCH_HELP: &str = "\
Ends with status 0 at Ctrl-C, at SIGTERM or when its output is closed. Misses updates that are pushed
while it is not subscribed, and reports on standard error when that is.

Examples:
  core-data watch
  core-data watch --program 212313";

const VERIFY_HELP: &str = "\
If the file has several records of a program, the last one counts. Programs that only Redis has are
not reported: absence from a file deletes nothing.

Examples:
  core-data verify programs.csv
  core-data publish programs.csv && core-data verify programs.csv --wait 60

Exit status: 0 equal; 1 something differs; 64 usage; 65 a record is invalid; 66 the file cannot be
read; 69 Redis cannot be read; 74 the temporary file cannot be used, or standard output not written.";

const MARK_LOADED_HELP: &str = "\
Sets the key adtrack:loaded. Until it is set, trackers respond with 503 for unknown programs, not 404,
because Redis may have been emptied. redis-updater keeps the number up to date, but never creates the
key. While Redis holds less than half of the programs, it still counts as not loaded, so you may run the
command before all of them have arrived. All keys in Redis are counted: give adtrack a Redis of its own.

Examples:
  core-data mark-loaded --count 200000
  core-data publish programs.csv && core-data mark-loaded --count 200000

Exit status: 0 set; 64 usage; 69 Redis cannot be reached or refused it.";

const REPAIR_HELP: &str = "\
Redis and trackers ignore updates that are older than what they hold. So a version that an intruder or
a mistake made newer than anything on the stream blocks all updates of its program. `core-data get`
shows the version. This command publishes the program's last record in the file, which replaces that
version and no other.

Example:
  core-data repair programs.csv --program 212313 --replaces 0.99999999

Exit status: 0 the record is on every stream; 64 usage; 65 a record is invalid, or the file does not have
the program; 66 the file cannot be read; 69 Kinesis did not accept the record; 74 the temporary file
cannot be used.";

/// The arguments of commands that read a file of core data.
#[derive(Debug, Args)]
pub struct InputArguments {
    /// File of programs, s3://BUCKET/KEY, or - for standard input.
    pub file: PathBuf,
    /// Format of the file. [default: by its first character: `[` JSON array, `{` JSON lines, else
    /// CSV]
    #[arg(long)]
    pub format: Option<Format>,
    /// Skip invalid records instead of stopping. They are listed and counted, and do not affect the
    /// exit status, which is 65 only if no record is valid.
    #[arg(long)]
    pub skip_invalid: bool,
    /// Accept a file without any record, which is usually a failed export.
    #[arg(long)]
    pub allow_empty: bool,
}

/// The formats of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object per line.
    Jsonl,
    /// One JSON array of objects.
    Json,
    /// Comma-separated values (RFC 4180); the first row names the members.
    Csv,
}

/// The streams to publish to.
#[derive(Debug, Args)]
pub struct StreamArguments {
    /// Region of a core-data stream; repeat the flag to publish to several. [default: the AWS SDK's
    /// own]
    #[arg(long = "region", value_name = "REGION", value_parser = non_empty("the name of an AWS region"))]
    pub regions: Vec<String>,
    /// Name of the Kinesis stream.
    #[arg(long, env = "CORE_DATA_STREAM", default_value = "adtrack-core-data", value_parser = non_empty("the name of a Kinesis stream"))]
    pub stream: String,
}

/// Arguments of `publish`.
#[derive(Debug, Args)]
pub struct PublishArguments {
    #[command(flatten)]
    pub input: InputArguments,
    #[command(flatten)]
    pub streams: StreamArguments,
    /// Check the file and send nothing; needs no AWS credentials.
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `mark-loaded`.
#[derive(Debug, Args)]
pub struct MarkLoadedArguments {
    /// Number of programs, without deleted ones.
    #[arg(long, value_name = "PROGRAMS", value_parser = integer(0, Mark::MAX))]
    pub count: u64,
    /// Accept a count of 0, with which trackers notice no loss of programs.
    #[arg(long)]
    pub allow_empty: bool,
    #[command(flatten)]
    pub redis: RedisSettings,
}

/// Arguments of `repair`.
#[derive(Debug, Args)]
pub struct RepairArguments {
    #[command(flatten)]
    pub input: InputArguments,
    /// The program to publish.
    #[arg(long, value_name = "PROGRAM_ID", value_parser = program_id)]
    pub program: ProgramId,
    /// The wrong version, as `core-data get` shows it.
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub replaces: Version,
    #[command(flatten)]
    pub streams: StreamArguments,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
pub struct GetArguments {
    /// The program's id.
    #[arg(value_parser = program_id)]
    pub program_id: ProgramId,
    #[command(flatten)]
    pub redis: RedisSettings,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct WatchArguments {
    /// Print only the updates of this program.
    #[arg(long, value_name = "PROGRAM_ID", value_parser = program_id)]
    pub program: Option<ProgramId>,
    #[command(flatten)]
    pub redis: RedisSettings,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    #[command(flatten)]
    pub input: InputArguments,
    /// Seconds to wait for differences to disappear, since updates take a moment to reach Redis.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds(0, 86_400))]
    pub wait: std::time::Duration,
    #[command(flatten)]
    pub redis: RedisSettings,
}

fn program_id(text: &str) -> Result<ProgramId, String> {
    ProgramId::parse(text).map_err(|error| error.to_string())
}

fn version(text: &str) -> Result<Version, String> {
    text.parse().map_err(|error: InvalidVersion| error.to_string())
}
