//! A redis-server as a child process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crate::StackError;
use crate::ports::{self, Port};
use crate::process::Process;

const START_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_GRACE: Duration = Duration::from_secs(2);
const START_ATTEMPTS: u32 = 3;
/// Environment variable that names another server binary, such as `valkey-server`.
const BINARY_VARIABLE: &str = "REDIS_SERVER";

/// A redis-server without persistence.
#[derive(Debug)]
pub struct RedisServer {
    address: SocketAddr,
    folder: PathBuf,
    arguments: Vec<String>,
    process: Option<Process>,
}

impl RedisServer {
    /// Starts a server on `port` and waits until it is ready. Its log and working folder are in `folder`.
    pub async fn start(port: Port, folder: &Path) -> Result<Self, StackError> {
        Self::start_with(port, folder, &[]).await
    }

    /// Starts a server with further command-line arguments.
    pub async fn start_with(
        port: Port,
        folder: &Path,
        arguments: &[&str],
    ) -> Result<Self, StackError> {
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut attempt = 1;
        loop {
            let address = ports::free("Redis", port).await?;
            let arguments = arguments.clone();
            let mut server = Self { address, folder: folder.to_owned(), arguments, process: None };
            match server.start_again().await {
                Ok(()) => return Ok(server),
                // Another process took the port in the meantime.
                Err(StackError::NotReady { .. }) if attempt < START_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Address for clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// URL for clients.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Kills the server: its data is lost, and its clients' connections break.
    pub async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await;
        }
    }

    /// Starts the server again on the same port, empty. After an error none runs.
    pub async fn start_again(&mut self) -> Result<(), StackError> {
        self.kill().await;
        std::fs::create_dir_all(&self.folder)
            .map_err(|error| StackError::File(self.folder.clone(), error))?;
        let port = self.address.port().to_string();
        let folder = self.folder.display().to_string();
        let log = self.folder.join("redis.log");
        let binary = std::env::var_os(BINARY_VARIABLE).unwrap_or_else(|| "redis-server".into());
        let fixed = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let fixed = fixed.into_iter().chain(["--dir", &folder]);
        let process = Process::start(
            "redis-server",
            Path::new(&binary),
            fixed.chain(self.arguments.iter().map(String::as_str)),
            &[],
            &log,
            "install it (Debian: apt-get install redis-server)",
        )?;
        self.process = Some(process);
        let ready = self.wait_until_ready(&log).await;
        if ready.is_err() {
            self.kill().await;
        }
        ready
    }

    /// Stops the server with SIGTERM, or kills it after 2 s.
    pub async fn stop(mut self) {
        if let Some(process) = self.process.take() {
            process.stop(STOP_GRACE).await;
        }
    }

    async fn wait_until_ready(&mut self, log: &Path) -> Result<(), StackError> {
        let give_up = Instant::now() + START_TIMEOUT;
        while Instant::now() < give_up {
            // Another server may have taken the port.
            let child = self.process.as_ref().and_then(Process::id);
            if self.process_id().await.is_ok_and(|id| Some(id) == child) {
                return Ok(());
            }
            if self.process.as_mut().is_some_and(|process| process.exit_status().is_some()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(StackError::NotReady {
            part: "redis-server".into(),
            seconds: START_TIMEOUT.as_secs(),
            log: log.display().to_string(),
        })
    }

    /// Opens a new connection.
    pub async fn connection(&self) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        redis::Client::open(self.url())?.get_multiplexed_async_connection().await
    }

    /// Waits until the server ends on its own. Never returns if it does not run.
    pub async fn wait_for_end(&mut self) -> std::io::Result<ExitStatus> {
        let Some(process) = &mut self.process else { return std::future::pending().await };
        let status = process.wait().await;
        self.process = None;
        status
    }

    /// Runs a command on a new connection, as redis-cli would.
    pub async fn command<T: redis::FromRedisValue>(
        &self,
        command: &[&str],
    ) -> redis::RedisResult<T> {
        let (name, arguments) = command.split_first().unwrap_or((&"PING", &[]));
        redis::cmd(name).arg(arguments).query_async(&mut self.connection().await?).await
    }

    /// The server's process, unless it was killed.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Id of the process that responds on the port.
    async fn process_id(&self) -> redis::RedisResult<u32> {
        let info: redis::InfoDict =
            redis::cmd("INFO").arg("server").query_async(&mut self.connection().await?).await?;
        Ok(info.get("process_id").unwrap_or_default())
    }
}
