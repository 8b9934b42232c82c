//! Watches the process that started this one, usually `make`.
//!
//! The end of the parent shows: this process gets another one. What does not show is a SIGINT that was sent to
//! `make` alone, not to all processes of its terminal: `make` then sleeps in its signal handler until its
//! children end, and SIGINT is blocked. Other processes block SIGINT as well: every program for the moment in
//! which it starts another one, and some, such as `tini`, for as long as they live. So the parent counts as
//! interrupted only if it listened for SIGINT before, and then blocks it and does not run at all for [`POLLS`]
//! polls. A process that starts others runs.

use std::time::Duration;

const POLL: Duration = Duration::from_millis(500);
/// Polls in a row that show an interrupted parent.
const POLLS: u32 = 4;
/// SIGINT's bit in the masks of `/proc/PID/status`.
const SIGINT_BIT: u64 = 1 << 1;

/// Waits until the parent process has ended or was interrupted.
pub(crate) async fn wait_for_end() {
    let Some(parent) = rustix::process::getppid() else { return };
    let parent = parent.as_raw_nonzero();
    let status = format!("/proc/{parent}/status");
    let mut watch = Watch::default();
    loop {
        tokio::time::sleep(POLL).await;
        let now = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
        if now != Some(parent) {
            return;
        }
        match std::fs::read_to_string(&status) {
            Ok(text) if watch.is_interrupted(Status::parse(&text)) => return,
            Ok(_) => {}
            // Without /proc, only signals end this program.
            Err(_) => return std::future::pending().await,
        }
    }
}

/// What `/proc/PID/status` says about a process.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Status {
    blocks_sigint: bool,
    /// Whether it has a handler for SIGINT.
    catches_sigint: bool,
    /// How often it stopped running, on its own and because it had to. While this number stays, it does not run.
    switches: u64,
}

impl Status {
    fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map_or("", str::trim)
        };
        let has_sigint =
            |name| u64::from_str_radix(value(name), 16).unwrap_or_default() & SIGINT_BIT != 0;
        let switches = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"]
            .map(|name| value(name).parse::<u64>().unwrap_or_default());
        Self {
            blocks_sigint: has_sigint("SigBlk:"),
            catches_sigint: has_sigint("SigCgt:"),
            switches: switches.iter().sum(),
        }
    }
}

/// What the polls have shown so far.
#[derive(Debug, Default)]
struct Watch {
    /// Whether a poll found a handler for SIGINT, and SIGINT not blocked.
    has_listened: bool,
    last: Status,
    /// Polls in a row that found SIGINT blocked, and the parent asleep since the poll before.
    asleep: u32,
}

impl Watch {
    fn is_interrupted(&mut self, status: Status) -> bool {
        self.has_listened |= status.catches_sigint && !status.blocks_sigint;
        let is_asleep = status.blocks_sigint && status == self.last;
        self.asleep = if is_asleep { self.asleep + 1 } else { 0 };
        self.last = status;
        self.has_listened && self.asleep >= POLLS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENS: Status = Status { blocks_sigint: false, catches_sigint: true, switches: 7 };
    /// As make is in its handler, which it removes first.
    const IN_HANDLER: Status = Status { blocks_sigint: true, catches_sigint: false, switches: 9 };

    fn polls(polls: &[Status]) -> Vec<bool> {
        let mut watch = Watch::default();
        polls.iter().map(|poll| watch.is_interrupted(*poll)).collect()
    }

    #[test]
    fn reads_the_status_of_a_process() {
        let text = "Name:\tmake\nSigBlk:\t0000000000010002\nSigIgn:\t0\nSigCgt:\t0000000000814201\n\
                    voluntary_ctxt_switches:\t4\nnonvoluntary_ctxt_switches:\t5\n";
        assert_eq!(Status::parse(text), IN_HANDLER);
        let text = "SigBlk:\t0000000000010000\nSigCgt:\t0000000000814203\n\
                    voluntary_ctxt_switches:\t7\n";
        assert_eq!(Status::parse(text), LISTENS);
        assert_eq!(Status::parse("Name:\tmake\n"), Status::default());
    }

    #[test]
    fn a_parent_that_sleeps_with_sigint_blocked_is_interrupted() {
        let shown = polls(&[&[LISTENS][..], &[IN_HANDLER; 5]].concat());
        assert_eq!(shown, [false, false, false, false, false, true]);
    }

    #[test]
    fn a_parent_that_starts_processes_is_not_interrupted() {
        let starting = |switches| Status { blocks_sigint: true, switches, ..LISTENS };
        let found_while_starting: Vec<_> = (0..100).map(|poll| starting(3 * poll)).collect();
        assert!(!polls(&[&[LISTENS], &found_while_starting[..]].concat()).contains(&true));
        let now_and_then: Vec<_> =
            (0..100).map(|poll| if poll % 4 > 0 { starting(5) } else { LISTENS }).collect();
        assert!(!polls(&now_and_then).contains(&true));
    }

    #[test]
    fn a_parent_that_never_listened_is_not_interrupted() {
        assert!(!polls(&[IN_HANDLER; 100]).contains(&true));
        let ignores = Status { catches_sigint: false, ..LISTENS };
        assert!(!polls(&[&[ignores][..], &[IN_HANDLER; 100]].concat()).contains(&true));
    }
}
