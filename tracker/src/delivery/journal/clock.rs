//! The journal's time, which never runs back.
//!
//! Whoever is told that a journal has reached a time relies on it: no event of an earlier time, less [`LATE_MS`],
//! comes from that journal any more. So if the host's clock steps back, the journal's time stands still until the
//! clock is there again. A start that finds the clock further back than [`MAX_STANDSTILL_MS`] opens another journal.

use std::sync::atomic::{AtomicU64, Ordering};

/// How much earlier than the journal's time an event may have been received: twice the longest time of a request,
/// which takes its time before it looks up core data.
pub(super) const LATE_MS: u64 = 120_000;
/// How far back the clock may step, in addition to [`LATE_MS`], before the journal is closed.
pub(super) const MAX_STANDSTILL_MS: u64 = 15 * 60_000;
/// The time is noted in steps, so that threads that accept events rarely write to the same memory.
const STEP_MS: u64 = 1_000;

/// The highest time that the journal has issued or announced.
#[derive(Debug)]
pub(super) struct JournalClock {
    highest_ms: AtomicU64,
}

impl JournalClock {
    pub(super) fn starting_at(time_ms: u64) -> Self {
        Self { highest_ms: AtomicU64::new(time_ms) }
    }

    /// The earliest time that an event may have that was received at `now_ms`. The journal's time follows.
    pub(super) fn earliest_ms(&self, now_ms: u64) -> u64 {
        let highest_ms = self.highest_ms.load(Ordering::Relaxed);
        if now_ms >= highest_ms + STEP_MS {
            self.highest_ms.fetch_max(now_ms, Ordering::Relaxed);
        }
        highest_ms.saturating_sub(LATE_MS)
    }

    /// Reads the time, to announce it: at least `now_ms` and everything announced before.
    pub(super) fn announce(&self, now_ms: u64) -> u64 {
        self.highest_ms.fetch_max(now_ms, Ordering::SeqCst).max(now_ms)
    }

    /// How long the journal's time has to stand still if the clock says `now_ms`, in milliseconds.
    pub(super) fn standstill_ms(&self, now_ms: u64) -> u64 {
        self.highest_ms.load(Ordering::Relaxed).saturating_sub(now_ms.saturating_add(LATE_MS))
    }

    /// The highest time so far.
    pub(super) fn highest_ms(&self) -> u64 {
        self.highest_ms.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stands_still_until_the_clock_is_there_again() {
        let clock = JournalClock::starting_at(0);
        clock.announce(1_000_000);

        assert_eq!(clock.earliest_ms(400_000), 1_000_000 - LATE_MS);
        assert_eq!(clock.standstill_ms(400_000), 600_000 - LATE_MS);
        assert_eq!(clock.standstill_ms(1_000_000), 0);
    }

    proptest! {
        /// Whatever the clock does: an event has no time before an announced one, less `LATE_MS`.
        #[test]
        fn never_runs_back(steps in prop::collection::vec((any::<bool>(), 0_u64..10_000_000), 1..100)) {
            let clock = JournalClock::starting_at(0);
            let mut announced = 0;
            for (is_heartbeat, now_ms) in steps {
                if is_heartbeat {
                    let at = clock.announce(now_ms);
                    prop_assert!(at >= announced);
                    announced = at;
                } else {
                    let received_ms = now_ms.max(clock.earliest_ms(now_ms));
                    prop_assert!(received_ms + LATE_MS >= announced);
                }
            }
        }
    }
}
