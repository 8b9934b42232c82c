//! Standard output.

use std::fmt::Display;
use std::io::Write;

/// Prints a line. Nobody reading it any more is no error.
pub fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
