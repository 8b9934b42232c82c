//! Watches the process that started this one, usually `make`.

use std::time::Duration;

use procfs::process::Process;

const POLL: Duration = Duration::from_millis(500);
/// SIGINT's bit in a mask of signals.
const SIGINT_BIT: u64 = 1 << 1;

/// Waits until the parent process has ended or was interrupted.
///
/// Ctrl-C reaches every process in a terminal, but a SIGINT sent to `make` reaches only `make`. It then
/// waits for its children inside its signal handler, so that SIGINT is blocked.
pub(crate) async fn wait_for_end() {
    let Some(parent) = rustix::process::getppid() else { return };
    let parent = parent.as_raw_nonzero();
    let process = Process::new(parent.get());
    loop {
        tokio::time::sleep(POLL).await;
        let now = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
        if now != Some(parent) {
            return;
        }
        match process.as_ref().map(Process::status) {
            Ok(Ok(status)) if is_interrupted(status.sigblk) => return,
            Ok(Ok(_)) => {}
            // Without /proc, only signals end this program.
            Ok(Err(_)) | Err(_) => return std::future::pending().await,
        }
    }
}

fn is_interrupted(blocked_signals: u64) -> bool {
    blocked_signals & SIGINT_BIT != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_a_blocked_sigint() {
        assert!(is_interrupted(0x2) && is_interrupted(0x1_0002));
        assert!(!is_interrupted(0x1_0000));
        assert!(!is_interrupted(0));
    }
}
