//! A record of a file, and the errors of reading one.

use std::fmt;
use std::io;

use adtrack_proto::program::CoreData;

use super::cursor::Position;

/// The longest record of a file, including members that are dropped: as much as Kinesis accepts in a
/// record. What is sent of a program has at most 50 KB.
pub(super) const MAX_RECORD_BYTES: usize = 1024 * 1024;

/// A valid record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its content.
    pub core_data: CoreData,
    /// Members that adtrack does not know, perhaps misspelt ones. They are left out of `core_data`.
    pub unknown_members: Vec<String>,
}

/// An error in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the invalid value begins, or the record if the problem is not one value's.
    pub position: Position,
    /// What is wrong and what is accepted.
    pub message: String,
}

impl Problem {
    pub(super) fn new(position: Position, message: impl Into<String>) -> Self {
        Self { position, message: message.into() }
    }
}

/// `LINE:COLUMN: message`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.position.line, self.position.column, self.message)
    }
}

/// Why a record, or the rest of a file, could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// This record is invalid. The next one can be read.
    Invalid(Problem),
    /// It is impossible to tell where the next record begins, so reading ends here.
    Broken(Problem),
    /// The reader failed, so reading ends here.
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
