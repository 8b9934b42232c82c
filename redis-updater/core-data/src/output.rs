//! Standard output.

use std::fmt::Display;
use std::io::Write;

/// Prints a line. Ignores errors: the reader may have closed the pipe.
pub fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
