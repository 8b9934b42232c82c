//! Shutdown: the request to shut down, and the background tasks to stop.

use std::time::Duration;

use adtrack_runtime::telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::flag::Flag;
use crate::watchdog::{Progress, WakeUps};

/// A request to shut down. SIGTERM, SIGINT or SIGHUP makes it; a second signal ends the process at once.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    requested: CancellationToken,
    after_failure: Flag,
}

/// How long background tasks may take to stop. None has anything left to finish.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// The background tasks. None is detached: shutdown asks all of them to stop and waits for them.
#[derive(Debug, Default)]
pub struct Background {
    progress: Progress,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Shutdown {
    /// A shutdown that signals request.
    pub fn on_signals() -> Self {
        let shutdown = Self::default();
        let requested = shutdown.requested.clone();
        tokio::spawn(async move {
            next_signal().await;
            tracing::info!("shutdown requested; draining");
            requested.cancel();
            next_signal().await;
            tracing::warn!("shutdown requested again; ending at once");
            telemetry::flush();
            std::process::exit(130);
        });
        shutdown
    }

    /// Requests shutdown.
    pub fn request(&self) {
        self.requested.cancel();
    }

    /// Requests shutdown because a part of the tracker failed.
    pub fn request_after_failure(&self) {
        self.after_failure.set(true);
        self.request();
    }

    /// Whether shutdown was requested.
    pub fn is_requested(&self) -> bool {
        self.requested.is_cancelled()
    }

    /// Whether it was requested because a part of the tracker failed.
    pub fn is_after_failure(&self) -> bool {
        self.after_failure.is_set()
    }

    /// Waits until shutdown is requested.
    pub async fn wait_for_request(&self) {
        self.requested.cancelled().await;
    }
}

async fn next_signal() {
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hang_up)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    ) else {
        tracing::error!("cannot listen to signals; only SIGKILL ends this process");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        // Its terminal was closed.
        _ = hang_up.recv() => {}
    }
}

impl Background {
    /// Tasks whose progress goes to `progress`.
    pub fn new(progress: Progress) -> Self {
        Self { progress, ..Self::default() }
    }

    /// Runs `task` under `name`. It gets the token that asks it to stop.
    pub fn spawn<F>(
        &mut self,
        name: &'static str,
        wake_ups: WakeUps,
        task: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(self.progress.watch(name, wake_ups, task(self.stop.clone())));
    }

    /// Waits until a task ends on its own, which none should.
    pub async fn wait_for_end(&mut self) {
        if let Some(Err(error)) = self.tasks.join_next().await {
            tracing::error!(%error, "a background task panicked; this is a bug in adtrack");
        }
    }

    /// Asks all tasks to stop and waits for them, but not for one that is blocked.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let end = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, end).await.is_err() {
            tracing::error!("a background task does not stop; this is a bug in adtrack");
        }
    }
}
