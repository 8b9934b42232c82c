//! The journal: a folder of memory-mapped files that hold every accepted event until Kinesis has it.
//!
//! It is the queue between requests and delivery; there is no second copy in memory. An event is copied
//! into the journal before its response leaves, so a 2xx response means that the event survives the
//! process. The copy goes into mapped memory: it costs no system call, and the kernel keeps it when the
//! process dies.
//!
//! # Layout
//!
//! ```text
//! JOURNAL_DIR/
//!   lock        held while a tracker uses the folder
//!   0000.ring   one ring per worker, its whole size allocated at the start; locked while it is open
//!   0001.ring
//!   0002.ring.damaged   set aside by a start that could not read it
//!
//! a ring        | header page | records, round and round ……………… | copy of the header |
//!                                   ▲ tail              ▲ head
//!                                   │ not acknowledged  │ free
//! ```
//!
//! Head and tail are *positions*: words ever written to the ring. They only grow; a position modulo the
//! capacity is a place in the file. A record (`record`) carries its length, its position, the time of
//! acceptance and a CRC-32 over these and the payload, so a record of the previous lap, a half-written one
//! and a damaged one are all recognized. The header page (`ring::header`) holds magic number, format version and
//! capacity, the head, and the tail twice; each position is stored with its complement. The last page, which
//! records skip in every lap, is a copy of what the header cannot do without.
//!
//! # Who writes, who reads
//!
//! - Request handlers append. A thread prefers its own ring and takes the next one if its own is full or
//!   busy, so that threads do not wait for each other. Appending takes a ring's lock with `try_lock`; only
//!   if every ring is full or busy does a request wait for a lock.
//! - One consumer, the [`JournalReader`], reads behind the heads and acknowledges events in any order. A
//!   ring's tail moves past the events that are acknowledged without a gap.
//! - All access to the mapping is through `&[AtomicU64]` (`memory`): producer and consumer may look at
//!   any word at any time without a data race, and a damaged file yields wrong values, never undefined
//!   behavior.
//!
//! # Invariants
//!
//! 1. `tail <= head <= tail + capacity`; the words from tail to head are records, or a mark that the rest of
//!    the file up to its end is unused (a *skip*; one pass through the file is a *lap*).
//! 2. The head is published after the record: the consumer never sees half a record.
//! 3. The tail moves only past events that Kinesis acknowledged.
//! 4. A full ring refuses the event; nothing that was accepted is overwritten.
//!
//! # What a crash leaves
//!
//! - *Crash of the process*: everything that was copied is left. The next start reads from the tails. It
//!   finds records beyond the published head by their position and checksum. An event that was being copied
//!   has no response yet; it is kept if it is complete, else dropped. Events that Kinesis has but whose
//!   acknowledgement was lost are delivered again; they become the same row.
//! - *Crash of the host*: what the kernel had not written is lost, see [`SyncMode`]. Header and records may
//!   then be of different ages, so a head from an earlier boot is not trusted, and the ring is searched.
//! - *Damage*: a damaged stretch is skipped, counted and logged; the events before and after it are
//!   delivered. Without a header the ring is searched for its records. A file that is shorter than its capacity
//!   is read and takes nothing. One in which nothing is recognized is set aside, for `salvage`, and so is whatever
//!   else has the name of a ring: a folder, a device, a link that leads nowhere, a second name or a copy of
//!   another ring.
//!
//! # What others may do to the files
//!
//! A running tracker notices if a file is removed, moved away, shortened or unreadable (`watch`), and writes what is
//! not acknowledged to a new one (`ring::home`). A ring that was only renamed goes on under its new name. An access to what is cut off meanwhile finds zeros
//! (`memory::fault`), which are damage like any other.
//!
//! # Identity
//!
//! Journal and rings have random ids, made with the files, so that (ring, position) never names two events: `identity`
//! has the rules. What is delivered says where it was (`delivery::receipt`), and the journal says on the stream how far
//! its rings have come and what of them cannot be read (`delivery::notices`). Its time never runs back (`clock`).
//!
//! A journal that may not be continued, such as one that was created with another size or number of workers, is drained;
//! its files are removed at the first start that finds them empty. docs/adr/0006-journal.md says why it is built like this.

mod clock;
mod folder;
mod identity;
mod memory;
mod notice;
mod reader;
mod record;
mod ring;
mod salvage;
mod watch;

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;

