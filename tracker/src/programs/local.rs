//! L1: programs in memory.

mod contradictions;

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

use self::contradictions::Contradictions;
pub use self::contradictions::{Contradiction, Stage};
use super::version_order::VersionOrder;
use crate::domain::PreparedProgram;
use crate::domain::program::RequestCount;
use crate::track::RequestCounts;

/// The most unknown ids that are remembered.
const MAX_ABSENT: u64 = 10_000;
/// How long an entry is fresh while not subscribed. Redis is asked for each program that often.
const UNSUBSCRIBED_TTL: Duration = Duration::from_secs(1);
/// Value of `trusted_since`: not subscribed.
const UNSUBSCRIBED: u64 = u64::MAX;
/// Value of `trusted_since`: all entries are verified, and every change since has been pushed.
const EVER: u64 = 0;
/// Entries that the cache may hold without having counted them yet.
const COUNT_DELAY: u64 = 1_000;

/// How much L1 holds, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimits {
    /// The most entries. Beyond that, the least recently used is evicted.
    pub capacity: u64,
    /// How long an entry is fresh.
    pub ttl: Duration,
    /// How long an entry for an unknown program is fresh.
    pub negative_ttl: Duration,
    /// How long after its TTL an entry is served while Redis is unavailable.
    pub stale: Duration,
}

/// L1. Two rules keep it right in whatever order reads and updates arrive: an older version does not replace an
/// entry, and a load takes updates into account that were pushed while it ran. A third one repairs it: what Redis
/// has said for a minute replaces an entry, also if it is older.
#[derive(Debug, Clone)]
pub struct LocalPrograms {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// A fast hash is safe here: keys come from core data, not from clients.
    programs: Cache<ProgramId, CacheEntry, RandomState>,
    /// Unknown ids, kept apart so that they never evict programs.
    absent: Cache<ProgramId, Instant>,
    limits: CacheLimits,
    /// Loads in flight. Only the loader, updates and the warm-up lock it, never a request.
    loads: Mutex<HashMap<ProgramId, Load>>,
    order: VersionOrder,
    /// The highest epoch that a read of Redis had.
    highest_epoch: AtomicU64,
    /// Programs of which Redis holds an older version.
    contradictions: Contradictions,
    created_at: Instant,
    /// Entries read or pushed since this moment are trusted: nanoseconds since `created_at`, or one of
    /// [`UNSUBSCRIBED`] (none is) and [`EVER`] (all are).
    trusted_since: AtomicU64,
}

/// Reads of one program under way.
#[derive(Debug, Default)]
struct Load {
    readers: usize,
    /// The newest update since the first of them started.
    pushed: Option<ProgramState>,
    /// A version that was retracted since then.
    retracted: Option<Version>,
}

impl Load {
    fn retract(&mut self, version: &Version) {
        self.retracted = Some(version.clone());
        self.pushed = self.pushed.take().filter(|pushed| pushed.version() != Some(version));
    }
}

/// A read of Redis under way. Dropping it without [`Self::finish`] cancels the load.
#[derive(Debug)]
pub struct LoadGuard {
    local: LocalPrograms,
    id: ProgramId,
    started_at: Instant,
}

/// The outcome of a load.
#[derive(Debug)]
pub enum LoadOutcome {
    /// L1 holds this now.
    Current(ProgramState),
    /// L1 holds this now, and held a newer version than Redis when it was read.
    Contradicted(ProgramState, Contradiction),
    /// The tracker subscribed while the load ran, and may have missed updates in between. Read again.
    Outdated,
}

/// The outcome of a pushed update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcome {
    /// L1 holds the update.
    Applied,
    /// L1 holds something newer.
    Older,
    /// L1 did not hold the program and is full.
    NotHeld,
}

/// An entry of L1.
#[derive(Debug, Clone)]
pub struct CacheEntry {
    /// What is known of the program.
    pub state: ProgramState,
    /// When it was read from Redis or pushed.
    pub at: Instant,
}

/// What is known of a program id.
#[derive(Debug, Clone)]
pub enum ProgramState {
    /// The program.
    Program(Arc<PreparedProgram>),
    /// The program was deleted by the update with this version.
    Deleted(Version),
    /// Redis holds core data, and no such program.
    Absent,
}

