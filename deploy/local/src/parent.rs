//! Watches the process that started this one, usually `make`.
//!
//! The end of the parent shows: this process gets another one. What does not show is a SIGINT that was sent to
//! `make` alone, not to all processes of its terminal: `make` then sleeps in its signal handler until its
//! children end, and SIGINT is blocked. Other processes block SIGINT as well: every program for the moment in
//! which it starts another one, and some, such as `tini`, for as long as they live. So the parent counts as
//! interrupted only if it listened for SIGINT before, and then blocks it and does not run at all for [`POLLS`]
//! polls. A process that starts others runs.

use std::time::Duration;

use procfs::process::{Process, Status};

const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Polls in a row that show an interrupted parent.
const POLLS: u32 = 4;
/// SIGINT's bit in a mask of signals.
const SIGINT_BIT: u64 = 1 << 1;

/// Waits until the parent process has ended or was interrupted.
pub(crate) async fn wait_for_end() {
    let Some(parent) = rustix::process::getppid() else { return };
    let parent = parent.as_raw_nonzero();
    let process = Process::new(parent.get());
    let mut watch = Watch::default();
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let now = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
        if now != Some(parent) {
            return;
        }
        match process.as_ref().map(Process::status) {
            Ok(Ok(status)) if watch.is_interrupted(Poll::of(&status)) => return,
            Ok(Ok(_)) => {}
            // Without /proc, only signals end this program.
            Ok(Err(_)) | Err(_) => return std::future::pending().await,
        }
    }
}

/// What a poll shows of the parent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Poll {
    blocks_sigint: bool,
    /// Whether it has a handler for SIGINT.
    catches_sigint: bool,
    /// How often it has stopped running, on its own or because it had to. If two polls have the same number, it
    /// did not run between them.
    switches: u64,
}

impl Poll {
    fn of(status: &Status) -> Self {
        let switches = [status.voluntary_ctxt_switches, status.nonvoluntary_ctxt_switches];
        Self {
            blocks_sigint: status.sigblk & SIGINT_BIT != 0,
            catches_sigint: status.sigcgt & SIGINT_BIT != 0,
            switches: switches.into_iter().flatten().sum(),
        }
    }
}

/// What the polls have shown so far.
#[derive(Debug, Default)]
struct Watch {
    /// Whether a poll found a handler for SIGINT, and SIGINT not blocked.
    has_listened: bool,
    last: Poll,
    /// Polls in a row that found SIGINT blocked, and the parent asleep since the poll before.
    asleep: u32,
}

impl Watch {
    fn is_interrupted(&mut self, poll: Poll) -> bool {
        self.has_listened |= poll.catches_sigint && !poll.blocks_sigint;
        let is_asleep = poll.blocks_sigint && poll == self.last;
        self.asleep = if is_asleep { self.asleep + 1 } else { 0 };
        self.last = poll;
        self.has_listened && self.asleep >= POLLS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENS: Poll = Poll { blocks_sigint: false, catches_sigint: true, switches: 7 };
    /// As make is in its handler, which it removes first.
    const IN_HANDLER: Poll = Poll { blocks_sigint: true, catches_sigint: false, switches: 9 };

    fn polls(polls: &[Poll]) -> Vec<bool> {
        let mut watch = Watch::default();
        polls.iter().map(|poll| watch.is_interrupted(*poll)).collect()
    }

    #[test]
    fn reads_the_status_of_a_process() {
        let poll = Poll::of(&Process::myself().unwrap().status().unwrap());
        assert!(!poll.blocks_sigint && poll.switches > 0, "{poll:?}");
    }

    #[test]
    fn a_parent_that_sleeps_with_sigint_blocked_is_interrupted() {
        let shown = polls(&[&[LISTENS][..], &[IN_HANDLER; 5]].concat());
        assert_eq!(shown, [false, false, false, false, false, true]);
    }

    #[test]
    fn a_parent_that_starts_processes_is_not_interrupted() {
        let starting = |switches| Poll { blocks_sigint: true, switches, ..LISTENS };
        let found_while_starting: Vec<_> = (0..100).map(|poll| starting(3 * poll)).collect();
        assert!(!polls(&[&[LISTENS], &found_while_starting[..]].concat()).contains(&true));
        let now_and_then: Vec<_> =
            (0..100).map(|poll| if poll % 4 > 0 { starting(5) } else { LISTENS }).collect();
        assert!(!polls(&now_and_then).contains(&true));
    }

    #[test]
    fn a_parent_that_never_listened_is_not_interrupted() {
        assert!(!polls(&[IN_HANDLER; 100]).contains(&true));
        let ignores = Poll { catches_sigint: false, ..LISTENS };
        assert!(!polls(&[&[ignores][..], &[IN_HANDLER; 100]].concat()).contains(&true));
    }
}
