//! How the tracker is. Health is what a load balancer acts on; readiness is what a person reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::delivery::Journal;
use crate::programs::RedisLink;

/// The state behind the health checks.
#[derive(Debug, Clone)]
pub struct Health {
    redis: RedisLink,
    journal: Journal,
    verified: Arc<AtomicBool>,
    stream_refusing: Arc<AtomicBool>,
    warm: Arc<AtomicBool>,
    draining: Arc<AtomicBool>,
}

impl Health {
    /// The health of a tracker made of these parts. `verified`: L1 is known to be up to date.
    /// `stream_refusing`: the stream keeps failing. `warm`: L1 has what it should begin with.
    pub fn new(
        redis: RedisLink,
        journal: Journal,
        verified: Arc<AtomicBool>,
        stream_refusing: Arc<AtomicBool>,
        warm: Arc<AtomicBool>,
    ) -> Self {
        Self { redis, journal, verified, stream_refusing, warm, draining: Arc::default() }
    }

    /// Whether a load balancer may send traffic: false while starting (until core data could be
    /// read once, and L1 is warm) and while draining. Nothing else: an orchestrator replaces what fails this, and
    /// would throw accepted events away.
    pub fn serves(&self) -> bool {
        self.redis.was_connected() && self.warm.load(Ordering::Relaxed) && !self.is_draining()
    }

    /// Whether the process is ending.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The process is ending.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// What needs a person.
    pub fn problems(&self) -> Vec<&'static str> {
        let problems = [
            (self.is_draining(), "draining"),
            (!self.redis.is_connected(), "redis_unavailable"),
            (self.redis.is_connected() && !self.redis.is_loaded(), "core_data_not_loaded"),
            (!self.verified.load(Ordering::Relaxed), "subscription_unverified"),
            (self.stream_refusing.load(Ordering::Relaxed), "kinesis_refusing"),
            (self.journal.is_nearly_full(), "journal_nearly_full"),
        ];
        problems.into_iter().filter_map(|(holds, problem)| holds.then_some(problem)).collect()
    }
}
