//! Core data, read in two tiers: L1 in memory, L2 in Redis; and what keeps L1 fresh.
//!
//! ```text
//! find ─→ local (L1) ─ miss → loader (one read per program) → redis (L2) ← link (kept by a task)
//!             ↑                    │
//!             ├────────────────────┘ never older
//!             ├── updates (pub/sub; L1 is verified whenever the subscription is made) ← redis
//!             └── warm_up (once, before the start) ← redis
//! ```
//!
//! # Freshness of L1
//!
//! Updates are pushed by Redis pub/sub, which delivers at most once: what is published while a subscription
//! is broken is silently lost. Three things together keep L1 right nevertheless.
//!
//! 1. *Versions.* Every value carries its place in the core-data stream's order. L1 does not
//!    replace an entry with an older version, from whichever source and in whichever order. Versions can be
//!    forged, or written by hand, so there are exceptions:
//!    - The update that replaces a wrong version in Redis names it in `replaces`. L1 drops exactly that version,
//!      whether it learns of it through a push or through verification.
//!    - A version that no record of the stream can have by now counts as older than any other (`version_order`).
//!    - A message with such a version, with an epoch that nothing read from Redis has had, or with `replaces` is not
//!      believed: the program is read from Redis.
//!    - If Redis holds an older version than L1, and still does a minute later, L1 takes it
//!      (`local::contradictions`). It is noticed when the entry's TTL ends, at a verification, and when an
//!      update arrives that is older than the entry.
//! 2. *Trust.* L1 believes an entry only if every change since the entry was read has been pushed. One
//!    moment, `trusted_since`, says so for all entries at once:
//!
//!    | state | an entry may be served without asking Redis |
//!    |---|---|
//!    | not subscribed | for one second after it was read |
//!    | subscribed at *t* | if it was read or pushed after *t*; all versions are being compared with Redis |
//!    | verified | for its TTL |
//!
//!    An entry's time is when its read *started*: Redis may have replied before *t*, without what was
//!    published in between. A read that started before *t* and ends after it is repeated.
//! 3. *Registered loads.* A load in flight and an update may race while L1 holds nothing of the program.
//!    So a load registers before it asks Redis, an update is also handed to every registered load of its
//!    program, and L1 stores the newer of the two when the load ends.
//!
//! Who writes L1: the `loader` (the only task that reads Redis for requests: one read per program,
//! however many requests wait), `updates` (pushes and verification) and `warm_up`; `POST /cache/purge`
//! empties it. Who reads it: every
//! request, without a lock. If Redis is unavailable, an entry that is no longer trusted is still served,
//! counted as stale, up to `CACHE_STALE_SECONDS` past its TTL; a program that L1 does not hold is then 503, never
//! 404. Nothing survives a crash: L1 is filled from Redis again.
//!
//! docs/adr/0007-freshness.md lists the alternatives.

mod link;
mod loader;
mod local;
mod redis;
mod updates;
mod version_order;
mod warm_up;

use std::sync::Arc;
use std::time::{Duration, Instant};

use adtrack_proto::ProgramId;

pub use self::link::{RedisLink, TIMEOUTS};
pub use self::loader::{Loader, LoaderHandle};
pub use self::local::{CacheEntry, CacheLimits, LocalPrograms, ProgramState, PushOutcome};
pub use self::redis::RedisPrograms;
pub use self::updates::Updates;
pub use self::warm_up::WarmUp;

use crate::domain::PreparedProgram;
use crate::metrics::Metrics;
use crate::track::{CoreDataUnavailable, Programs};

/// How long a request waits for Redis if L1 holds its program but does not trust the entry, while not
/// subscribed. Bounds the wait until a Redis that does not respond is noticed.
const UNSUBSCRIBED_WAIT: Duration = Duration::from_millis(50);

/// Programs in two tiers.
#[derive(Debug, Clone)]
pub struct TwoTierPrograms {
    local: LocalPrograms,
    loader: LoaderHandle,
    metrics: Arc<Metrics>,
}

impl TwoTierPrograms {
    /// L1 `local` over what `loader` reads.
    pub fn new(local: LocalPrograms, loader: LoaderHandle, metrics: Arc<Metrics>) -> Self {
        Self { local, loader, metrics }
    }
}

impl Programs for TwoTierPrograms {
    async fn find(
        &self,
        id: &ProgramId,
    ) -> Result<Option<Arc<PreparedProgram>>, CoreDataUnavailable> {
        let cached = self.local.get(id);
        if let Some(cached) = &cached
            && self.local.is_fresh(cached, Instant::now())
        {
            let hits = match cached.state {
                ProgramState::Program(_) => &self.metrics.programs.local_hits,
                ProgramState::Deleted(_) | ProgramState::Absent => {
                    &self.metrics.programs.local_negative_hits
                }
            };
            hits.inc();
            return Ok(cached.state.program());
        }
        // Boxed, so that the state of a miss does not enlarge the future of every request.
        Box::pin(self.load(id, cached)).await
    }
}

impl TwoTierPrograms {
    /// Has the program `id` read from Redis. L1 holds `cached` of it, which is not fresh.
    async fn load(
        &self,
        id: &ProgramId,
        cached: Option<CacheEntry>,
    ) -> Result<Option<Arc<PreparedProgram>>, CoreDataUnavailable> {
        self.metrics.programs.local_misses.inc();
        let load = self.loader.load(id);
        // An expired entry that says that an id is unknown is not served.
        let Some(stale) = cached.filter(|cached| cached.state.version().is_some()) else {
            return Ok(load.await.map_err(|_| CoreDataUnavailable)?.program());
        };
        let loaded = if self.local.is_subscribed() {
            Ok(load.await)
        } else {
            tokio::time::timeout(UNSUBSCRIBED_WAIT, load).await
        };
        match loaded {
            Ok(Ok(state)) => Ok(state.program()),
            Ok(Err(_)) | Err(_) => {
                self.metrics.programs.local_stale_hits.inc();
                Ok(stale.state.program())
            }
        }
    }
}
