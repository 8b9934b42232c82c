//! The local stack of a run: `local-stack` as a child process, so that its work is not this one's.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, setpriority_process};
use tokio::process::{Child, Command};

const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The stack ends within 30 s; what then still runs is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(35);
const POLL: Duration = Duration::from_millis(50);
/// What the stand-ins for AWS yield to the tracker and the harness: on AWS they have machines of
/// their own.
const STAND_IN_NICENESS: i32 = 10;

/// A running local stack. Dropping it kills it, and the kernel its children with it.
#[derive(Debug)]
pub struct LocalStack {
    /// What `make run` would have written to `target/local-stack.env`.
    pub variables: HashMap<String, String>,
    child: Child,
}

impl LocalStack {
    /// Starts the `local-stack` beside this program, with its files in `folder`.
    pub async fn start(folder: &Path) -> Result<Self, String> {
        let binary = sibling("local-stack")?;
        let env_file = folder.join("stack.env");
        let log_file = folder.join("stack.log");
        let problem = |what: &str, error: std::io::Error| format!("{what}: {error}");
        std::fs::create_dir_all(folder)
            .map_err(|error| problem(&folder.display().to_string(), error))?;
        let log = std::fs::File::create(&log_file)
            .map_err(|error| problem(&log_file.display().to_string(), error))?;
        let errors = log.try_clone().map_err(|error| problem("the stack's log", error))?;
        let child = Command::new(&binary)
            .arg("--folder")
            .arg(folder.join("stack"))
            .arg("--env-file")
            .arg(&env_file)
            // Beside those of `make run`, so that neither has to move.
            .args(["--tracker-port", "18080", "--management-port", "19090"])
            .args(["--kinesis-port", "14567", "--dynamodb-port", "18000", "--redis-port", "16379"])
            .arg("--stop-with-parent")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C is for the harness: it still needs the stack to see what became of the events.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| problem(&binary.display().to_string(), error))?;
        let mut stack = Self { variables: HashMap::new(), child };
        stack.variables = stack.wait_until_ready(&env_file, &log_file).await?;
        stack.yield_stand_ins();
        Ok(stack)
    }

    async fn wait_until_ready(
        &mut self,
        env_file: &Path,
        log_file: &Path,
    ) -> Result<HashMap<String, String>, String> {
        let give_up = Instant::now() + START_TIMEOUT;
        while Instant::now() < give_up {
            let ended = self.child.try_wait().ok().flatten();
            // The last line that is written is an `export` as the others: it has to be whole.
            let text = std::fs::read_to_string(env_file).unwrap_or_default();
            if text.ends_with('\n') && text.contains("MANAGEMENT_URL=") {
                return Ok(parse_exports(&text));
            }
            if let Some(status) = ended {
                let log = std::fs::read_to_string(log_file).unwrap_or_default();
                let last = log.lines().last().unwrap_or_default();
                return Err(format!("the local stack ended ({status}): {last}"));
            }
            tokio::time::sleep(POLL).await;
        }
        Err(format!(
            "the local stack was not ready within {} s; its log is {}",
            START_TIMEOUT.as_secs(),
            log_file.display()
        ))
    }

    /// Lowers the priority of everything but the tracker. Kinesis, DynamoDB and the functions do
    /// not share a machine with it in earnest; here they are not to take it from the tracker.
    fn yield_stand_ins(&self) {
        let Some(stack) = self.child.id() else { return };
        let mut processes = vec![stack];
        processes.extend(crate::process::children(stack).into_iter().filter(|child| {
            crate::process::name(*child)
                .is_some_and(|name| name != "tracker" && name != "redis-server")
        }));
        for process in processes {
            for thread in crate::process::threads(process) {
                let id = i32::try_from(thread).ok().and_then(Pid::from_raw);
                // A thread that has ended needs none.
                let _ = setpriority_process(id, STAND_IN_NICENESS);
            }
        }
    }

    /// Stops it in order.
    pub async fn stop(mut self) {
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(id) = id {
            // It may have ended by itself.
            let _ = kill_process(id, Signal::TERM);
        }
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

fn sibling(name: &str) -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let path = program.with_file_name(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!(
            "{} is not there; `make loadtest` builds it, and --url needs none",
            path.display()
        ))
    }
}

/// Reads `export NAME=value` lines.
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
    fn exports_are_read() {
        let variables = parse_exports("# stack\nexport A=http://x:1\nexport B='file:///a b'\n");
        assert_eq!(variables["A"], "http://x:1");
        assert_eq!(variables["B"], "file:///a b");
        assert_eq!(variables.len(), 2);
    }
}
