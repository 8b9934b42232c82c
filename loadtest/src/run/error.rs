//! Why there is no report.

use std::path::PathBuf;

use crate::cli::InvalidOverrides;
use crate::connection_check::Unreachable;
use crate::core_data::CoreDataError;
use crate::engine::SenderError;
use crate::local::LocalStackError;
use crate::report::ReportError;
use crate::scenario::ScenarioError;
use crate::target::TargetError;
use crate::verify::VerifyError;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The arguments or the environment are invalid. Nothing was started.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The local stack did not start.
    #[error(transparent)]
    LocalStack(#[from] LocalStackError),
    /// The local stack's tracker cannot be put under load.
    #[error(transparent)]
    Tracker(TargetError),
    /// No HTTP server responds at the URL.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The tracker does not have the programs.
    #[error(transparent)]
    CoreData(#[from] CoreDataError),
    /// The tracker did not empty L1.
    #[error("L1 cannot be emptied: {0}")]
    ColdStart(reqwest::Error),
    /// The senders did not start.
    #[error("the senders cannot be started: {0}")]
    Start(std::io::Error),
    /// The senders did not send to the end.
    #[error(transparent)]
    Senders(#[from] SenderError),
    /// The accepted events cannot be followed.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A task panicked: a bug in the harness.
    #[error(transparent)]
    Task(#[from] tokio::task::JoinError),
    /// The report cannot be written.
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// Why a run cannot be started as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The scenario is invalid.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The flags do not fit the scenario.
    #[error(transparent)]
    Overrides(#[from] InvalidOverrides),
    /// The URL cannot be put under load.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The folder of the report cannot be created.
    #[error("{}: {error}", .folder.display())]
    Folder {
        /// Its path.
        folder: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The scenario needs a part of the deployment that the environment does not name.
    #[error("{part} needs {variable} in the environment; {remedy}")]
    Missing {
        /// The part of the scenario.
        part: &'static str,
        /// The environment variable.
        variable: &'static str,
        /// How to do without it.
        remedy: &'static str,
    },
    /// A threshold is about an endpoint that the scenario does not have.
    #[error(
        "--fail-if '{threshold}': the scenario has no endpoint of this name; it has {endpoints}"
    )]
    NoSuchEndpoint {
        /// The condition.
        threshold: String,
        /// The names of the scenario's endpoints.
        endpoints: String,
    },
    /// A sender could not send anything.
    #[error(
        "--threads {threads} needs --max-in-flight {threads} or more, not {room}: each sends at least one request"
    )]
    TooManyThreads {
        /// Number of senders.
        threads: usize,
        /// Most requests in flight.
        room: usize,
    },
    /// Rows would be deleted that may not be the run's alone.
    #[error(
        "drop_counted deletes rows: it needs AWS_ENDPOINT_URL_DYNAMODB on this machine, and TABLE_NAME"
    )]
    DropsRows,
}
