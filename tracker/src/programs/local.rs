//! L1: programs in memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use adtrack_proto::program::{CoreData, Update};
use adtrack_proto::{ProgramId, Version};
use moka::Expiry;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::domain::PreparedProgram;

/// How much L1 holds, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimits {
    /// Entries; beyond it the least recently used goes.
    pub capacity: u64,
    /// How long an entry is good without a look at Redis.
    pub ttl: Duration,
    /// How long that a program is unknown is good.
    pub negative_ttl: Duration,
    /// How long past its TTL an entry serves while Redis is away.
    pub stale: Duration,
}

/// L1. Entries are only ever replaced by newer ones: whichever of an update and a load that race
/// comes last, the newer version stays.
#[derive(Debug, Clone)]
pub struct LocalPrograms {
    cache: Cache<ProgramId, Cached>,
    limits: CacheLimits,
}

/// An entry.
#[derive(Debug, Clone)]
pub struct Cached {
    /// What is known.
    pub known: Known,
    /// When it was read from Redis or pushed.
    pub at: Instant,
}

/// What is known of a program id.
#[derive(Debug, Clone)]
pub enum Known {
    /// The program.
    Program(Arc<PreparedProgram>),
    /// It was deleted, at this place in the stream's order.
    Deleted(Version),
    /// Redis holds core data, and none of it.
    Absent,
}

impl Known {
    /// What an update says.
    pub fn of(update: Update) -> Self {
        match update.core_data {
            CoreData::Program(program) => {
                Self::Program(Arc::new(PreparedProgram::new(*program, update.version)))
            }
            CoreData::Deleted(_) => Self::Deleted(update.version),
        }
    }

    /// The program, where there is one.
    pub fn program(&self) -> Option<Arc<PreparedProgram>> {
        match self {
            Self::Program(program) => Some(Arc::clone(program)),
            Self::Deleted(_) | Self::Absent => None,
        }
    }

    /// Its place in the stream's order; absence has none.
    pub fn version(&self) -> Option<&Version> {
        match self {
            Self::Program(program) => Some(&program.version),
            Self::Deleted(version) => Some(version),
            Self::Absent => None,
        }
    }
}

impl LocalPrograms {
    /// An empty L1.
    pub fn new(limits: CacheLimits) -> Self {
        let cache = Cache::builder()
            .max_capacity(limits.capacity)
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(EntryLife(limits))
            .build();
        Self { cache, limits }
    }

    /// What it holds for `id`, fresh or not.
    pub fn get(&self, id: &ProgramId) -> Option<Cached> {
        self.cache.get(id)
    }

    /// What it holds for `id`, where that may be served without a look at Redis.
    pub fn get_fresh(&self, id: &ProgramId) -> Option<Cached> {
        self.get(id).filter(|cached| self.is_fresh(cached, Instant::now()))
    }

    /// Whether `cached` may be served without a look at Redis.
    pub fn is_fresh(&self, cached: &Cached, now: Instant) -> bool {
        let ttl = match cached.known {
            Known::Absent => self.limits.negative_ttl,
            Known::Program(_) | Known::Deleted(_) => self.limits.ttl,
        };
        now.saturating_duration_since(cached.at) < ttl
    }

    /// Takes what was read or pushed, unless it holds something newer. Absence never replaces a
    /// program: only a tombstone deletes. Returns what it holds then, and whether it changed.
    pub fn offer(&self, id: ProgramId, known: Known) -> (Known, bool) {
        let mut changed = true;
        let result = self.cache.entry(id).and_compute_with(|held| {
            let held = held.map(|entry| entry.into_value().known);
            let keep = held.filter(|held| held.version() > known.version());
            changed = keep.is_none();
            // What is kept was just compared with the truth: its time begins anew.
            Op::Put(Cached { known: keep.unwrap_or_else(|| known.clone()), at: Instant::now() })
        });
        let held = result.into_entry().map_or(known, |entry| entry.into_value().known);
        (held, changed)
    }

    /// All ids with the versions held; unknown ids are left out.
    pub fn versions(&self) -> Vec<(ProgramId, Version)> {
        self.cache
            .iter()
            .filter_map(|(id, cached)| Some(((*id).clone(), cached.known.version()?.clone())))
            .collect()
    }

    /// Forgets which ids are unknown.
    pub fn forget_absent(&self) {
        let absent: Vec<_> = self
            .cache
            .iter()
            .filter(|(_, cached)| matches!(cached.known, Known::Absent))
            .map(|(id, _)| id)
            .collect();
        for id in absent {
            self.cache.invalidate(&*id);
        }
    }

