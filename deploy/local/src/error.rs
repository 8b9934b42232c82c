//! Why a part of the stack does not start.

use std::path::PathBuf;

/// Why a part of the stack does not start; one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// No port could be had.
    #[error(
        "no free port for {part} from {from} to {to}; end what uses them or choose another start"
    )]
    NoPort {
        /// Which part wanted it.
        part: &'static str,
        /// The first port tried.
        from: u16,
        /// The last port tried.
        to: u16,
    },
    /// A program is not on the PATH.
    #[error("`{program}` cannot be started: {source}; {remedy}")]
    Program {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// One of our binaries is not built.
    #[error(
        "{0} is not there; build it with `cargo build --workspace` (--release for a release stack)"
    )]
    NotBuilt(PathBuf),
    /// A part did not become ready.
    #[error("{part} did not become ready within {seconds} s; its log is {log}")]
    NotReady {
        /// Which part.
        part: String,
        /// How long it was given.
        seconds: u64,
        /// Where it logs.
        log: String,
    },
    /// A file or folder of the run cannot be written.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// Another running stack has the environment file.
    #[error(
        "{0} belongs to another running stack; end that one, or choose another file by --env-file"
    )]
    EnvFileInUse(PathBuf),
    /// A stand-in refused a call.
    #[error("{0}")]
    Provisioning(String),
}
