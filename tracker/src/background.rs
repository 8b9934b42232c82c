//! The background tasks, which shutdown stops.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::watchdog::{Progress, WakeUps};

/// How long background tasks may take to stop. None has anything left to finish.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// The background tasks. None is detached: shutdown asks all of them to stop and waits for them.
#[derive(Debug, Default)]
pub struct Background {
    progress: Progress,
    stop: CancellationToken,
    tasks: JoinSet<()>,
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
