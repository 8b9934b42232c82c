//! A record of a file, or what is wrong with it and where.

use std::fmt;
use std::io;

use adtrack_proto::program::CoreData;

use super::cursor::Position;

/// The longest record of a file, with whatever members it has that nobody needs: what a record of
/// Kinesis may have. What is sent of a program has 50 KB at the most.
pub(super) const MAX_RECORD_BYTES: usize = 1024 * 1024;

/// A record that is core data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it says.
    pub core_data: CoreData,
    /// Its members that the contract does not know, and that are left out: perhaps misspelt.
    pub unknown_members: Vec<String>,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The value, or the record if it is about no single value.
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
    /// This record is not core data. The next one can be read.
    Invalid(Problem),
    /// From here on nobody can tell where a record begins. The last thing that is read.
    Broken(Problem),
    /// The reader failed. The last thing that is read.
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