impl ProgramState {
    /// What is known from an update.
    pub fn of(update: Update) -> Self {
        match update.core_data {
            CoreData::Program(program) => {
                Self::Program(Arc::new(PreparedProgram::new(*program, update.version)))
            }
            CoreData::Deleted(_) => Self::Deleted(update.version),
        }
    }

    /// The program, if there is one.
    pub fn program(&self) -> Option<Arc<PreparedProgram>> {
        match self {
            Self::Program(program) => Some(Arc::clone(program)),
            Self::Deleted(_) | Self::Absent => None,
        }
    }

    /// Goes on counting the program's requests where `held` is, which this replaces.
    fn continue_count(&self, held: &Self) {
        if let (Self::Program(program), Self::Program(held)) = (self, held)
            && !Arc::ptr_eq(program, held)
        {
            program.requests.continue_from(&held.requests);
        }
    }

    /// The version; absence has none.
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
        // After its TTL an entry is still served while Redis is unavailable.
        let lifetime = limits.ttl.saturating_add(limits.stale);
        let programs = Cache::builder()
            .max_capacity(limits.capacity)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(lifetime)
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
                order: VersionOrder::default(),
                highest_epoch: AtomicU64::new(0),
                contradictions: Contradictions::new(limits.ttl, lifetime),
                created_at: Instant::now(),
                trusted_since: AtomicU64::new(UNSUBSCRIBED),
            }),
        }
    }

    /// The entry of `id`, fresh or not.
    pub fn get(&self, id: &ProgramId) -> Option<CacheEntry> {
        let absent =
            || self.inner.absent.get(id).map(|at| CacheEntry { state: ProgramState::Absent, at });
        self.inner.programs.get(id).or_else(absent)
    }

    /// The entry of `id`, if it may be served without asking Redis.
    pub fn get_fresh(&self, id: &ProgramId) -> Option<CacheEntry> {
        self.get(id).filter(|cached| self.is_fresh(cached, Instant::now()))
    }

    /// Whether `cached` may be served without asking Redis: it is within its TTL, and either every change
    /// since it was read has been pushed, or it was read just now.
    pub fn is_fresh(&self, cached: &CacheEntry, now: Instant) -> bool {
        let limits = &self.inner.limits;
        let ttl = match cached.state {
            ProgramState::Absent => limits.negative_ttl,
            ProgramState::Program(_) | ProgramState::Deleted(_) => limits.ttl,
        };
        let age = now.saturating_duration_since(cached.at);
        let trusted = match self.inner.trusted_since.load(Ordering::Acquire) {
            UNSUBSCRIBED => age < UNSUBSCRIBED_TTL,
            EVER => true,
            since => self.inner.nanos(cached.at) >= since,
        };
        age < ttl && trusted
    }

    /// Whether the tracker is subscribed to updates.
    pub fn is_subscribed(&self) -> bool {
        self.inner.trusted_since.load(Ordering::Acquire) != UNSUBSCRIBED
    }

    /// The tracker has subscribed: entries from before now must be verified.
    pub fn on_subscribed(&self) {
        let _loads = self.inner.loads();
        self.inner.absent.invalidate_all();
        let now = self.inner.nanos(Instant::now());
        self.inner.trusted_since.store(now.max(1), Ordering::Release);
    }

    /// All entries from before the subscription are verified.
    pub fn on_verified(&self) {
        self.inner.trusted_since.store(EVER, Ordering::Release);
    }

    /// The subscription is lost: updates are missed from now on.
    pub fn on_unsubscribed(&self) {
        self.inner.trusted_since.store(UNSUBSCRIBED, Ordering::Release);
    }

    /// Registers a load of `id`. Must be called before Redis is asked.
    pub fn begin_load(&self, id: ProgramId) -> LoadGuard {
        self.inner.loads().entry(id.clone()).or_default().readers += 1;
        LoadGuard { local: self.clone(), id, started_at: Instant::now() }
    }

    /// Whether only Redis can tell if an update with `version` is a true one: no record of the stream can have
    /// it, or nothing in Redis has had its epoch yet.
    pub fn is_doubtful(&self, version: &Version) -> bool {
        version.epoch() > self.inner.highest_epoch.load(Ordering::Relaxed)
            || !self.inner.order.is_possible(version)
    }

    /// Whether `new` is newer than `old`.
    pub fn is_newer(&self, new: &Version, old: &Version) -> bool {
        self.inner.order.is_newer(Some(new), Some(old))
    }

    /// Whether L1 holds the program, or is about to. If it does not, it will ask Redis for it when it is needed.
    pub fn holds(&self, id: &ProgramId) -> bool {
        let loads = self.inner.loads();
        self.inner.absent.invalidate(id);
        loads.contains_key(id) || self.inner.programs.contains_key(id)
    }

    /// Applies an update if L1 holds the program or has room, and hands it to loads of the program that are
    /// under way. If L1 holds a newer version, Redis is asked at the next request which one is true.
    pub fn push(&self, id: ProgramId, state: ProgramState) -> PushOutcome {
        let inner = &self.inner;
        let mut loads = inner.loads();
        inner.absent.invalidate(&id);
        if let Some(load) = loads.get_mut(&id) {
            load.pushed = Some(inner.newest(state.clone(), load.pushed.take()));
        }
        let has_room = inner.has_room();
        let mut outcome = PushOutcome::Applied;
        inner.programs.entry(id).and_compute_with(|held| match held.map(moka::Entry::into_value) {
            Some(held) if inner.is_newer(&held.state, &state) => {
                outcome = PushOutcome::Older;
                Op::Put(CacheEntry { at: inner.expires_in(Duration::ZERO), ..held })
            }
            None if !has_room => {
                outcome = PushOutcome::NotHeld;
                Op::Nop
            }
            held => {
                if let Some(held) = &held {
                    state.continue_count(&held.state);
                }
                Op::Put(CacheEntry { state, at: Instant::now() })
            }
        });
        outcome
    }

    /// Makes loads under way that find `version` read again.
    pub fn distrust_loads(&self, id: &ProgramId, version: &Version) {
        if let Some(load) = self.inner.loads().get_mut(id) {
            load.retract(version);
        }
    }

    /// Drops the entry of `id` if it has exactly `version`, which cannot be true and was replaced in Redis.
    /// Loads under way do not bring it back. Returns whether there was such an entry.
    pub fn retract(&self, id: &ProgramId, version: &Version) -> bool {
        let inner = &self.inner;
        let mut loads = inner.loads();
        if let Some(load) = loads.get_mut(id) {
            load.retract(version);
        }
        let mut is_held = false;
        inner.programs.entry(id.clone()).and_compute_with(|held| {
            is_held = held.is_some_and(|held| held.value().state.version() == Some(version));
            if is_held { Op::Remove } else { Op::Nop }
        });
        is_held
    }

    /// Ids and versions of all entries: programs and tombstones, not unknown ids.
    pub fn versions(&self) -> Vec<(ProgramId, Version)> {
        self.inner
            .programs
            .iter()
            .filter_map(|(id, cached)| Some(((*id).clone(), cached.state.version()?.clone())))
            .collect()
    }

    /// Removes the entries for unknown ids: they were not known to be absent.
    pub fn forget_absent(&self) {
        self.inner.absent.invalidate_all();
    }

    /// Removes all entries.
    pub fn purge(&self) {
        self.inner.programs.invalidate_all();
        self.inner.absent.invalidate_all();
        self.inner.contradictions.clear();
    }

    /// How many programs L1 holds, approximately. Makes the cache do its pending work, so not for the hot
    /// path.
    pub fn len(&self) -> u64 {
        self.inner.programs.run_pending_tasks();
        self.inner.programs.entry_count()
    }

    /// Whether L1 holds no program, approximately.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is room for a program that no request asked for.
    pub fn has_room(&self) -> bool {
        self.inner.has_room()
    }
}

