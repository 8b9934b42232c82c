//! Watches the process that started this one, usually `make`.

use std::time::Duration;

const POLL: Duration = Duration::from_millis(500);
/// SIGINT's bit in the masks of `/proc/PID/status`.
const SIGINT_BIT: u64 = 1 << 1;

/// Waits until the parent process has ended or was interrupted.
///
/// Ctrl-C reaches every process in a terminal, but a SIGINT sent to `make` reaches only `make`. It then
/// waits for its children inside its signal handler, so that SIGINT is blocked.
pub(crate) async fn wait_for_end() {
    let Some(parent) = rustix::process::getppid() else { return };
    let parent = parent.as_raw_nonzero();
    let status = format!("/proc/{parent}/status");
    loop {
        tokio::time::sleep(POLL).await;
        let now = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
        if now != Some(parent) {
            return;
        }
        match std::fs::read_to_string(&status) {
            Ok(text) if is_interrupted(&text) => return,
            Ok(_) => {}
            // Without /proc, only signals end this program.
            Err(_) => return std::future::pending().await,
        }
    }
}

fn is_interrupted(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigBlk:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & SIGINT_BIT != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_a_blocked_sigint() {
        assert!(is_interrupted("Name:\tmake\nSigBlk:\t0000000000000002\nSigIgn:\t0\n"));
        assert!(!is_interrupted("Name:\tmake\nSigBlk:\t0000000000010000\n"));
        assert!(!is_interrupted("Name:\tmake\n"));
    }
}
