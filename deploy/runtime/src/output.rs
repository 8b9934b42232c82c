//! Standard output and standard error of the command-line tools.
//!
//! `println!` panics when its line cannot be written. Here, a line is dropped instead:
//!
//! - A reader that closes the pipe, as `head` does, has all it wants. The tool does its work to the end, and
//!   its exit status is that of the work.
//! - Any other failure, such as a full disk, loses output that somebody relies on: [`finish`] reports it, and
//!   turns success into [`EXIT_IO`].
//! - What cannot be written to standard error is lost: nobody can read it.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

/// The exit status if output was lost: `EX_IOERR`.
pub const EXIT_IO: u8 = 74;

/// Why standard output accepts no more.
static FAILURE: OnceLock<Failure> = OnceLock::new();

#[derive(Debug)]
enum Failure {
    /// The reader has closed the pipe.
    Closed,
    /// Output is lost.
    Lost(io::Error),
}

/// Prints a line on standard output, as `println!` does, but [never panics](crate::output).
#[macro_export]
macro_rules! outln {
    ($($arguments:tt)*) => { $crate::output::line(::core::format_args!($($arguments)*)) };
}

/// Prints a line on standard error, as `eprintln!` does, but [never panics](crate::output).
#[macro_export]
macro_rules! errln {
    ($($arguments:tt)*) => { $crate::output::error_line(::core::format_args!($($arguments)*)) };
}

/// Prints a line on standard output.
pub fn line(text: impl fmt::Display) {
    write(|out| writeln!(out, "{text}"));
}

/// Prints on standard output, without a line end of its own.
pub fn text(text: impl fmt::Display) {
    write(|out| write!(out, "{text}"));
}

/// Passes standard output to `print`, unless it accepts no more. Returns whether it accepts more.
pub fn write(print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> bool {
    if FAILURE.get().is_some() {
        return false;
    }
    let mut out = io::stdout().lock();
    let Err(error) = print(&mut out).and_then(|()| out.flush()) else { return true };
    let failure = match error.kind() {
        ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::Lost(error),
    };
    // Another thread may have been faster.
    let _ = FAILURE.set(failure);
    false
}

/// Prints a line on standard error.
pub fn error_line(text: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The status to exit with, after work whose own status is `status`. Reports lost output.
pub fn finish(status: ExitCode) -> ExitCode {
    let Some(Failure::Lost(error)) = FAILURE.get() else { return status };
    error_line(format_args!(
        "{}: standard output: {error}; what was printed is lost",
        program_name()
    ));
    if status == ExitCode::SUCCESS { ExitCode::from(EXIT_IO) } else { status }
}

/// The name under which this program was started.
pub(crate) fn program_name() -> String {
    std::env::args_os()
        .next()
        .and_then(|path| Some(std::path::Path::new(&path).file_name()?.to_str()?.to_owned()))
        .unwrap_or_else(|| "adtrack".to_owned())
}
