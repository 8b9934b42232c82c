//! The local stack of a run: `local-stack` as a child process, so that its CPU time does not count as
//! the harness'.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, setpriority_process};
use tokio::process::{Child, Command};

const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The stack ends within 30 s; after this time it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(35);
const POLL: Duration = Duration::from_millis(50);
/// Niceness of the stand-ins for AWS, so that the tracker and the harness go first: on AWS they run on
/// other machines.
const STAND_IN_NICENESS: i32 = 10;

/// A running local stack. Dropping it kills the process; the kernel then kills its children.
#[derive(Debug)]
pub struct LocalStack {
    /// The variables that `make run` writes to `target/local-stack.env`.
    pub variables: HashMap<String, String>,
    child: Child,
}

/// Why a run has no local stack.
#[derive(Debug, thiserror::Error)]
pub enum LocalStackError {
    /// A file, folder or program cannot be used.
    #[error("{}: {error}", .path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The path of this program, next to which the stack's is, is unknown.
    #[error("this program: {0}")]
    ThisProgram(std::io::Error),
    /// The stack's program was not built.
    #[error(
        "{} does not exist; build it with `make loadtest`, or test a running tracker with --url",
        .0.display()
    )]
    NotBuilt(PathBuf),
    /// The stack ended instead of becoming ready.
    #[error("the local stack ended ({status}): {last_line}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// The last line of its log.
        last_line: String,
    },
    /// The stack did not become ready.
    #[error(
        "the local stack was not ready within {} s; its log is {}",
        START_TIMEOUT.as_secs(),
        .0.display()
    )]
    NotReady(PathBuf),
}

impl LocalStack {
    /// Starts the `local-stack` program that is next to this one, with its files in `folder`, and waits
    /// until it is ready.
    pub async fn start(folder: &Path) -> Result<Self, LocalStackError> {
        let binary = sibling("local-stack")?;
        let env_file = folder.join("stack.env");
        let log_file = folder.join("stack.log");
        let file = |path: &Path| {
            let path = path.to_owned();
            move |error| LocalStackError::File { path, error }
        };
        std::fs::create_dir_all(folder).map_err(file(folder))?;
        let log = std::fs::File::create(&log_file).map_err(file(&log_file))?;
        let errors = log.try_clone().map_err(file(&log_file))?;
        let child = Command::new(&binary)
            .arg("--folder")
            .arg(folder.join("stack"))
            .arg("--env-file")
            .arg(&env_file)
            // Not the ports of `make run`, so that both can run at the same time.
            .args(["--tracker-port", "18080", "--management-port", "19090"])
            .args(["--kinesis-port", "14567", "--dynamodb-port", "18000", "--redis-port", "16379"])
            .arg("--stop-with-parent")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C ends the harness, which still needs the stack to follow the events.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(file(&binary))?;
        let mut stack = Self { variables: HashMap::new(), child };
        stack.variables = stack.wait_until_ready(&env_file, &log_file).await?;
        stack.lower_stand_in_priority();
        Ok(stack)
    }

    async fn wait_until_ready(
        &mut self,
        env_file: &Path,
        log_file: &Path,
    ) -> Result<HashMap<String, String>, LocalStackError> {
        let give_up = Instant::now() + START_TIMEOUT;
        while Instant::now() < give_up {
            let exit_status = self.child.try_wait().ok().flatten();
            // The file may be half written: it is complete with MANAGEMENT_URL and a line end.
            let text = std::fs::read_to_string(env_file).unwrap_or_default();
            if text.ends_with('\n') && text.contains("MANAGEMENT_URL=") {
                return Ok(parse_exports(&text));
            }
            if let Some(status) = exit_status {
                let log = std::fs::read_to_string(log_file).unwrap_or_default();
                let last_line = log.lines().last().unwrap_or_default().to_owned();
                return Err(LocalStackError::Ended { status, last_line });
            }
            tokio::time::sleep(POLL).await;
        }
        Err(LocalStackError::NotReady(log_file.to_owned()))
    }

    /// Lowers the priority of everything except the tracker and Redis. In production, Kinesis,
    /// DynamoDB and the functions do not share a machine with the tracker; here they must not take CPU
    /// from it.
    fn lower_stand_in_priority(&self) {
        let Some(stack) = self.child.id() else { return };
        let mut processes = vec![stack];
        processes.extend(crate::process::children(stack).into_iter().filter(|child| {
            crate::process::name(*child)
                .is_some_and(|name| name != "tracker" && name != "redis-server")
        }));
        for process in processes {
            for thread in crate::process::threads(process) {
                let id = i32::try_from(thread).ok().and_then(Pid::from_raw);
                // Fails for a thread that has ended, which does not matter.
                let _ = setpriority_process(id, STAND_IN_NICENESS);
            }
        }
    }

    /// Stops the stack gracefully, or kills it after 35 s.
    pub async fn stop(mut self) {
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(id) = id {
            // It may have ended on its own.
            let _ = kill_process(id, Signal::TERM);
        }
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

fn sibling(name: &str) -> Result<PathBuf, LocalStackError> {
    let program = std::env::current_exe().map_err(LocalStackError::ThisProgram)?;
    let path = program.with_file_name(name);
    if path.is_file() { Ok(path) } else { Err(LocalStackError::NotBuilt(path)) }
}

/// Parses `export NAME=value` lines.
fn parse_exports(text: &str) -> HashMap<String, String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_exports() {
        let variables = parse_exports("# stack\nexport A=http://x:1\nexport B='file:///a b'\n");
        assert_eq!(variables["A"], "http://x:1");
        assert_eq!(variables["B"], "file:///a b");
        assert_eq!(variables.len(), 2);
    }
}
