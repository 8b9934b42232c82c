//! From a file's bytes to core data, record by record, with the place of whatever is wrong. Reads
//! what it is given and does no other I/O.

mod csv;
mod cursor;
mod json;
mod members;

use std::fmt;
use std::io::{self, BufRead};

use adtrack_proto::program::CoreData;

use super::arguments::Format;
use cursor::Cursor;
pub use cursor::Position;

/// The longest record of a file, with whatever members it has that nobody needs: what a record of
/// Kinesis may have. What is sent of a program has 50 KB at the most.
const MAX_RECORD_BYTES: usize = 1024 * 1024;

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
    /// The value, or the record where it is about no single one.
    pub position: Position,
    /// What is wrong and what is accepted.
    pub message: String,
}

impl Problem {
    fn new(position: Position, message: impl Into<String>) -> Self {
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
    /// This record is no core data. The next one can be read.
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

/// The records of a file.
pub struct Records<R> {
    cursor: Cursor<R>,
    reader: Reader,
    ended: bool,
}

enum Reader {
    Lines(json::Lines),
    Array(json::Array),
    Csv(csv::Rows),
}

impl<R: BufRead> Records<R> {
    /// The records in `reader`, of `format` or of the one that its first character tells.
    pub fn open(reader: R, format: Option<Format>) -> Result<Self, ReadError> {
        let mut cursor = Cursor::new(reader);
        if !cursor.skip_byte_order_mark()? {
            let message = "is not UTF-8 (UTF-16, perhaps); save it as UTF-8";
            return Err(ReadError::Broken(Problem::new(Position::START, message)));
        }
        let first = cursor.skip_blanks()?;
        let format = format.unwrap_or(match first {
            Some(b'[') => Format::Json,
            Some(b'{') => Format::Jsonl,
            _ => Format::Csv,
        });
        let reader = match format {
            Format::Jsonl => Reader::Lines(json::Lines::default()),
            Format::Json => Reader::Array(json::Array::default()),
            Format::Csv => Reader::Csv(csv::Rows::open(&mut cursor)?),
        };
        Ok(Self { cursor, reader, ended: false })
    }
}

impl<R: BufRead> Iterator for Records<R> {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let record = match &mut self.reader {
            Reader::Lines(lines) => lines.next(&mut self.cursor),
            Reader::Array(array) => array.next(&mut self.cursor),
            Reader::Csv(rows) => rows.next(&mut self.cursor),
        };
        self.ended = !matches!(record, Ok(Some(_)) | Err(ReadError::Invalid(_)));
        record.transpose()
    }
}

#[cfg(test)]
mod tests;
