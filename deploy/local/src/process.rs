//! Child processes: each in a process group of its own, with a log file, and killed when this process
//! ends.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use tokio::process::{Child, Command};

use crate::StackError;

/// A child process, killed on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts `program` with `arguments`, with `environment` in addition to this process' environment.
    /// Its output goes to `log`. An error that the program cannot be started ends in `remedy`.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        environment: &[(String, String)],
        log: &Path,
        remedy: &'static str,
    ) -> Result<Self, StackError> {
        let file_error = |error| StackError::File(log.to_owned(), error);
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder).map_err(file_error)?;
        }
        let output = File::options().create(true).append(true).open(log).map_err(file_error)?;
        let errors = output.try_clone().map_err(file_error)?;
        let spawn_error =
            |source| StackError::Program { program: program.display().to_string(), source, remedy };
        if !program.is_absolute() && find_on_path(program.as_os_str()).is_none() {
            return Err(spawn_error(std::io::ErrorKind::NotFound.into()));
        }
        let child = command(program)
            .args(arguments)
            // Settings of the user's shell that would point to other servers.
            .env_remove("REDIS_HOST")
            .env_remove("REDIS_PORT")
            .env_remove("REDIS_PASSWORD_FILE")
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_SESSION_TOKEN")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // In a group of its own, so that ctrl-C reaches only this process, which stops its
            // children in order, the tracker first.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(spawn_error)?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// Process id; `None` once the process has ended and was waited for.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Exit status; `None` while the process runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until the process ends.
    pub async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Sends `signal`, unless the process has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // Fails if the process has ended since.
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends the process with SIGTERM, or with SIGKILL after `grace`.
    pub async fn stop(mut self, grace: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(grace, self.child.wait()).await.is_err() {
            tracing::warn!(name = self.name, "a process did not end in time; killing it");
            self.kill().await;
        }
    }

    /// Ends the process with SIGKILL.
    pub async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }
}

/// A command that starts `program`, with `setpriv` if it exists, so that the kernel kills the program if
/// this process dies without cleaning up.
fn command(program: &Path) -> Command {
    match find_on_path(OsStr::new("setpriv")) {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

fn find_on_path(program: &OsStr) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Path of one of adtrack's own binaries in `folder`.
pub fn own_binary(folder: &Path, name: &str) -> Result<PathBuf, StackError> {
    let path = folder.join(name);
    if path.is_file() { Ok(path) } else { Err(StackError::NotBuilt(path)) }
}
