//! The local stack of a run: `local-stack` as a child process, so that its CPU time does not count as
//! the harness'.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
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

impl LocalStack {
    /// Starts the `local-stack` program that is next to this one, with its files in `folder`, and waits
    /// until it is ready.
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
            .map_err(|error| problem(&binary.display().to_string(), error))?;
        let mut stack = Self { variables: HashMap::new(), child };
        stack.variables = stack.wait_until_ready(&env_file, &log_file).await?;
        stack.lower_stand_in_priority();
        Ok(stack)
    }

    async fn wait_until_ready(
        &mut self,
        env_file: &Path,
        log_file: &Path,
    ) -> Result<HashMap<String, String>, String> {
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

fn sibling(name: &str) -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let path = program.with_file_name(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!(
            "{} does not exist; build it with `make loadtest`, or test a running tracker with --url",
            path.display()
        ))
    }
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
