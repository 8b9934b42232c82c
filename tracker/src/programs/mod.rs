//! Core data, read in two tiers: L1 in memory, L2 in Redis.
//!
//! ```text
//! find ─→ local (L1) ─ miss → loader (one read a program) → redis (L2)
//!             ↑                    │
//!             ├────────────────────┘ newer only
//!             └── updates (pub/sub; L1 is verified whenever the subscription is made) ← redis
//! ```

mod link;
mod loader;
mod local;
mod redis;
mod updates;

use std::sync::Arc;
use std::time::Instant;

use adtrack_proto::ProgramId;

pub use self::link::RedisLink;
pub use self::loader::{Loader, LoaderHandle};
pub use self::local::{CacheLimits, Cached, Known, LocalPrograms};
pub use self::redis::RedisPrograms;
pub use self::updates::Updates;

use crate::domain::PreparedProgram;
use crate::metrics::Metrics;
use crate::track::{CoreDataUnavailable, Programs};

/// The two tiers.
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
            let hits = match cached.known {
                Known::Program(_) => &self.metrics.local_hits,
                Known::Deleted(_) | Known::Absent => &self.metrics.local_negative_hits,
            };
            hits.inc();
            return Ok(cached.known.program());
        }
        self.metrics.local_misses.inc();
        match (self.loader.load(id).await, cached) {
            (Ok(known), _) => Ok(known.program()),
            (Err(CoreDataUnavailable), Some(stale)) => {
                self.metrics.local_stale_hits.inc();
                Ok(stale.known.program())
            }
            (Err(CoreDataUnavailable), None) => Err(CoreDataUnavailable),
        }
    }
}