pub use identity::{OtherJournal, id_text};
pub use notice::Kind;
pub use reader::{Claim, JournalReader, Stretch};
pub use salvage::Salvage;
pub use watch::JournalWatch;

use clock::JournalClock;
use folder::FolderLock;
use identity::Identity;
use ring::{NotAppended, Ring, RingError};

use crate::track::{AcceptedEvent, EventSink, NotAccepted};

/// The smallest journal, in bytes.
pub const MIN_BYTES: u64 = 128 * 1024;

/// When accepted events reach the disk: what a crash of the whole host may lose. A crash of the process
/// alone loses nothing in any mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// When the kernel writes them, usually within half a minute.
    Never,
    /// After this time at the latest.
    Interval(Duration),
    /// Before the response leaves.
    Always,
}

/// Why the journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The folder cannot be used.
    #[error("JOURNAL_DIR={0:?}: {1}; expected a writable folder with JOURNAL_MAX_BYTES free")]
    Folder(PathBuf, io::Error),
    /// Something else is in the place of the folder's lock.
    #[error("{0:?}: {1}; remove it: the tracker creates a file there that holds nothing")]
    Lock(PathBuf, io::Error),
    /// Another tracker uses the folder.
    #[error("JOURNAL_DIR={0:?}: another tracker uses it; stop that one, or choose another folder")]
    Locked(PathBuf),
    /// A file in the folder is not a ring that this version can read.
    #[error("{0:?} {1}")]
    File(PathBuf, RingError),
}

/// The journal.
#[derive(Debug, Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// First the active rings, which take events; then rings of another size or number of workers, which
    /// are only read.
    rings: Vec<Ring>,
    /// How many of them are active.
    active: usize,
    /// The identity under which the active rings take events.
    id: u64,
    /// When this journal was opened for the first time, the clock had gone back: from when to when.
    clock_step: Option<(u64, u64)>,
    clock: JournalClock,
    /// Journals found in the folder that take no more events: they are drained and then closed.
    others: Vec<OtherJournal>,
    sync: SyncMode,
    /// Events found at the start.
    replayed: u64,
    folder: PathBuf,
    /// Held as long as the journal is open.
    lock: FolderLock,
    /// How often the file of a ring was lost since the start.
    lost_files: AtomicU64,
    /// Files in the folder that were set aside, at the last look.
    damaged_files: AtomicU64,
}

impl Inner {
    fn new(
        folder: &Path,
        lock: FolderLock,
        rings: Vec<Ring>,
        active: usize,
        sync: SyncMode,
        identity: Identity,
    ) -> Self {
        let damaged_files = folder::damaged_files(folder).map_or(0, |files| files.len() as u64);
        Self {
            replayed: rings.iter().map(Ring::count_events).sum(),
            rings,
            active,
            id: identity.id,
            clock_step: identity.clock_step,
            clock: JournalClock::starting_at(identity.time_ms),
            others: identity.others,
            sync,
            folder: folder.to_owned(),
            lock,
            lost_files: AtomicU64::new(0),
            damaged_files: AtomicU64::new(damaged_files),
        }
    }
}

impl Journal {
    /// Opens or creates the journal in `folder`: rings for `workers`, of `max_bytes` in total, with their
    /// disk space allocated. Rings of an earlier journal of another shape are kept and read; the first start
    /// that finds them empty removes their files.
    pub fn open(
        folder: &Path,
        max_bytes: u64,
        workers: usize,
        sync: SyncMode,
    ) -> Result<Self, JournalError> {
        let folder_error = |error| JournalError::Folder(folder.to_owned(), error);
        std::fs::create_dir_all(folder).map_err(folder_error)?;
        let (lock, rings) = lock_and_open(folder)?;
        let (count, capacity) = shape(max_bytes, workers);
        let (identity, mut rings, retired) = identity::choose(rings, count, capacity);
        let (retired, empty): (Vec<_>, Vec<_>) =
            retired.into_iter().partition(|ring| ring.used_bytes() > 0);
        empty.into_iter().try_for_each(Ring::remove).map_err(folder_error)?;
        let boot = folder::boot_id();
        while rings.len() < count {
            let path = folder::unused_ring_path(folder).map_err(folder_error)?;
            rings.push(Ring::create(&path, capacity, boot, identity.id).map_err(
                |error| match error {
                    RingError::InUse => JournalError::Locked(folder.to_owned()),
                    RingError::Io(error) => folder_error(error),
                    error => JournalError::File(path, error),
                },
            )?);
        }
        rings.extend(retired);
        Ok(Self { inner: Arc::new(Inner::new(folder, lock, rings, count, sync, identity)) })
    }

