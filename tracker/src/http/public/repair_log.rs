//! Logs which programs' requests have to be repaired, without what they contain: somebody has to correct the
//! link or the postback.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use adtrack_proto::ProgramId;

use crate::domain::Repairs;

/// The minimum time between two log lines about the same program and reason.
const LOG_INTERVAL: Duration = Duration::from_secs(300);
/// Programs and reasons that are remembered. While that many are, others are only counted.
const MAX_REMEMBERED: usize = 256;

/// Logs each program and reason at most every five minutes.
#[derive(Debug, Default)]
pub struct RepairLog {
    /// When each was logged, by program and position of the reason.
    logged_at: Mutex<HashMap<(ProgramId, usize), Instant>>,
}

impl RepairLog {
    pub(super) fn report(&self, program_id: &ProgramId, repairs: Repairs) {
        for position in repairs.positions() {
            if self.is_due(program_id, position, Instant::now()) {
                tracing::warn!(
                    program = program_id.as_str(),
                    reason = Repairs::REASONS[position],
                    "requests of this program are repaired before they are recorded; correct its links \
                     or postbacks (docs/LIMITS.md lists the reasons; POST /validate shows the result)"
                );
            }
        }
    }

    fn is_due(&self, program_id: &ProgramId, position: usize, now: Instant) -> bool {
        let mut logged_at = self.logged_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: &Instant| now.duration_since(*at) < LOG_INTERVAL;
        let key = (program_id.clone(), position);
        if logged_at.get(&key).is_some_and(is_recent) {
            return false;
        }
        if logged_at.len() >= MAX_REMEMBERED {
            logged_at.retain(|_, at| is_recent(at));
        }
        if logged_at.len() >= MAX_REMEMBERED {
            return false;
        }
        logged_at.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_a_program_and_reason_once_per_interval() {
        let log = RepairLog::default();
        let program = |number: usize| ProgramId::parse(&number.to_string()).unwrap();
        let start = Instant::now();
        assert!(log.is_due(&program(0), 0, start));
        assert!(!log.is_due(&program(0), 0, start));
        assert!(log.is_due(&program(0), 1, start));
        assert!(log.is_due(&program(0), 0, start + LOG_INTERVAL));
        let due = (1..1_000).filter(|number| log.is_due(&program(*number), 0, start)).count();
        assert_eq!(due, MAX_REMEMBERED - 2);
        assert!(log.is_due(&program(1), 0, start + 2 * LOG_INTERVAL));
    }
}
