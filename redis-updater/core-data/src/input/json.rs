//! Reads JSON: one object per line, or an array of objects.

use std::collections::BTreeMap;
use std::io::BufRead;

use adtrack_proto::program::{CoreData, InvalidCoreData};
use serde_json::value::RawValue;

use super::cursor::{Cursor, Position};
use super::members::{MemberName, look_up};
use super::record::{MAX_RECORD_BYTES, Problem, ReadError, Record};

/// What one call reads: a record, the end, or an error.
type Read = Result<Option<Record>, ReadError>;

/// A record's bytes, up to [`MAX_RECORD_BYTES`].
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl Buffer {
    fn clear(&mut self) {
        self.bytes.clear();
        self.overflowed = false;
    }

    fn push(&mut self, byte: u8) {
        if self.bytes.len() < MAX_RECORD_BYTES {
            self.bytes.push(byte);
        } else {
            self.overflowed = true;
        }
    }

    fn record(&self, start: Position) -> Read {
        if self.overflowed {
            let message = format!("the record has more than {MAX_RECORD_BYTES} bytes");
            return Err(ReadError::Invalid(Problem::new(start, message)));
        }
        record(self.bytes.trim_ascii_end(), start).map(Some).map_err(ReadError::Invalid)
    }
}

/// Reads one object per line. A broken line does not affect the others.
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

/// Reads an array of objects.
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
    AfterRecord,
    AfterArray,
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
        if ends && self.state != ArrayState::AfterArray {
            cursor.next()?;
            self.state = ArrayState::AfterArray;
        }
        match (&self.state, cursor.skip_blanks()?) {
            (ArrayState::AfterArray, None) => Ok(None),
            (ArrayState::AfterArray, Some(_)) => {
                broken(cursor.position(), "there is more after the array's end")
            }
            (_, None) => broken(
                cursor.position(),
                "the array is not closed: the file may be cut off; expected `,` or `]`",
            ),
            (ArrayState::AfterRecord, Some(b',')) => {
                cursor.next()?;
                cursor.skip_blanks()?;
                self.element(cursor)
            }
            (ArrayState::AfterRecord, Some(_)) => {
                broken(cursor.position(), "expected `,` or `]` after a record")
            }
            (_, Some(_)) => self.element(cursor),
        }
    }

    /// Reads an element, up to the `,` or `]` after it. Only counts brackets outside strings; parsing
    /// comes later.
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
        self.state = ArrayState::AfterRecord;
        self.buffer.record(start)
    }
}

fn broken(position: Position, message: &str) -> Read {
    Err(ReadError::Broken(Problem::new(position, message)))
}

/// Parses the record in `json`, whose first byte is at `start`.
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

/// Locates an error at `offset`. If it is inside a member's value, that has the wrong type, and the
/// problem names the member and its position; otherwise the text is not valid JSON.
fn malformed(json: &[u8], start: Position, problem: &str, offset: usize) -> Problem {
    let members = members(json);
    let wrong = members.iter().find(|(_, value)| {
        let start = offset_of(value, json);
        (start..=start + value.get().len()).contains(&offset)
    });
    match wrong {
        Some((name, value)) => {
            let position = start.after(&json[..offset_of(value, json)]);
            Problem::new(position, format!("member `{name}`: {problem}"))
        }
        None => Problem::new(start.after(&json[..offset]), problem),
    }
}

/// Converts serde_json's `line` and `column` to an offset: both count from 1, columns count bytes, and
/// column 0 is the end of the previous line.
fn offset(json: &[u8], line: usize, column: usize) -> usize {
    let lines = json.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    (before + column.saturating_sub(1)).min(json.len())
}

/// The members' values as written; empty if `json` is not a JSON object.
fn members(json: &[u8]) -> BTreeMap<String, &RawValue> {
    serde_json::from_slice(json).unwrap_or_default()
}

fn offset_of(value: &RawValue, json: &[u8]) -> usize {
    let offset = (value.get().as_ptr() as usize).saturating_sub(json.as_ptr() as usize);
    offset.min(json.len())
}

fn unknown_members(json: &[u8]) -> Vec<String> {
    let names = members(json).into_keys();
    names.filter(|name| matches!(look_up(name), MemberName::Unknown)).collect()
}
