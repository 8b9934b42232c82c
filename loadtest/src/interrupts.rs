//! What ends a run early.

use adtrack_runtime::outln;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Ctrl-C: the first one ends the sending, the second one the waiting for rows.
pub(crate) struct Interrupts {
    pub(crate) first: watch::Receiver<bool>,
    pub(crate) second: watch::Receiver<bool>,
}

impl Interrupts {
    pub(crate) fn listen() -> Self {
        let (first_sender, first) = watch::channel(false);
        let (second_sender, second) = watch::channel(false);
        tokio::spawn(async move {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                // Keep the senders: a closed channel would count as an interrupt.
                return std::future::pending().await;
            };
            for sender in [first_sender, second_sender] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                outln!(
                    "\nInterrupted: ending with a report. Press ctrl-C again to not wait for rows."
                );
                sender.send_replace(true);
            }
        });
        Self { first, second }
    }
}
