//! Failed calls to AWS.

use std::error::Error;

use aws_sdk_dynamodb::error::DisplayErrorContext;

/// Why a call to AWS failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {report}")]
pub struct CallError {
    operation: &'static str,
    /// The SDK's errors, from the outermost to the cause.
    report: String,
}

impl CallError {
    /// Reports `error`, of a call of `operation`, with its causes.
    pub fn new(operation: &'static str, error: impl Error) -> Self {
        Self { operation, report: DisplayErrorContext(error).to_string() }
    }
}
