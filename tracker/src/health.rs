//! The tracker's health, which a load balancer acts on, and its readiness, which people read.

use crate::delivery::Journal;
use crate::flag::Flag;
use crate::programs::RedisLink;
use crate::watchdog::Progress;

/// The state behind the health checks.
#[derive(Debug, Clone)]
pub struct Health {
    redis: RedisLink,
    journal: Journal,
    conditions: Conditions,
    progress: Progress,
    draining: Flag,
}

/// What background tasks report about themselves.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// L1 is up to date: subscribed, and verified since.
    pub cache_verified: Flag,
    /// The warm-up of L1 is over, or there is none.
    pub cache_warm: Flag,
    /// The stream knows that the journal is open, or does not respond.
    pub journal_announced: Flag,
    /// The stream keeps failing.
    pub stream_refusing: Flag,
}

impl Health {
    /// The health of a tracker made of these parts.
    pub fn new(
        redis: RedisLink,
        journal: Journal,
        conditions: Conditions,
        progress: Progress,
    ) -> Self {
        Self { redis, journal, conditions, progress, draining: Flag::default() }
    }

    /// Whether a load balancer may send traffic: false while starting (until core data has been read once,
    /// L1 is warm, and the stream knows of the journal or has had 10 s for it) and while draining. Nothing else makes it false: an orchestrator replaces unhealthy
    /// tasks, and accepted events would be lost with them.
    pub fn serves(&self) -> bool {
        self.redis.was_connected()
            && self.conditions.cache_warm.is_set()
            && self.conditions.journal_announced.is_set()
            && !self.is_draining()
    }

    /// Whether the process is shutting down.
    pub fn is_draining(&self) -> bool {
        self.draining.is_set()
    }

    /// Reports that the process is shutting down.
    pub fn drain(&self) {
        self.draining.set(true);
    }

    /// The problems that need somebody's attention.
    pub fn problems(&self) -> Vec<&'static str> {
        let problems = [
            (self.is_draining(), "draining"),
            (!self.redis.is_connected(), "redis_unavailable"),
            (self.redis.is_connected() && !self.redis.is_loaded(), "core_data_not_loaded"),
            (!self.conditions.cache_verified.is_set(), "subscription_unverified"),
            (self.conditions.stream_refusing.is_set(), "kinesis_refusing"),
            (self.journal.is_nearly_full(), "journal_nearly_full"),
            (self.journal.damaged_files() > 0, "journal_files_damaged"),
            // Until the restart: what has happened once needs somebody to find out why.
            (self.journal.lost_files() > 0, "journal_files_lost"),
            (self.journal.clock_standstill_ms() > 0, "clock_behind"),
            (self.progress.is_stalled(), "task_stalled"),
        ];
        problems.into_iter().filter_map(|(holds, problem)| holds.then_some(problem)).collect()
    }
}