    /// Opens what trackers have left in `folder` to read it; nothing is accepted. Fails if a tracker uses the
    /// folder.
    pub fn open_to_drain(folder: &Path) -> Result<JournalReader, JournalError> {
        let (lock, rings) = lock_and_open(folder)?;
        let identity = Identity::to_drain(&rings);
        let inner = Inner::new(folder, lock, rings, 0, SyncMode::Never, identity);
        Ok(Self { inner: Arc::new(inner) }.reader())
    }

    /// Events found when the journal was opened.
    pub fn replayed_events(&self) -> u64 {
        self.inner.replayed
    }

    /// Bytes of events that are not acknowledged.
    pub fn used_bytes(&self) -> u64 {
        self.inner.rings.iter().map(Ring::used_bytes).sum()
    }

    /// When the oldest event that is not acknowledged was accepted, in milliseconds since the Unix epoch. Reads
    /// one event per ring; any thread may ask at any time.
    pub fn oldest_accepted_at(&self) -> Option<u64> {
        self.inner.rings.iter().filter_map(Ring::oldest_accepted_at).min()
    }

    /// How long that event has waited; zero if there is none, or if the clock was set back.
    pub fn oldest_age(&self) -> Duration {
        let accepted_at = self.oldest_accepted_at().and_then(|at| i64::try_from(at).ok());
        let age = accepted_at.map_or(0, |at| Timestamp::now().as_millisecond().saturating_sub(at));
        Duration::from_millis(u64::try_from(age).unwrap_or(0))
    }

    /// The folder that it is in.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// How many events are not acknowledged. Reads all of them.
    pub fn count_events(&self) -> u64 {
        self.inner.rings.iter().map(Ring::count_events).sum()
    }

    /// How often the file of a ring was removed, shortened or unreadable since the journal was opened.
    pub fn lost_files(&self) -> u64 {
        self.inner.lost_files.load(Ordering::Relaxed)
    }

    /// Files in the folder that cannot be read as rings and were set aside, for `redrive journal`.
    pub fn damaged_files(&self) -> u64 {
        self.inner.damaged_files.load(Ordering::Relaxed)
    }

    /// Size in bytes of the rings that take events.
    pub fn capacity_bytes(&self) -> u64 {
        self.active().iter().map(Ring::capacity_bytes).sum()
    }

    /// Whether 80 % of the capacity is used: time to alert somebody.
    pub fn is_nearly_full(&self) -> bool {
        self.used_bytes() >= self.capacity_bytes() / 10 * 8
    }

    /// Closes the journal to new events. Events that are being accepted are stored when this returns.
    pub fn close(&self) {
        self.inner.rings.iter().for_each(Ring::close);
    }

    /// Syncs everything to disk. Blocks.
    pub fn sync_to_disk(&self) -> io::Result<()> {
        self.inner.rings.iter().try_for_each(|ring| ring.sync(ring.tail(), ring.head()))
    }

    /// When accepted events reach the disk.
    pub fn sync(&self) -> SyncMode {
        self.inner.sync
    }

    fn active(&self) -> &[Ring] {
        &self.inner.rings[..self.inner.active]
    }

    fn rings(&self) -> &[Ring] {
        &self.inner.rings
    }

    /// Appends to this thread's own ring, or to the next one that has room and is not busy. Waits only if
    /// all are full or busy. Refuses the event only if no ring has room or, with `always`, can be synced.
    fn append(&self, accepted_at: u64, payload: &[u8]) -> Result<(), NotAccepted> {
        let sync = self.inner.sync == SyncMode::Always;
        let rings = self.active();
        let (before, from_own) = rings.split_at(own_lane() % rings.len());
        let in_turn = || from_own.iter().chain(before);
        let appends = in_turn()
            .map(|ring| ring.append(accepted_at, payload, sync))
            .chain(in_turn().map(|ring| ring.wait_and_append(accepted_at, payload, sync)));
        for append in appends {
            match append {
                Ok(()) => return Ok(()),
                Err(NotAppended::Closed) => return Err(NotAccepted::Closed),
                Err(NotAppended::Busy | NotAppended::Full) => {}
            }
        }
        Err(NotAccepted::Full)
    }
}

