//! Shutdown: the request to shut down, and the background tasks to stop.

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A request to shut down. SIGTERM or SIGINT makes it; a second signal ends the process at once.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    requested: CancellationToken,
}

/// The background tasks. None is detached: shutdown asks all of them to stop and waits for them.
#[derive(Debug, Default)]
pub struct Background {
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
            std::process::exit(130);
        });
        shutdown
    }

    /// Requests shutdown.
    pub fn request(&self) {
        self.requested.cancel();
    }

    /// Waits until shutdown is requested.
    pub async fn wait_for_request(&self) {
        self.requested.cancelled().await;
    }
}

async fn next_signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("cannot listen to signals; only SIGKILL ends this process");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

impl Background {
    /// Runs `task`, which gets the token that asks it to stop.
    pub fn spawn<F>(&mut self, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task(self.stop.clone()));
    }

    /// Waits until a task ends on its own, which none should.
    pub async fn wait_for_end(&mut self) {
        if let Some(Err(error)) = self.tasks.join_next().await {
            tracing::error!(%error, "a background task panicked; this is a bug in adtrack");
        }
    }

    /// Asks all tasks to stop and waits for them.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}
