//! Reads comma-separated values (RFC 4180) with a header that names the members.
//!
//! Written by hand, because errors must name a cell's line and column, and a quote that is never closed, which
//! marks a truncated file, must be an error.

use std::collections::BTreeMap;
use std::io::BufRead;

use adtrack_proto::members::{Kind, MEMBERS, Member};
use adtrack_proto::program::{CoreData, InvalidCoreData};
use serde_json::{Map, Value};

use super::cursor::{Cursor, Position};
use super::members::{MemberName, look_up};
use super::record::{MAX_RECORD_BYTES, Problem, ReadError, Record};

/// A cell and where it begins.
struct Cell {
    position: Position,
    bytes: Vec<u8>,
}

impl Cell {
    fn text(&self) -> Result<&str, Problem> {
        str::from_utf8(&self.bytes)
            .map_err(|_| Problem::new(self.position, "is not UTF-8; save the file as UTF-8"))
    }
}

/// The member that a column holds; none if the column is ignored.
type Column = Option<&'static Member>;

/// Reads the rows after the header.
pub struct Rows {
    columns: Vec<Column>,
}

impl Rows {
    /// Reads the header. An empty file has none, and no rows.
    pub fn open<R: BufRead>(cursor: &mut Cursor<R>) -> Result<Self, ReadError> {
        let columns = match row(cursor) {
            Ok(Some(header)) => columns(&header).map_err(ReadError::Broken)?,
            Ok(None) => Vec::new(),
            Err(ReadError::Invalid(problem)) => return Err(ReadError::Broken(problem)),
            Err(error) => return Err(error),
        };
        Ok(Self { columns })
    }

    pub fn next<R: BufRead>(
        &mut self,
        cursor: &mut Cursor<R>,
    ) -> Result<Option<Record>, ReadError> {
        let Some(cells) = row(cursor)? else { return Ok(None) };
        record(&self.columns, &cells).map(Some).map_err(ReadError::Invalid)
    }
}

fn columns(header: &[Cell]) -> Result<Vec<Column>, Problem> {
    let mut columns: Vec<Column> = Vec::with_capacity(header.len());
    let mut names = Vec::with_capacity(header.len());
    for cell in header {
        let name = cell.text()?;
        if names.contains(&name) {
            return Err(Problem::new(cell.position, format!("the column {name:?} appears twice")));
        }
        names.push(name);
        columns.push(match look_up(name) {
            MemberName::Known(member) => Some(member),
            MemberName::Ignored => None,
            MemberName::Unknown => return Err(unknown_column(cell.position, name)),
        });
    }
    match header.first() {
        Some(first) if !names.contains(&"programId") => {
            let message = "the header has no column `programId`; the first row names the members";
            Err(Problem::new(first.position, message))
        }
        _ => Ok(columns),
    }
}

fn unknown_column(position: Position, name: &str) -> Problem {
    let message = if name.contains([';', '\t']) {
        format!("the header is {name:?}: cells are separated by commas")
    } else {
        let known = MEMBERS.map(|member| member.name).join(", ");
        format!("the column {name:?} is not a member of a program; the members are {known}")
    };
    Problem::new(position, message)
}

/// Reads the record in a row: converts it to JSON and parses that with `adtrack_proto`, so that CSV and
/// JSON are checked alike.
fn record(columns: &[Column], cells: &[Cell]) -> Result<Record, Problem> {
    let start = cells.first().map_or(Position::START, |cell| cell.position);
    if cells.len() != columns.len() {
        let message =
            format!("the row has {} cells; the header has {}", cells.len(), columns.len());
        return Err(Problem::new(start, message));
    }
    let mut members = Map::new();
    let mut positions = BTreeMap::new();
    for (column, cell) in columns.iter().zip(cells) {
        let text = cell.text()?;
        if let Some(member) = column
            && !text.is_empty()
        {
            members.insert(member.name.to_owned(), value(member, cell.position, text)?);
            positions.insert(member.name, cell.position);
        }
    }
    let position_of = |member| positions.get(member).copied().unwrap_or(start);
    match CoreData::from_json(Value::Object(members).to_string().as_bytes()) {
        Ok(core_data) => Ok(Record { core_data, unknown_members: Vec::new() }),
        Err(error @ InvalidCoreData::Missing(_)) => Err(Problem::new(start, error.to_string())),
        Err(InvalidCoreData::Member { member, problem }) => {
            Err(Problem::new(position_of(member), format!("member `{member}`: {problem}")))
        }
        // Only this value can have the wrong type: its text may not be a number.
        Err(InvalidCoreData::Malformed { problem, .. }) => {
            Err(Problem::new(position_of("customerId"), problem))
        }
    }
}