impl RequestCounts for LocalPrograms {
    fn request_count(&self, id: &ProgramId) -> Option<RequestCount> {
        Some(self.inner.programs.get(id)?.state.program()?.requests.count())
    }
}

impl Inner {
    fn loads(&self) -> MutexGuard<'_, HashMap<ProgramId, Load>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nanos(&self, moment: Instant) -> u64 {
        let nanos = moment.saturating_duration_since(self.created_at).as_nanos();
        u64::try_from(nanos).unwrap_or(UNSUBSCRIBED - 1)
    }

    /// Leaves a margin, because the cache counts new entries with a delay.
    fn has_room(&self) -> bool {
        let capacity = self.limits.capacity;
        self.programs.entry_count() + COUNT_DELAY.min(capacity / 10) < capacity
    }

    fn is_newer(&self, new: &ProgramState, old: &ProgramState) -> bool {
        self.order.is_newer(new.version(), old.version())
    }

    /// The newer of the two; `new` if they are equally new. Absence is older than anything.
    fn newest(&self, new: ProgramState, held: Option<ProgramState>) -> ProgramState {
        held.filter(|held| self.is_newer(held, &new)).unwrap_or(new)
    }

    /// When an entry must have been read to stop being fresh after `left`.
    fn expires_in(&self, left: Duration) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.limits.ttl.saturating_sub(left)).unwrap_or(now)
    }

    /// Stores the result of a read that no update has overtaken. If L1 holds something newer, waits whether Redis
    /// keeps to what it says.
    fn store_read(&self, id: ProgramId, read: ProgramState, at: Instant) -> LoadOutcome {
        let held = self.programs.get(&id).map(|held| held.state);
        let held = held.filter(|held| self.is_newer(held, &read));
        let versions = held.as_ref().and_then(ProgramState::version).zip(read.version());
        let found = versions.map(|(held, stored)| self.contradictions.on_read(&id, held, stored));
        let (Some(held), Some((contradiction, left))) = (held, found) else {
            return LoadOutcome::Current(self.store(id, read, at));
        };
        let entry = match contradiction.stage {
            Stage::New | Stage::Known => CacheEntry { state: held, at: self.expires_in(left) },
            Stage::Resolved => CacheEntry { state: read, at },
        };
        self.programs.insert(id, entry.clone());
        LoadOutcome::Contradicted(entry.state, contradiction)
    }

    /// Stores the result of a read. Returns what L1 holds then.
    fn store(&self, id: ProgramId, state: ProgramState, at: Instant) -> ProgramState {
        if matches!(state, ProgramState::Absent) {
            // Absence never replaces a program: only a tombstone deletes.
            if let Some(held) = self.programs.get(&id) {
                self.programs.insert(id, CacheEntry { state: held.state.clone(), at });
                return held.state;
            }
            self.absent.insert(id, at);
            return ProgramState::Absent;
        }
        self.absent.invalidate(&id);
        let result = self.programs.entry(id).and_compute_with(|held| {
            let held = held.map(moka::Entry::into_value);
            let held = held.map(|held| held.state);
            let state = self.newest(state.clone(), held.clone());
            if let Some(held) = &held {
                state.continue_count(held);
            }
            Op::Put(CacheEntry { state, at })
        });
        result.into_entry().map_or(state, |entry| entry.into_value().state)
    }
}

impl LoadGuard {
    /// Stores what was read from Redis, or what was pushed since the load started if that is newer.
    pub fn finish(self, read: ProgramState) -> LoadOutcome {
        let inner = &self.local.inner;
        // Locked until L1 has stored it, so that no update comes in between.
        let loads = inner.loads();
        let since = inner.trusted_since.load(Ordering::Acquire);
        if since != UNSUBSCRIBED && inner.nanos(self.started_at) < since {
            return LoadOutcome::Outdated;
        }
        if let Some(version) = read.version() {
            inner.highest_epoch.fetch_max(version.epoch(), Ordering::Relaxed);
        }
        let load = loads.get(&self.id);
        let is_retracted = load.is_some_and(|load| {
            load.retracted.is_some() && load.retracted.as_ref() == read.version()
        });
        let id = self.id.clone();
        match load.and_then(|load| load.pushed.clone()) {
            None if is_retracted => LoadOutcome::Outdated,
            None => inner.store_read(id, read, self.started_at),
            Some(pushed) => {
                let state = if is_retracted { pushed } else { inner.newest(read, Some(pushed)) };
                LoadOutcome::Current(inner.store(id, state, self.started_at))
            }
        }
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

#[cfg(test)]
mod tests;
