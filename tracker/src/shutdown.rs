//! When to end, and what has to end first.

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The end of the process. SIGTERM or SIGINT asks for it; a second one ends the process at once.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    requested: CancellationToken,
}

/// Background tasks: none is detached, all are told to stop and waited for.
#[derive(Debug, Default)]
pub struct Background {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Shutdown {
    /// Ends on signals.
    pub fn on_signals() -> Self {
        let shutdown = Self::default();
        let requested = shutdown.requested.clone();
        tokio::spawn(async move {
            next_signal().await;
            tracing::info!("asked to end; draining");
            requested.cancel();
            next_signal().await;
            tracing::warn!("asked again; ending at once");
            std::process::exit(130);
        });
        shutdown
    }

    /// Asks for the end.
    pub fn request(&self) {
        self.requested.cancel();
    }

    /// Waits until the end is asked for.
    pub async fn requested(&self) {
        self.requested.cancelled().await;
    }
}

async fn next_signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be listened to; only SIGKILL ends this process");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

impl Background {
    /// Runs `task`, which gets the token that tells it to stop.
    pub fn spawn<F>(&mut self, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task(self.stop.clone()));
    }

    /// Waits until a task ends by itself, which none should.
    pub async fn ended(&mut self) {
        if let Some(Err(error)) = self.tasks.join_next().await {
            tracing::error!(%error, "a background task panicked; this is a bug in adtrack");
        }
    }

    /// Tells all tasks to stop and waits for them.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}
