//! A Lambda function: a bootstrap binary, and the sandboxes that run it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::body::Bytes;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::runtime_api::{Invocation, RuntimeApi};
use crate::StackError;
use crate::process::Process;

const SANDBOX_STOP_GRACE: Duration = Duration::from_secs(1);

/// Settings of a function.
#[derive(Debug, Clone)]
pub struct FunctionSettings {
    /// Name of the function.
    pub name: String,
    /// Path of the bootstrap binary.
    pub binary: PathBuf,
    /// Environment, in addition to what Lambda sets.
    pub environment: Vec<(String, String)>,
    /// How long an invocation may take.
    pub timeout: Duration,
    /// Maximum number of sandboxes at a time.
    pub concurrency: usize,
    /// Folder of the sandboxes' logs.
    pub log_folder: PathBuf,
}

/// A function that can be invoked.
#[derive(Debug)]
pub struct Function {
    settings: FunctionSettings,
    idle: Mutex<Vec<Sandbox>>,
    places: Arc<Semaphore>,
    started: AtomicU32,
    kills: Notify,
}

/// Why an invocation failed.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// The bootstrap process ended.
    #[error("the bootstrap ended: {0}")]
    Crashed(String),
    /// The handler reported an error.
    #[error("the function reported an error: {0}")]
    Reported(String),
    /// The invocation took longer than its timeout.
    #[error("no response within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// No sandbox could be started.
    #[error(transparent)]
    NotStarted(#[from] StackError),
}

/// A function that an event-source mapping can invoke.
pub trait Invoke: Send + Sync + 'static {
    /// Invokes the function with `payload` and returns its response.
    fn invoke(&self, payload: Bytes) -> impl Future<Output = Result<Bytes, InvokeError>> + Send;
}

/// A bootstrap process and its runtime API. Handles one invocation at a time.
#[derive(Debug)]
struct Sandbox {
    api: RuntimeApi,
    process: Process,
}

impl Function {
    /// A function without a sandbox; the first invocation starts one.
    pub fn new(settings: FunctionSettings) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(settings.concurrency));
        Arc::new(Self {
            settings,
            idle: Mutex::default(),
            places,
            started: AtomicU32::new(0),
            kills: Notify::new(),
        })
    }

    /// Name of the function.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Kills all sandboxes, as `kill -9` does. Invocations that run in them fail.
    pub async fn kill(&self) {
        self.kills.notify_waiters();
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for mut sandbox in idle {
            sandbox.process.kill().await;
        }
    }

    /// Starts a sandbox, so that the first invocation does not have to wait for one.
    pub async fn warm_up(&self) -> Result<(), StackError> {
        let sandbox = self.start_sandbox().await?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sandbox);
        Ok(())
    }

    /// Starts a sandbox as [`Self::warm_up`] does, and waits until its bootstrap polls for an invocation.
    /// Returns the time from the start of the process to the poll.
    pub async fn cold_start(&self) -> Result<Duration, StackError> {
        let started_at = Instant::now();
        let mut sandbox = self.start_sandbox().await?;
        tokio::select! {
            () = sandbox.api.wait_for_poll() => {}
            status = sandbox.process.wait() => {
                let status =
                    status.map_or_else(|error| error.to_string(), |status| status.to_string());
                let name = &self.settings.name;
                return Err(StackError::Provisioning(format!(
                    "{name} ended before it polled for an invocation: {status}; see its log"
                )));
            }
        }
        let polled_after = started_at.elapsed();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sandbox);
        Ok(polled_after)
    }

    /// Stops all idle sandboxes.
    pub async fn stop(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        let stops = idle.into_iter().map(|sandbox| sandbox.process.stop(SANDBOX_STOP_GRACE));
        futures::future::join_all(stops).await;
    }

    /// Process id of the sandbox that would run the next invocation; `None` if none is idle.
    pub fn idle_process(&self) -> Option<u32> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.last().and_then(|sandbox| sandbox.process.id())
    }

    fn idle_sandbox(&self) -> Option<Sandbox> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut sandbox = idle.pop()?;
            if sandbox.process.exit_status().is_none() {
                return Some(sandbox);
            }
        }
    }

    async fn start_sandbox(&self) -> Result<Sandbox, StackError> {
        let settings = &self.settings;
        let api = RuntimeApi::start(&settings.name).await?;
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let log = settings.log_folder.join(format!("{}-{number}.log", settings.name));
        let lambda = [
            ("AWS_LAMBDA_RUNTIME_API", api.address.as_str()),
            ("AWS_LAMBDA_FUNCTION_NAME", &settings.name),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "local"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "local"),
        ];
        let mut environment = settings.environment.clone();
        environment.extend(lambda.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let process = Process::start(
            &settings.name,
            &settings.binary,
            std::iter::empty::<&str>(),
            &environment,
            &log,
            "build it with `cargo build --workspace`",
        )?;
        Ok(Sandbox { api, process })
    }
}

impl Invoke for Function {
    /// Runs an invocation in an idle or a new sandbox. A sandbox that crashed or timed out is not used
    /// again.
    async fn invoke(&self, payload: Bytes) -> Result<Bytes, InvokeError> {
        // The semaphore is never closed.
        let _place = self.places.acquire().await;
        let mut sandbox = match self.idle_sandbox() {
            Some(sandbox) => sandbox,
            None => self.start_sandbox().await?,
        };
        let (responder, response) = oneshot::channel();
        let invocation = Invocation {
            request_id: uuid::Uuid::now_v7().to_string(),
            payload,
            deadline: SystemTime::now() + self.settings.timeout,
            responder,
        };
        sandbox.api.send(invocation).await;
        let result = tokio::select! {
            response = response => match response {
                Ok(Ok(body)) => Ok(body),
                Ok(Err(body)) => {
                    Err(InvokeError::Reported(String::from_utf8_lossy(&body).into_owned()))
                }
                Err(_) => Err(InvokeError::Crashed("it dropped the invocation".to_owned())),
            },
            status = sandbox.process.wait() => Err(InvokeError::Crashed(
                status.map_or_else(|error| error.to_string(), |status| status.to_string()),
            )),
            () = self.kills.notified() => Err(InvokeError::Crashed("it was killed".to_owned())),
            () = tokio::time::sleep(self.settings.timeout) => {
                Err(InvokeError::TimedOut(self.settings.timeout))
            }
        };
        match &result {
            Ok(_) | Err(InvokeError::Reported(_)) => {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sandbox);
            }
            Err(_) => sandbox.process.kill().await,
        }
        result
    }
}
