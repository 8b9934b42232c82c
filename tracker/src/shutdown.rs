//! The request to shut down, and the signals that make it.

use std::io;

use adtrack_runtime::log_sampling::LogSampling;
use adtrack_runtime::telemetry;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::flag::Flag;

/// The signals that request a shutdown. SIGHUP says that the terminal was closed; some container images stop with
/// SIGQUIT.
const REQUESTS: [(&str, Signal); 4] = [
    ("SIGTERM", Signal::TERM),
    ("SIGINT", Signal::INT),
    ("SIGHUP", Signal::HUP),
    ("SIGQUIT", Signal::QUIT),
];
/// Signals that would end the process by default, and that say nothing to the tracker. Log rotation sends the first
/// two. The last one says that a file would have become too long, which the system call reports, too.
const IGNORED: [(&str, Signal); 7] = [
    ("SIGUSR1", Signal::USR1),
    ("SIGUSR2", Signal::USR2),
    ("SIGALRM", Signal::ALARM),
    ("SIGVTALRM", Signal::VTALARM),
    ("SIGPROF", Signal::PROF),
    ("SIGIO", Signal::IO),
    ("SIGXFSZ", Signal::XFSZ),
];
const IGNORED_LOG: LogSampling = LogSampling { first: 1, every: 1_000 };

/// A request to shut down. SIGTERM, SIGINT, SIGHUP or SIGQUIT makes it; a second one of them ends the process at
/// once.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    requested: CancellationToken,
    after_failure: Flag,
}

impl Shutdown {
    /// A shutdown that signals request. Other signals that would end the process are ignored from now on.
    pub fn on_signals() -> Self {
        let shutdown = Self::default();
        let (sender, mut signals) = mpsc::channel(1);
        let results = REQUESTS
            .map(|(name, number)| request_on(name, number, sender.clone()))
            .into_iter()
            .chain(IGNORED.map(|(name, number)| ignore(name, number)));
        for error in results.filter_map(Result::err) {
            tracing::error!(%error, "cannot listen to a signal, which ends this process at once");
        }
        let requested = shutdown.requested.clone();
        tokio::spawn(async move {
            let Some(signal) = signals.recv().await else { return };
            tracing::info!(signal, "shutdown requested; draining");
            requested.cancel();
            let Some(signal) = signals.recv().await else { return };
            tracing::warn!(signal, "shutdown requested again; ending at once");
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

/// Sends the signal's name whenever it is received.
fn request_on(
    name: &'static str,
    number: Signal,
    requests: mpsc::Sender<&'static str>,
) -> io::Result<()> {
    let mut received = signal(SignalKind::from_raw(number.as_raw()))?;
    tokio::spawn(async move {
        while received.recv().await.is_some() {
            if requests.send(name).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn ignore(name: &'static str, number: Signal) -> io::Result<()> {
    let mut received = signal(SignalKind::from_raw(number.as_raw()))?;
    tokio::spawn(async move {
        for count in 1.. {
            if received.recv().await.is_none() {
                return;
            }
            if IGNORED_LOG.includes(count) {
                tracing::warn!(signal = name, count, "ignored a signal; SIGTERM stops the tracker");
            }
        }
    });
    Ok(())
}
