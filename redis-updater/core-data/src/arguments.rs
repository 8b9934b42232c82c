//! The command line.

use std::path::PathBuf;

use adtrack_proto::ProgramId;
use adtrack_runtime::cli::{non_empty, seconds};
use adtrack_runtime::redis_settings::RedisSettings;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Feeds core data (programs and their deletions) to adtrack, and shows what became of it.
///
/// docs/CORE_DATA.md has the members of a program, the formats and the exit statuses.
#[derive(Debug, Parser)]
#[command(version, subcommand_required = true, arg_required_else_help = false)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Checks a file and puts its records on the core-data stream.
    #[command(after_help = PUBLISH_HELP)]
    Publish(PublishArguments),
    /// Shows what Redis holds for a program, with its version.
    #[command(after_help = GET_HELP)]
    Get(GetArguments),
    /// Prints updates as they are pushed to the trackers, one JSON object a line.
    #[command(after_help = WATCH_HELP)]
    Watch(WatchArguments),
    /// Compares a file with what Redis holds and lists what differs.
    #[command(after_help = VERIFY_HELP)]
    Verify(VerifyArguments),
}

const PUBLISH_HELP: &str = "\
Nothing is sent before every record of the file is checked. AWS region, endpoints and credentials
come from the AWS SDK's own chain. Publishing a file again is harmless: a record is a whole program.

Examples:
  core-data publish programs.csv
  core-data publish programs.jsonl --region eu-west-1 --region us-east-1
  export-programs | core-data publish - --dry-run

Exit status: 0 all records are on every stream; 64 usage; 65 a record is no core data, nothing was
sent; 66 the file cannot be read; 69 Kinesis did not take all; 74 no room for the temporary file;
130 interrupted.";

const GET_HELP: &str = "\
Example:
  core-data get 212313

Exit status: 0 printed (a deleted program too: \"deleted\":true); 1 Redis holds nothing for it; 64
usage; 65 what Redis holds is no program; 69 Redis cannot be read.";

const WATCH_HELP: &str = "\
Ends at ctrl-C, SIGTERM or when its output is closed, with status 0. What is pushed while the
subscription is broken is not seen; that is said on standard error.

Examples:
  core-data watch
  core-data watch --program 212313";

const VERIFY_HELP: &str = "\
Of a program that the file has more than once, the last record counts. Programs that only Redis has
are not looked for: absence from a file deletes nothing.

Examples:
  core-data verify programs.csv
  core-data publish programs.csv && core-data verify programs.csv --wait 60

Exit status: 0 equal; 1 something differs; 64 usage; 65 a record is no core data; 66 the file cannot
be read; 69 Redis cannot be read; 74 no room for the temporary file.";

/// A file of core data.
#[derive(Debug, Args)]
pub struct InputArguments {
    /// File of programs, s3://BUCKET/KEY, or - for standard input.
    pub file: PathBuf,
    /// Format of the file. [default: by its first character: `[` a JSON array, `{` JSON lines, else
    /// CSV]
    #[arg(long)]
    pub format: Option<Format>,
    /// Go on with the valid records where others are not. Those are listed and counted; the exit
    /// status is that of the others, and 65 where no valid one is left.
    #[arg(long)]
    pub skip_invalid: bool,
}

/// How records stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A JSON object a line.
    Jsonl,
    /// One JSON array of objects.
    Json,
    /// Comma-separated values (RFC 4180), the first row naming the members.
    Csv,
}

/// Arguments of `publish`.
#[derive(Debug, Args)]
pub struct PublishArguments {
    #[command(flatten)]
    pub input: InputArguments,
    /// Region of a core-data stream; given more than once, each of them is fed. [default: the AWS
    /// SDK's own]
    #[arg(long = "region", value_name = "REGION", value_parser = non_empty("the name of an AWS region"))]
    pub regions: Vec<String>,
    /// Name of the Kinesis stream.
    #[arg(long, env = "CORE_DATA_STREAM", default_value = "adtrack-core-data", value_parser = non_empty("the name of a Kinesis stream"))]
    pub stream: String,
    /// Check the file and send nothing; needs no AWS credentials.
    #[arg(long)]
    pub dry_run: bool,
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
    /// Print the updates of this program alone.
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
    /// Seconds to wait for what differs to become equal: what was just published is on its way.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds(0, 86_400))]
    pub wait: std::time::Duration,
    #[command(flatten)]
    pub redis: RedisSettings,
}

fn program_id(text: &str) -> Result<ProgramId, String> {
    ProgramId::parse(text).map_err(|error| error.to_string())
}
