//! A reader that keeps track of line and column.

use std::io::{self, BufRead, ErrorKind};

/// A place in a text. Columns count characters, as editors do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// From 1.
    pub line: u64,
    /// From 1.
    pub column: u64,
}

impl Position {
    /// The beginning.
    pub const START: Self = Self { line: 1, column: 1 };

    /// Moves past `byte`.
    fn advance(&mut self, byte: u8) {
        match byte {
            b'\n' => *self = Self { line: self.line + 1, column: 1 },
            // The second to fourth byte of a UTF-8 character.
            0x80..=0xBF => {}
            _ => self.column += 1,
        }
    }

    /// The position after `bytes`, which begin at this one.
    pub fn after(mut self, bytes: &[u8]) -> Self {
        for &byte in bytes {
            self.advance(byte);
        }
        self
    }
}

/// A reader and its position.
pub struct Cursor<R> {
    reader: R,
    position: Position,
}

impl<R: BufRead> Cursor<R> {
    /// Starts at line 1, column 1.
    pub fn new(reader: R) -> Self {
        Self { reader, position: Position::START }
    }

    /// The position of the next byte.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Returns the next byte without consuming it.
    pub fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.reader.fill_buf() {
                Ok(bytes) => return Ok(bytes.first().copied()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Consumes the next byte.
    pub fn next(&mut self) -> io::Result<Option<u8>> {
        let byte = self.peek()?;
        if let Some(byte) = byte {
            self.reader.consume(1);
            self.position.advance(byte);
        }
        Ok(byte)
    }

    /// Skips JSON white space, and returns the byte after it without consuming it.
    pub fn skip_blanks(&mut self) -> io::Result<Option<u8>> {
        while let Some(byte) = self.peek()? {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(Some(byte));
            }
            self.next()?;
        }
        Ok(None)
    }

    /// Skips the rest of the line and its end.
    pub fn skip_line(&mut self) -> io::Result<()> {
        while self.next()?.is_some_and(|byte| byte != b'\n') {}
        Ok(())
    }

    /// Skips a byte-order mark. Returns false if the text begins with one that is not UTF-8's.
    pub fn skip_byte_order_mark(&mut self) -> io::Result<bool> {
        match self.peek()? {
            Some(0xEF) => {
                let mark = [self.next()?, self.next()?, self.next()?];
                self.position = Position::START;
                Ok(mark == [Some(0xEF), Some(0xBB), Some(0xBF)])
            }
            Some(0xFE | 0xFF) => Ok(false),
            _ => Ok(true),
        }
    }
}
