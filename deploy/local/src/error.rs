//! The error of the local stack.

use std::path::PathBuf;

/// Why a part of the stack cannot start. The message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// All ports that were tried are busy.
    #[error(
        "no free port for {part} from {from} to {to}; stop the processes that use them, or choose another first port"
    )]
    NoPort {
        /// The part that needs a port.
        part: &'static str,
        /// The first port tried.
        from: u16,
        /// The last port tried.
        to: u16,
    },
    /// A program cannot be started.
    #[error("`{program}` cannot be started: {source}; {remedy}")]
    Program {
        /// Path or name of the program.
        program: String,
        /// Error of the operating system.
        source: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// One of adtrack's own binaries does not exist.
    #[error(
        "{0} is not there; build it with `cargo build --workspace` (--release for a release stack)"
    )]
    NotBuilt(PathBuf),
    /// A part did not become ready.
    #[error("{part} did not become ready within {seconds} s; its log is {log}")]
    NotReady {
        /// The part.
        part: String,
        /// The time that it was given.
        seconds: u64,
        /// Path of its log.
        log: String,
    },
    /// A file or folder of the run cannot be written.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// Another running stack has the environment file.
    #[error(
        "{0} belongs to another running stack; end that one, or choose another file with --env-file"
    )]
    EnvFileInUse(PathBuf),
    /// A stand-in refused a call.
    #[error("{0}")]
    Provisioning(String),
}