    /// Forgets everything.
    pub fn purge(&self) {
        self.cache.invalidate_all();
    }

    /// How many entries it holds, about.
    pub fn len(&self) -> u64 {
        self.cache.entry_count()
    }

    /// Whether it holds nothing, about.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// When an entry goes: what is unknown after its TTL, the rest when it may no longer be served
/// while Redis is away.
struct EntryLife(CacheLimits);

impl EntryLife {
    fn of(&self, cached: &Cached) -> Option<Duration> {
        Some(match cached.known {
            Known::Absent => self.0.negative_ttl,
            Known::Program(_) | Known::Deleted(_) => self.0.ttl + self.0.stale,
        })
    }
}

impl Expiry<ProgramId, Cached> for EntryLife {
    fn expire_after_create(&self, _: &ProgramId, cached: &Cached, _: Instant) -> Option<Duration> {
        self.of(cached)
    }

    fn expire_after_update(
        &self,
        _: &ProgramId,
        cached: &Cached,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.of(cached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ProgramId {
        ProgramId::parse("p").unwrap()
    }

    fn local() -> LocalPrograms {
        LocalPrograms::new(CacheLimits {
            capacity: 100,
            ttl: Duration::from_secs(600),
            negative_ttl: Duration::from_secs(30),
            stale: Duration::from_secs(60),
        })
    }

    fn program(version: &str, name: &str) -> Known {
        let json = format!(
            r#"{{"programId":"p","programName":"{name}","checksum":"1","customerId":1,
            "customerName":"c","valid":true,"version":"{version}"}}"#
        );
        Known::of(Update::from_json(json.as_bytes()).unwrap())
    }

    fn deleted(version: &str) -> Known {
        Known::Deleted(version.parse().unwrap())
    }

    fn held(local: &LocalPrograms) -> String {
        match local.get(&id()).map(|cached| cached.known) {
            Some(Known::Program(program)) => program.program.program_name.clone(),
            Some(Known::Deleted(version)) => format!("deleted at {version}"),
            Some(Known::Absent) => "absent".to_owned(),
            None => "nothing".to_owned(),
        }
    }

    #[test]
    fn the_newest_version_stays_in_whatever_order_they_come() {
        let local = local();
        assert!(local.offer(id(), program("0.9", "nine")).1);
        assert!(!local.offer(id(), program("0.8", "eight")).1);
        assert_eq!(held(&local), "nine");
        assert!(local.offer(id(), program("0.9", "nine again")).1, "an equal version is a retry");
        assert!(local.offer(id(), program("0.10", "ten")).1);
        assert_eq!(held(&local), "ten");
    }

    #[test]
    fn a_deletion_is_an_update() {
        let local = local();
        local.offer(id(), program("0.1", "one"));
        local.offer(id(), deleted("0.2"));
        assert_eq!(held(&local), "deleted at 0.2");
        assert!(!local.offer(id(), program("0.1", "one")).1, "a late load does not resurrect");
        local.offer(id(), program("0.3", "three"));
        assert_eq!(held(&local), "three");
    }

    #[test]
    fn absence_is_replaced_by_anything_and_replaces_nothing() {
        let local = local();
        local.offer(id(), Known::Absent);
        assert_eq!(held(&local), "absent");
        local.offer(id(), program("0.0", "sample"));
        let (known, changed) = local.offer(id(), Known::Absent);
        assert!(!changed && known.program().is_some());
        assert_eq!(held(&local), "sample");
    }

    #[test]
    fn entries_are_fresh_for_their_time() {
        let local = local();
        let age = |known: Known, seconds| {
            let at = Instant::now();
            local.is_fresh(&Cached { known, at }, at + Duration::from_secs(seconds))
        };
        assert!(age(program("0.1", "n"), 599) && !age(program("0.1", "n"), 600));
        assert!(age(deleted("0.1"), 599) && !age(deleted("0.1"), 600));
        assert!(age(Known::Absent, 29) && !age(Known::Absent, 30));
    }

    #[test]
    fn only_versions_are_listed_and_only_absence_forgotten() {
        let local = local();
        local.offer(id(), program("0.7", "n"));
        local.offer(ProgramId::parse("q").unwrap(), Known::Absent);
        assert_eq!(local.versions(), [(id(), "0.7".parse().unwrap())]);
        local.forget_absent();
        assert!(local.get(&ProgramId::parse("q").unwrap()).is_none());
        assert_eq!(held(&local), "n");
    }
}
