//! How the tracker is doing. Health is what a load balancer acts on; readiness is what a person reads.

use crate::delivery::Journal;
use crate::flag::Flag;
use crate::programs::RedisLink;

/// The state behind the health checks.
#[derive(Debug, Clone)]
pub struct Health {
    redis: RedisLink,
    journal: Journal,
    conditions: Conditions,
    draining: Flag,
}

/// What background tasks report about themselves.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// L1 is known to be up to date: subscribed, and verified since.
    pub cache_verified: Flag,
    /// L1 holds what it should hold before the first request.
    pub cache_warm: Flag,
    /// The stream keeps failing.
    pub stream_refusing: Flag,
}

impl Health {
    /// The health of a tracker made of these parts.
    pub fn new(redis: RedisLink, journal: Journal, conditions: Conditions) -> Self {
        Self { redis, journal, conditions, draining: Flag::default() }
    }

    /// Whether a load balancer may send traffic: false while starting (until core data could be
    /// read once and L1 is warm) and while draining. Nothing else fails it: an orchestrator replaces
    /// what fails, and would throw accepted events away.
    pub fn serves(&self) -> bool {
        self.redis.was_connected() && self.conditions.cache_warm.is_set() && !self.is_draining()
    }

    /// Whether the process is shutting down.
    pub fn is_draining(&self) -> bool {
        self.draining.is_set()
    }

    /// Reports that the process is shutting down.
    pub fn drain(&self) {
        self.draining.set(true);
    }

    /// What needs a person.
    pub fn problems(&self) -> Vec<&'static str> {
        let problems = [
            (self.is_draining(), "draining"),
            (!self.redis.is_connected(), "redis_unavailable"),
            (self.redis.is_connected() && !self.redis.is_loaded(), "core_data_not_loaded"),
            (!self.conditions.cache_verified.is_set(), "subscription_unverified"),
            (self.conditions.stream_refusing.is_set(), "kinesis_refusing"),
            (self.journal.is_nearly_full(), "journal_nearly_full"),
        ];
        problems.into_iter().filter_map(|(holds, problem)| holds.then_some(problem)).collect()
    }
}
