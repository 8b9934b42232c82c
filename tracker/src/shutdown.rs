//! The request to shut down.

use adtrack_runtime::telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::flag::Flag;

/// A request to shut down. SIGTERM, SIGINT or SIGHUP makes it; a second signal ends the process at once.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    requested: CancellationToken,
    after_failure: Flag,
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
