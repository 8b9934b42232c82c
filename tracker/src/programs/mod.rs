//! Core data, read in two tiers: L1 in memory, L2 in Redis.
//!
//! ```text
//! find ─→ local (L1) ─ miss → loader (one read a program) → redis (L2) ← link (kept by a task)
//!             ↑                    │
//!             ├────────────────────┘ newer only
//!             ├── updates (pub/sub; L1 is verified whenever the subscription is made) ← redis
//!             └── warm_up (once, before the start) ← redis
//! ```

mod link;
mod loader;
mod local;
mod redis;
mod updates;
mod warm_up;

use std::sync::Arc;
use std::time::{Duration, Instant};

use adtrack_proto::ProgramId;

pub use self::link::{RedisLink, TIMEOUTS};
pub use self::loader::{Loader, LoaderHandle};
pub use self::local::{CacheLimits, Cached, Known, LocalPrograms, Pushed};
pub use self::redis::RedisPrograms;
pub use self::updates::Updates;
pub use self::warm_up::WarmUp;

use crate::domain::PreparedProgram;
use crate::metrics::Metrics;
use crate::track::{CoreDataUnavailable, Programs};

/// How long a request whose program L1 holds, but cannot vouch for, waits for Redis while no
/// subscription stands: until a silent Redis is noticed to be away, no request waits longer.
const UNSUBSCRIBED_WAIT: Duration = Duration::from_millis(50);

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
        // That an id was unknown is not believed past its time.
        let Some(stale) = cached.filter(|cached| cached.known.version().is_some()) else {
            return Ok(self.loader.load(id).await?.program());
        };
        let load = self.loader.load(id);
        let loaded = if self.local.is_subscribed() {
            Ok(load.await)
        } else {
            tokio::time::timeout(UNSUBSCRIBED_WAIT, load).await
        };
        match loaded {
            Ok(Ok(known)) => Ok(known.program()),
            Ok(Err(CoreDataUnavailable)) | Err(_) => {
                self.metrics.local_stale_hits.inc();
                Ok(stale.known.program())
            }
        }
    }
}
