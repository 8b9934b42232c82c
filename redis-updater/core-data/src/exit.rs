//! How the command ends. The statuses are those of sysexits.h where it has one.

use std::process::ExitCode;

/// An exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is done, or all is equal.
    Success = 0,
    /// The program is not there, or file and Redis differ.
    Differs = 1,
    /// A flag or a setting cannot be used.
    Usage = adtrack_runtime::cli::EXIT_USAGE,
    /// `EX_DATAERR`: the file has records that are no core data.
    Data = 65,
    /// `EX_NOINPUT`: the file cannot be read.
    NoInput = 66,
    /// `EX_UNAVAILABLE`: Kinesis or Redis refused or was not there.
    Unavailable = 69,
    /// `EX_IOERR`: the temporary file cannot be written or read.
    Io = 74,
    /// Ended by ctrl-C or SIGTERM before all was done.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ended before it was done.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit status.
    pub exit: Exit,
    /// What is wrong, where, and what to do.
    pub message: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}
