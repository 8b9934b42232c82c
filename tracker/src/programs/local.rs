//! L1: programs in memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use adtrack_proto::program::{CoreData, Update};
use adtrack_proto::{ProgramId, Version};
use foldhash::fast::RandomState;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::domain::PreparedProgram;

/// Unknown ids that are remembered at a time.
const MAX_ABSENT: u64 = 10_000;
/// For how long an entry is good while no subscription stands: Redis, where it is there, is asked for
/// each program once in that time.
const UNSUBSCRIBED_TTL: Duration = Duration::from_secs(1);
/// As a moment: no subscription stands.
const UNSUBSCRIBED: u64 = u64::MAX;
/// As a moment: whatever is held was verified, and every change since was pushed.
const EVER: u64 = 0;
/// Entries that the cache may have taken and not counted yet.
const COUNT_DELAY: u64 = 1_000;

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

/// L1. Two rules make it right whatever order things come in: an entry is only ever replaced by a
/// newer one, and a load takes along what was pushed while it ran.
#[derive(Debug, Clone)]
pub struct LocalPrograms {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// By a fast hash: only core data puts keys in, no client.
    programs: Cache<ProgramId, Cached, RandomState>,
    /// Ids that are unknown, apart: however many are asked for, they push no program out.
    absent: Cache<ProgramId, Instant>,
    limits: CacheLimits,
    /// Reads of Redis under way. No request waits for it: it is for the loader and for updates.
    loads: Mutex<HashMap<ProgramId, Load>>,
    born: Instant,
    /// From when on an entry can be believed: nanoseconds since `born`.
    trusted_since: AtomicU64,
}

/// Reads of one program under way.
#[derive(Debug, Default)]
struct Load {
    readers: usize,
    /// The newest update since the first of them began.
    pushed: Option<Known>,
}

/// A read of Redis under way. Dropped, it was given up.
#[derive(Debug)]
pub struct LoadGuard {
    local: LocalPrograms,
    id: ProgramId,
    begun: Instant,
}

/// What a load came to.
#[derive(Debug)]
pub enum Loaded {
    /// L1 holds this now.
    Known(Known),
    /// The subscription was made while it ran: updates between the two were missed. Read again.
    Outdated,
}

/// What became of a pushed update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// L1 holds it.
    Applied,
    /// L1 holds something newer.
    Older,
    /// L1 held nothing of the program, and is full.
    NotHeld,
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
        // Past its TTL an entry still serves while Redis is away.
        let programs = Cache::builder()
            .max_capacity(limits.capacity)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(limits.ttl.saturating_add(limits.stale))
            .build_with_hasher(RandomState::default());
        let absent = Cache::builder()
            .max_capacity(limits.capacity.min(MAX_ABSENT))
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(limits.negative_ttl)
            .build();
        Self {
            inner: Arc::new(Inner {
                programs,
                absent,
                limits,
                loads: Mutex::default(),
                born: Instant::now(),
                trusted_since: AtomicU64::new(UNSUBSCRIBED),
            }),
        }
    }

    /// What it holds for `id`, fresh or not.
    pub fn get(&self, id: &ProgramId) -> Option<Cached> {
        let absent = || self.inner.absent.get(id).map(|at| Cached { known: Known::Absent, at });
        self.inner.programs.get(id).or_else(absent)
    }

    /// What it holds for `id`, where that may be served without a look at Redis.
    pub fn get_fresh(&self, id: &ProgramId) -> Option<Cached> {
        self.get(id).filter(|cached| self.is_fresh(cached, Instant::now()))
    }

    /// Whether `cached` may be served without a look at Redis: it is within its time, and either
    /// every change since it was read was pushed, or it was read just now.
    pub fn is_fresh(&self, cached: &Cached, now: Instant) -> bool {
        let limits = &self.inner.limits;
        let ttl = match cached.known {
            Known::Absent => limits.negative_ttl,
            Known::Program(_) | Known::Deleted(_) => limits.ttl,
        };
        let age = now.saturating_duration_since(cached.at);
        let trusted = match self.inner.trusted_since.load(Ordering::Acquire) {
            UNSUBSCRIBED => age < UNSUBSCRIBED_TTL,
            EVER => true,
            since => self.inner.nanos(cached.at) >= since,
        };
        age < ttl && trusted
    }

    /// Whether a subscription stands.
    pub fn is_subscribed(&self) -> bool {
        self.inner.trusted_since.load(Ordering::Acquire) != UNSUBSCRIBED
    }

    /// The subscription stands: what was read or pushed before now has to be verified.
    pub fn subscribed(&self) {
        let _loads = self.inner.loads();
        self.inner.absent.invalidate_all();
        let now = self.inner.nanos(Instant::now());
        self.inner.trusted_since.store(now.max(1), Ordering::Release);
    }

    /// All that it held when the subscription was made is verified.
    pub fn verified(&self) {
        self.inner.trusted_since.store(EVER, Ordering::Release);
    }

    /// The subscription is lost: updates are missed from now on.
    pub fn unsubscribed(&self) {
        self.inner.trusted_since.store(UNSUBSCRIBED, Ordering::Release);
    }

    /// To be called before Redis is asked for `id`.
    pub fn begin_load(&self, id: ProgramId) -> LoadGuard {
        self.inner.loads().entry(id.clone()).or_default().readers += 1;
        LoadGuard { local: self.clone(), id, begun: Instant::now() }
    }

    /// Takes an update: where it holds the program, or a load of it is under way, or there is room.
    pub fn push(&self, id: ProgramId, known: Known) -> Pushed {
        let inner = &self.inner;
        let mut loads = inner.loads();
        inner.absent.invalidate(&id);
        if let Some(load) = loads.get_mut(&id) {
            load.pushed = Some(newest(known.clone(), load.pushed.take()));
        }
        let has_room = inner.has_room();
        let mut pushed = Pushed::Applied;
        inner.programs.entry(id).and_compute_with(|held| {
            pushed = match &held {
                Some(held) if held.value().known.version() > known.version() => Pushed::Older,
                None if !has_room => Pushed::NotHeld,
                _ => Pushed::Applied,
            };
            match pushed {
                Pushed::Applied => Op::Put(Cached { known, at: Instant::now() }),
                Pushed::Older | Pushed::NotHeld => Op::Nop,
            }
        });
        pushed
    }

    /// All ids with the versions held; unknown ids are left out.
    pub fn versions(&self) -> Vec<(ProgramId, Version)> {
        self.inner
            .programs
            .iter()
            .filter_map(|(id, cached)| Some(((*id).clone(), cached.known.version()?.clone())))
            .collect()
    }

    /// Forgets everything.
    pub fn purge(&self) {
        self.inner.programs.invalidate_all();
        self.inner.absent.invalidate_all();
    }

    /// How many programs it holds, about. Has the cache do its pending work: not for every request.
    pub fn len(&self) -> u64 {
        self.inner.programs.run_pending_tasks();
        self.inner.programs.entry_count()
    }

    /// Whether it holds no program, about.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a program that nobody asked for may enter.
    pub fn has_room(&self) -> bool {
        self.inner.has_room()
    }
}