fn value(member: &Member, position: Position, text: &str) -> Result<Value, Problem> {
    let invalid = |problem| Problem::new(position, format!("member `{}`: {problem}", member.name));
    match member.kind {
        // adtrack_proto accepts an integer as text, too.
        Kind::Text | Kind::Integer => Ok(text.into()),
        // In upper or lower case: spreadsheets write TRUE.
        Kind::Boolean if text.eq_ignore_ascii_case("true") => Ok(true.into()),
        Kind::Boolean if text.eq_ignore_ascii_case("false") => Ok(false.into()),
        Kind::Boolean => Err(invalid(format!("{text:?} is neither true nor false"))),
        Kind::List => Ok(entries(text).collect()),
        Kind::Pairs => {
            let mut pairs = Map::new();
            for entry in entries(text) {
                let Some((name, value)) = entry.split_once('=') else {
                    return Err(invalid(format!("{entry:?} is not NAME=VALUE")));
                };
                if pairs.insert(name.to_owned(), value.into()).is_some() {
                    return Err(invalid(format!("{name:?} is given twice; give it once")));
                }
            }
            Ok(Value::Object(pairs))
        }
    }
}

fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ';' || c.is_whitespace()).filter(|entry| !entry.is_empty())
}

/// Reads the cells of the next row that is not blank.
fn row<R: BufRead>(cursor: &mut Cursor<R>) -> Result<Option<Vec<Cell>>, ReadError> {
    while let Some(b'\n' | b'\r') = cursor.peek()? {
        cursor.next()?;
    }
    if cursor.peek()?.is_none() {
        return Ok(None);
    }
    let start = cursor.position();
    let mut cells = Vec::new();
    let mut bytes = 0;
    loop {
        let cell = cell(cursor)?;
        bytes += cell.bytes.len() + 1;
        cells.push(cell);
        match cursor.next()? {
            Some(b',') if bytes <= MAX_RECORD_BYTES => {}
            Some(b',') => {
                return too_long(cursor, start);
            }
            _ => return Ok(Some(cells)),
        }
    }
}

/// Reads the next cell, up to the comma or the end of the line after it.
fn cell<R: BufRead>(cursor: &mut Cursor<R>) -> Result<Cell, ReadError> {
    let position = cursor.position();
    if cursor.peek()? == Some(b'"') {
        cursor.next()?;
        return quoted(cursor, position);
    }
    let mut bytes = Vec::new();
    loop {
        match cursor.peek()? {
            None | Some(b',' | b'\n') => break,
            Some(b'"') => {
                let message =
                    "a quote inside a cell: put the cell in quotes and double the quotes inside it";
                return invalid(cursor, cursor.position(), message);
            }
            Some(byte) if bytes.len() < MAX_RECORD_BYTES => bytes.push(byte),
            Some(_) => return too_long(cursor, position),
        }
        cursor.next()?;
    }
    if cursor.peek()? != Some(b',') && bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    Ok(Cell { position, bytes })
}

/// Reads a cell in quotes, after its opening quote.
fn quoted<R: BufRead>(cursor: &mut Cursor<R>, position: Position) -> Result<Cell, ReadError> {
    let mut bytes = Vec::new();
    let never_closed = |why: &str| {
        let message = format!("the quote that begins here is not closed{why}");
        Err(ReadError::Broken(Problem::new(position, message)))
    };
    loop {
        match cursor.next()? {
            None => return never_closed(": the file may be cut off"),
            Some(b'"') if cursor.peek()? == Some(b'"') => {
                cursor.next()?;
                bytes.push(b'"');
            }
            Some(b'"') => break,
            Some(byte) if bytes.len() < MAX_RECORD_BYTES => bytes.push(byte),
            Some(_) => return never_closed(&format!(" within {MAX_RECORD_BYTES} bytes")),
        }
    }
    let after_quote = cursor.position();
    if cursor.peek()? == Some(b'\r') {
        cursor.next()?;
    }
    match cursor.peek()? {
        None | Some(b',' | b'\n') => Ok(Cell { position, bytes }),
        Some(_) => {
            let message = "expected a comma or the end of the line after a closing quote";
            invalid(cursor, after_quote, message)
        }
    }
}

fn too_long<T, R: BufRead>(cursor: &mut Cursor<R>, position: Position) -> Result<T, ReadError> {
    invalid(cursor, position, &format!("the row has more than {MAX_RECORD_BYTES} bytes"))
}

/// Skips an invalid row, so that reading can go on with the next line.
fn invalid<T, R: BufRead>(
    cursor: &mut Cursor<R>,
    position: Position,
    message: &str,
) -> Result<T, ReadError> {
    cursor.skip_line()?;
    Err(ReadError::Invalid(Problem::new(position, message)))
}
