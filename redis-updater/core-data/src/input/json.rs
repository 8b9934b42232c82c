//! JSON: an object a line, or an array of objects.

use std::collections::BTreeMap;
use std::io::BufRead;

use adtrack_proto::program::{CoreData, InvalidCoreData};
use serde_json::value::RawValue;

use super::cursor::{Cursor, Position};
use super::members::{Known, look_up};
use super::record::{MAX_RECORD_BYTES, Problem, ReadError, Record};

/// What one call reads: a record, the end, or an error.
type Read = Result<Option<Record>, ReadError>;

/// Collects a record's bytes up to the limit.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    overflown: bool,
}

impl Buffer {
    fn clear(&mut self) {
        self.bytes.clear();
        self.overflown = false;
    }

    fn push(&mut self, byte: u8) {
        if self.bytes.len() < MAX_RECORD_BYTES {
            self.bytes.push(byte);
        } else {
            self.overflown = true;
        }
    }

    fn record(&self, start: Position) -> Read {
        if self.overflown {
            let message = format!("the record has more than {MAX_RECORD_BYTES} bytes");
            return Err(ReadError::Invalid(Problem::new(start, message)));
        }
        record(self.bytes.trim_ascii_end(), start).map(Some).map_err(ReadError::Invalid)
    }
}

/// An object a line. A broken line spoils no other.
#[derive(Default)]
pub struct Lines {
    buffer: Buffer,
}

impl Lines {
    pub fn next<R: BufRead>(&mut self, cursor: &mut Cursor<R>) -> Read {
        if cursor.skip_blanks()?.is_none() {
            return Ok(None);
        }
        let start = cursor.position();
        self.buffer.clear();
        while let Some(byte) = cursor.next()? {
            if byte == b'\n' {
                break;
            }
            self.buffer.push(byte);
        }
        self.buffer.record(start)
    }
}

/// An array of objects.
#[derive(Default)]
pub struct Array {
    buffer: Buffer,
    state: ArrayState,
}

#[derive(Default, PartialEq)]
enum ArrayState {
    #[default]
    BeforeArray,
    BeforeFirst,
    BehindRecord,
    BehindArray,
}

impl Array {
    pub fn next<R: BufRead>(&mut self, cursor: &mut Cursor<R>) -> Read {
        if self.state == ArrayState::BeforeArray {
            match cursor.skip_blanks()? {
                None => return Ok(None),
                Some(b'[') => cursor.next()?,
                Some(_) => return broken(cursor.position(), "expected an array, `[`"),
            };
            self.state = ArrayState::BeforeFirst;
        }
        let ends = cursor.skip_blanks()? == Some(b']');
        if ends && self.state != ArrayState::BehindArray {
            cursor.next()?;
            self.state = ArrayState::BehindArray;
        }
        match (&self.state, cursor.skip_blanks()?) {
            (ArrayState::BehindArray, None) => Ok(None),
            (ArrayState::BehindArray, Some(_)) => {
                broken(cursor.position(), "there is more behind the array's end")
            }
            (_, None) => broken(
                cursor.position(),
                "the array is not closed: the file may be cut off; expected `,` or `]`",
            ),
            (ArrayState::BehindRecord, Some(b',')) => {
                cursor.next()?;
                cursor.skip_blanks()?;
                self.element(cursor)
            }
            (ArrayState::BehindRecord, Some(_)) => {
                broken(cursor.position(), "expected `,` or `]` behind a record")
            }
            (_, Some(_)) => self.element(cursor),
        }
    }

    /// Reads up to the `,` or `]` behind the element. Braces are counted, strings skipped; whether
    /// it is JSON is seen afterwards.
    fn element<R: BufRead>(&mut self, cursor: &mut Cursor<R>) -> Read {
        let start = cursor.position();
        self.buffer.clear();
        let mut depth = 0_usize;
        let (mut in_string, mut escaped) = (false, false);
        while let Some(byte) = cursor.peek()? {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b',' | b']' if depth == 0 => break,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.buffer.push(byte);
            cursor.next()?;
        }
        if depth > 0 || in_string {
            return broken(start, "this record is not closed: a brace or a quote is missing");
        }
        if self.buffer.bytes.trim_ascii().is_empty() {
            return broken(start, "expected a record");
        }
        self.state = ArrayState::BehindRecord;
        self.buffer.record(start)
    }
}

fn broken(position: Position, message: &str) -> Read {
    Err(ReadError::Broken(Problem::new(position, message)))
}

/// The record in `json`, which begins at `start` with its first character.
fn record(json: &[u8], start: Position) -> Result<Record, Problem> {
    match CoreData::from_json(json) {
        Ok(core_data) => Ok(Record { core_data, unknown_members: unknown_members(json) }),
        Err(InvalidCoreData::Malformed { problem, line, column }) => {
            Err(malformed(json, start, &problem, offset(json, line, column)))
        }
        Err(error @ InvalidCoreData::Missing(_)) => Err(Problem::new(start, error.to_string())),
        Err(InvalidCoreData::Member { member, problem }) => {
            let offset = members(json).get(member).map_or(0, |value| offset_of(value, json));
            let position = start.after(&json[..offset]);
            Err(Problem::new(position, format!("member `{member}`: {problem}")))
        }
    }
}

/// A value of the wrong type is named and placed as a member. Else it is no JSON, up to `offset`.
fn malformed(json: &[u8], start: Position, problem: &str, offset: usize) -> Problem {
    let members = members(json);
    let wrong = members.iter().find(|(_, value)| {
        let begin = offset_of(value, json);
        (begin..=begin + value.get().len()).contains(&offset)
    });
    match wrong {
        Some((name, value)) => {
            let position = start.after(&json[..offset_of(value, json)]);
            Problem::new(position, format!("member `{name}`: {problem}"))
        }
        None => Problem::new(start.after(&json[..offset]), problem),
    }
}

/// Where the byte at `line` and `column` is, as serde_json counts: both from 1, columns in bytes, 0
/// for the end of the line before.
fn offset(json: &[u8], line: usize, column: usize) -> usize {
    let lines = json.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    (before + column.saturating_sub(1)).min(json.len())
}

/// The members' values as they stand there; none where it is no JSON object.
fn members(json: &[u8]) -> BTreeMap<String, &RawValue> {
    serde_json::from_slice(json).unwrap_or_default()
}

fn offset_of(value: &RawValue, json: &[u8]) -> usize {
    let offset = (value.get().as_ptr() as usize).saturating_sub(json.as_ptr() as usize);
    offset.min(json.len())
}

fn unknown_members(json: &[u8]) -> Vec<String> {
    let names = members(json).into_keys();
    names.filter(|name| matches!(look_up(name), Known::Unknown)).collect()
}
