//! Parses a file into core data, record by record, with the position of every error. Reads from the
//! given reader and does no other I/O.

mod csv;
mod cursor;
mod json;
mod members;
mod record;

use std::io::BufRead;

use super::arguments::Format;
use cursor::Cursor;
pub use cursor::Position;
pub use record::{Problem, ReadError, Record};

/// The records of a file.
pub struct Records<R> {
    cursor: Cursor<R>,
    reader: Reader,
    is_done: bool,
}

enum Reader {
    Lines(json::Lines),
    Array(json::Array),
    Csv(csv::Rows),
}

impl<R: BufRead> Records<R> {
    /// Reads the records in `reader`, in `format` or in the format that its first character indicates.
    pub fn open(reader: R, format: Option<Format>) -> Result<Self, ReadError> {
        let mut cursor = Cursor::new(reader);
        if !cursor.skip_byte_order_mark()? {
            let message = "is not UTF-8 (perhaps UTF-16); save it as UTF-8";
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
        Ok(Self { cursor, reader, is_done: false })
    }
}

impl<R: BufRead> Iterator for Records<R> {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let record = match &mut self.reader {
            Reader::Lines(lines) => lines.next(&mut self.cursor),
            Reader::Array(array) => array.next(&mut self.cursor),
            Reader::Csv(rows) => rows.next(&mut self.cursor),
        };
        self.is_done = !matches!(record, Ok(Some(_)) | Err(ReadError::Invalid(_)));
        record.transpose()
    }
}

#[cfg(test)]
mod tests;
