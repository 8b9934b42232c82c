//! Reads bytes and knows where it is.

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

    /// The place behind `byte`.
    fn step(&mut self, byte: u8) {
        match byte {
            b'\n' => *self = Self { line: self.line + 1, column: 1 },
            // The second to fourth byte of a character of UTF-8.
            0x80..=0xBF => {}
            _ => self.column += 1,
        }
    }

    /// The place behind `bytes`, which begin here.
    pub fn after(mut self, bytes: &[u8]) -> Self {
        for &byte in bytes {
            self.step(byte);
        }
        self
    }
}

/// A reader with its place.
pub struct Cursor<R> {
    reader: R,
    position: Position,
}

impl<R: BufRead> Cursor<R> {
    /// At the beginning of `reader`.
    pub fn new(reader: R) -> Self {
        Self { reader, position: Position::START }
    }

    /// Where the next byte is.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The next byte, which stays the next.
    pub fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.reader.fill_buf() {
                Ok(bytes) => return Ok(bytes.first().copied()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next byte.
    pub fn next(&mut self) -> io::Result<Option<u8>> {
        let byte = self.peek()?;
        if let Some(byte) = byte {
            self.reader.consume(1);
            self.position.step(byte);
        }
        Ok(byte)
    }

    /// Skips white space (that of JSON) and returns the byte behind it.
    pub fn skip_blanks(&mut self) -> io::Result<Option<u8>> {
        while let Some(byte) = self.peek()? {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(Some(byte));
            }
            self.next()?;
        }
        Ok(None)
    }

    /// Skips the rest of a line and its end.
    pub fn skip_line(&mut self) -> io::Result<()> {
        while self.next()?.is_some_and(|byte| byte != b'\n') {}
        Ok(())
    }

    /// Skips a byte-order mark. False where the text begins as no UTF-8 text does, or as UTF-16.
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