impl EventSink for Journal {
    fn accept(&self, event: &AcceptedEvent) -> Result<(), NotAccepted> {
        self.append(event.accepted_at, &event.bytes)
    }

    fn earliest_ms(&self, now_ms: u64) -> u64 {
        self.inner.clock.earliest_ms(now_ms)
    }
}

/// Locks `folder` and opens the rings in it. Those that cannot be read are set aside.
fn lock_and_open(folder: &Path) -> Result<(FolderLock, Vec<Ring>), JournalError> {
    let folder_error = |error| JournalError::Folder(folder.to_owned(), error);
    let in_use = || JournalError::Locked(folder.to_owned());
    let lock = FolderLock::take(folder).map_err(|error| match folder::lock_path(folder) {
        lock if std::fs::metadata(&lock).is_ok_and(|found| !found.is_file()) => {
            JournalError::Lock(lock, error)
        }
        _ => folder_error(error),
    })?;
    let lock = lock.ok_or_else(in_use)?;
    for path in folder::unfinished_files(folder).map_err(folder_error)? {
        if let Err(error) = ring::remove_unused(&path) {
            set_aside(folder, &path, error)?;
        }
    }
    let boot = folder::boot_id();
    let (mut rings, mut opened) = (Vec::new(), HashSet::new());
    for path in folder::ring_files(folder).map_err(folder_error)? {
        let file = std::fs::metadata(&path).map(|file| (file.dev(), file.ino()));
        let ring = match file {
            Ok(file) if !opened.insert(file) => Err(RingError::SameFile),
            _ => Ring::open(&path, boot),
        };
        match ring {
            Ok(ring) => rings.push(ring),
            Err(error) => set_aside(folder, &path, error)?,
        }
    }
    Ok((lock, set_copies_aside(folder, rings)?))
}

/// Keeps one ring of those that are copies of each other: the one that has come farthest.
fn set_copies_aside(folder: &Path, mut rings: Vec<Ring>) -> Result<Vec<Ring>, JournalError> {
    rings.sort_by_key(|ring| Reverse(ring.head()));
    let mut originals = Vec::<Ring>::new();
    for ring in rings {
        match originals.iter().find(|original| original.number() == ring.number()) {
            None => originals.push(ring),
            Some(original) => {
                let path = ring.path();
                drop(ring);
                set_aside(folder, &path, RingError::Copy(original.path()))?;
            }
        }
    }
    Ok(originals)
}

/// Renames what cannot be opened as a ring because of `problem`, if that is about this path alone.
fn set_aside(folder: &Path, path: &Path, problem: RingError) -> Result<(), JournalError> {
    let to_error = |error| match error {
        RingError::InUse => JournalError::Locked(folder.to_owned()),
        error => JournalError::File(path.to_owned(), error),
    };
    let aside = match &problem {
        RingError::SameFile => ring::rename_aside(path),
        problem if problem.is_about_path() => ring::set_aside(path),
        _ => return Err(to_error(problem)),
    };
    let aside = aside.map_err(to_error)?;
    tracing::error!(
        file = %path.display(),
        aside = %aside.display(),
        %problem,
        "a file of the journal cannot be used; it is set aside. Save its events with `redrive journal`"
    );
    Ok(())
}

/// How many rings, of how many words each, `max_bytes` make: one per worker, or fewer if they would be too
/// small for their records.
fn shape(max_bytes: u64, workers: usize) -> (usize, u64) {
    let smallest = Ring::file_bytes(ring::MIN_WORDS);
    let most = usize::try_from(max_bytes / smallest).unwrap_or(usize::MAX);
    let count = workers.min(most).max(1);
    let bytes = max_bytes / count as u64;
    let capacity = bytes.saturating_sub(Ring::file_bytes(0)) / memory::WORD;
    // Whole pages, so that rings never share one.
    (count, (capacity / 512 * 512).max(ring::MIN_WORDS))
}

/// This thread's number, from 0.
fn own_lane() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    OWN.with(|own| {
        own.get().unwrap_or_else(|| {
            let lane = NEXT.fetch_add(1, Ordering::Relaxed);
            own.set(Some(lane));
            lane
        })
    })
}

#[cfg(test)]
mod tests;
