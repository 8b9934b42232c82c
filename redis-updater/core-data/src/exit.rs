//! How the command ends. The statuses follow sysexits.h if it has a matching one.

use std::process::ExitCode;

/// An exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command did everything, or everything is equal.
    Success = 0,
    /// Redis does not hold the program, or file and Redis differ.
    Differs = 1,
    /// A flag or a setting is invalid.
    Usage = adtrack_runtime::cli::EXIT_USAGE,
    /// `EX_DATAERR`: the file has invalid records, or what Redis holds is not a valid program.
    Data = 65,
    /// `EX_NOINPUT`: the file cannot be read.
    NoInput = 66,
    /// `EX_UNAVAILABLE`: Kinesis or Redis refused the call or could not be reached.
    Unavailable = 69,
    /// `EX_IOERR`: the temporary file cannot be written or read, standard output cannot be written, or signals
    /// cannot be listened for.
    Io = adtrack_runtime::output::EXIT_IO,
    /// Ctrl-C or SIGTERM stopped the command before it was done.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit status.
    pub exit: Exit,
    /// What failed, on what, why, and what to do.
    pub message: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}
