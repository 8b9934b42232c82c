//! Programs of which Redis holds an older version than L1.
//!
//! On a Redis that has always been the same server, this cannot be: a version is in Redis before it is anywhere
//! else. Either L1 has it from a forged message or a forged hash, or Redis failed over to a replica that lacks the
//! latest updates. In the second case, redis-updater soon stores them again. So L1 keeps what it holds for a while,
//! and then takes what Redis holds.

use std::time::{Duration, Instant};

use adtrack_proto::{ProgramId, Version};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// How long Redis has to hold the older version; the TTL, if that is shorter.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most programs at a time. Beyond that, those are forgotten, and found again, that were read longest ago.
const MAX_PROGRAMS: u64 = 10_000;

/// What L1 and Redis hold of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// The version in L1.
    pub held: Version,
    /// The version in Redis. An impossible one counts as older than any other.
    pub stored: Version,
    /// What L1 does about it.
    pub stage: Stage,
}

/// What L1 does about a [`Contradiction`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It was not known before. L1 keeps what it holds.
    New,
    /// L1 still keeps what it holds.
    Known,
    /// Redis has held its version for long enough, and L1 takes it.
    Resolved,
}

#[derive(Debug)]
pub(super) struct Contradictions {
    known: Cache<ProgramId, Known>,
    patience: Duration,
}

#[derive(Debug, Clone)]
struct Known {
    held: Version,
    stored: Version,
    since: Instant,
}

impl Contradictions {
    /// For entries that are fresh for `ttl`, and are in L1 for `lifetime` at most if nobody asks for them.
    pub(super) fn new(ttl: Duration, lifetime: Duration) -> Self {
        let known = Cache::builder()
            .max_capacity(MAX_PROGRAMS)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(lifetime)
            .build();
        Self { known, patience: PATIENCE.min(ttl) }
    }

    /// Redis was read, and holds the older version `stored`. Returns what to do, and how long to wait before the
    /// next read if that is to keep `held`.
    pub(super) fn on_read(
        &self,
        id: &ProgramId,
        held: &Version,
        stored: &Version,
    ) -> (Contradiction, Duration) {
        let known = self.known.get(id).filter(|it| (&it.held, &it.stored) == (held, stored));
        let waited = known.as_ref().map(|known| known.since.elapsed());
        let stage = match waited {
            None => Stage::New,
            Some(waited) if waited < self.patience => Stage::Known,
            Some(_) => Stage::Resolved,
        };
        let (held, stored) = (held.clone(), stored.clone());
        match stage {
            Stage::New => {
                let new =
                    Known { held: held.clone(), stored: stored.clone(), since: Instant::now() };
                self.known.insert(id.clone(), new);
            }
            Stage::Known => {}
            Stage::Resolved => self.known.invalidate(id),
        }
        let left = self.patience.saturating_sub(waited.unwrap_or_default());
        (Contradiction { held, stored, stage }, left)
    }

    pub(super) fn clear(&self) {
        self.known.invalidate_all();
    }
}