impl Inner {
    fn loads(&self) -> MutexGuard<'_, HashMap<ProgramId, Load>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nanos(&self, moment: Instant) -> u64 {
        let nanos = moment.saturating_duration_since(self.born).as_nanos();
        u64::try_from(nanos).unwrap_or(UNSUBSCRIBED - 1)
    }

    /// The cache counts what it took with a delay.
    fn has_room(&self) -> bool {
        let capacity = self.limits.capacity;
        self.programs.entry_count() + COUNT_DELAY.min(capacity / 10) < capacity
    }

    /// Takes what was read. Returns what it holds then.
    fn take(&self, id: ProgramId, known: Known, at: Instant) -> Known {
        if matches!(known, Known::Absent) {
            // Absence never replaces a program: only a tombstone deletes.
            if let Some(held) = self.programs.get(&id) {
                self.programs.insert(id, Cached { known: held.known.clone(), at });
                return held.known;
            }
            self.absent.insert(id, at);
            return Known::Absent;
        }
        self.absent.invalidate(&id);
        let result = self.programs.entry(id).and_compute_with(|held| {
            let held = held.map(moka::Entry::into_value);
            let known = newest(known.clone(), held.map(|held| held.known));
            Op::Put(Cached { known, at })
        });
        result.into_entry().map_or(known, |entry| entry.into_value().known)
    }
}

impl LoadGuard {
    /// L1 takes what Redis said, or what was pushed since the load began, where that is newer.
    pub fn finish(self, read: Known) -> Loaded {
        let inner = &self.local.inner;
        // Held until L1 has taken it, so that no update comes between.
        let loads = inner.loads();
        let since = inner.trusted_since.load(Ordering::Acquire);
        if since != UNSUBSCRIBED && inner.nanos(self.begun) < since {
            return Loaded::Outdated;
        }
        let pushed = loads.get(&self.id).and_then(|load| load.pushed.clone());
        let known = newest(read, pushed);
        let held = inner.take(self.id.clone(), known, self.begun);
        drop(loads);
        Loaded::Known(held)
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        let mut loads = self.local.inner.loads();
        if let Entry::Occupied(mut load) = loads.entry(self.id.clone()) {
            load.get_mut().readers -= 1;
            if load.get().readers == 0 {
                load.remove();
            }
        }
    }
}

/// `new`, unless `held` is newer. Absence is older than anything.
fn newest(new: Known, held: Option<Known>) -> Known {
    held.filter(|held| held.version() > new.version()).unwrap_or(new)
}

#[cfg(test)]
mod tests;
