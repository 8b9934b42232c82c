//! A tracker as a child process, with everything needed to start it again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crate::StackError;
use crate::process::Process;

const START_TIMEOUT: Duration = Duration::from_secs(20);
/// A tracker drains within its grace (25 s), and a whole stack ends within 30 s.
const STOP_GRACE: Duration = Duration::from_secs(26);

/// A tracker.
#[derive(Debug)]
pub struct Tracker {
    process: Process,
    /// Whether its end was reported.
    has_ended: bool,
    binary: PathBuf,
    environment: Vec<(String, String)>,
    log: PathBuf,
    public: String,
    management: String,
}

impl Tracker {
    /// Starts a tracker that listens on `public` and `management`, and waits until it is healthy.
    pub(crate) async fn start(
        binary: PathBuf,
        mut environment: Vec<(String, String)>,
        log: PathBuf,
        public: SocketAddr,
        management: SocketAddr,
    ) -> Result<Self, StackError> {
        environment.extend([
            ("LISTEN_ADDR".to_owned(), public.to_string()),
            ("MANAGEMENT_ADDR".to_owned(), management.to_string()),
        ]);
        let mut tracker = Self {
            process: start_process(&binary, &environment, &log)?,
            has_ended: false,
            binary,
            environment,
            log,
            public: format!("http://{public}"),
            management: format!("http://{management}"),
        };
        tracker.wait_until_healthy().await?;
        Ok(tracker)
    }

    /// URL of the public listener.
    pub fn public_url(&self) -> &str {
        &self.public
    }

    /// URL of the management listener.
    pub fn management_url(&self) -> &str {
        &self.management
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts the process again after it has ended, with the same addresses and the same journal. Does not
    /// wait until it is healthy.
    pub fn launch_again(&mut self) -> Result<(), StackError> {
        self.process = start_process(&self.binary, &self.environment, &self.log)?;
        self.has_ended = false;
        Ok(())
    }

    /// Starts the process again after it has ended, and waits until it is healthy.
    pub async fn start_again(&mut self) -> Result<(), StackError> {
        self.launch_again()?;
        self.wait_until_healthy().await
    }

    /// Waits until the process ends on its own. Reports its end once, and never returns after that.
    pub(crate) async fn wait_for_end(&mut self) -> std::io::Result<ExitStatus> {
        if self.has_ended {
            return std::future::pending().await;
        }
        let status = self.process.wait().await;
        self.has_ended = true;
        status
    }

    pub(crate) async fn stop(self) {
        self.process.stop(STOP_GRACE).await;
    }

    /// Waits until this process, and not another one on its ports, is healthy.
    async fn wait_until_healthy(&mut self) -> Result<(), StackError> {
        let client = http_client();
        let get = async |url: String| {
            client.get(url).timeout(Duration::from_secs(1)).send().await?.error_for_status()
        };
        let give_up = Instant::now() + START_TIMEOUT;
        while Instant::now() < give_up && self.process.exit_status().is_none() {
            let live: Result<serde_json::Value, _> =
                match get(format!("{}/health/live", self.management)).await {
                    Ok(response) => response.json().await,
                    Err(error) => Err(error),
                };
            let id = self.process.id().map(u64::from);
            let is_own = live.is_ok_and(|live| live["processId"].as_u64() == id);
            if is_own && get(format!("{}/health/check", self.public)).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(StackError::NotReady {
            part: "the tracker".into(),
            seconds: START_TIMEOUT.as_secs(),
            log: self.log.display().to_string(),
        })
    }
}

fn start_process(
    binary: &Path,
    environment: &[(String, String)],
    log: &Path,
) -> Result<Process, StackError> {
    let remedy = "build it with `cargo build --workspace`";
    Process::start("tracker", binary, std::iter::empty::<&str>(), environment, log, remedy)
}

/// A client for loopback. It ignores proxies that the environment names.
pub(crate) fn http_client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap_or_default()
}
