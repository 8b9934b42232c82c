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
//!   0000.ring   one ring per worker, its whole size allocated at the start
//!   0001.ring
//!
//! a ring        | header page | records, wrapping around …………………………… |
//!                                   ▲ tail                    ▲ head
//!                                   │ not acknowledged        │ free
//! ```
//!
//! Head and tail are *positions*: words ever written to the ring. They only grow; a position modulo the
//! capacity is a place in the file. A record (`record`) carries its length, its position, the time of
//! acceptance and a CRC-32 over these and the payload, so a record of the previous lap, a half-written one
//! and a damaged one are all recognized. The header page (`ring`) holds magic number, format version and
//! capacity, the head, and the tail twice; each position is stored with its complement.
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
//!   delivered.
//!
//! A journal that was created with another size or number of workers is drained; its files are removed at
//! the first start that finds them empty. docs/adr/0006-journal.md says why it is built like this.

mod memory;
mod reader;
mod record;
mod ring;

use std::cell::Cell;
use std::fs::{File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub use reader::{Claim, JournalReader};

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
    sync: SyncMode,
    /// Events found at the start.
    replayed: u64,
    /// Held as long as the journal is open.
    _lock: File,
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
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("lock"))
            .map_err(folder_error)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => JournalError::Locked(folder.to_owned()),
            TryLockError::Error(error) => folder_error(error),
        })?;

        let (count, capacity) = shape(max_bytes, workers);
        let boot = boot_id();
        let mut kept = Vec::new();
        for path in ring_files(folder).map_err(folder_error)? {
            let ring = match Ring::open(&path, boot) {
                Ok(ring) => ring,
                Err(error) => return Err(JournalError::File(path, error)),
            };
            if ring.capacity_bytes() == capacity * memory::WORD || ring.used_bytes() > 0 {
                kept.push((path, ring));
            } else {
                std::fs::remove_file(&path).map_err(folder_error)?;
            }
        }
        let fits = |(_, ring): &(PathBuf, Ring)| ring.capacity_bytes() == capacity * memory::WORD;
        let (mut active, mut retired): (Vec<_>, Vec<_>) = kept.into_iter().partition(fits);
        // If there are more rings than needed, the emptiest become inactive.
        active.sort_by_key(|(_, ring)| std::cmp::Reverse(ring.used_bytes()));
        for (path, ring) in active.split_off(count.min(active.len())) {
            if ring.used_bytes() > 0 {
                retired.push((path, ring));
            } else {
                std::fs::remove_file(&path).map_err(folder_error)?;
            }
        }
        while active.len() < count {
            let path = unused_path(folder).map_err(folder_error)?;
            let ring = Ring::create(&path, capacity, boot).map_err(folder_error)?;
            active.push((path, ring));
        }
        let active_count = active.len();
        let rings: Vec<Ring> = active.into_iter().chain(retired).map(|(_, ring)| ring).collect();
        let replayed = rings.iter().map(Ring::count_events).sum();
        Ok(Self {
            inner: Arc::new(Inner { rings, active: active_count, sync, replayed, _lock: lock }),
        })
    }

    /// Events found when the journal was opened.
    pub fn replayed_events(&self) -> u64 {
        self.inner.replayed
    }

    /// Bytes of events that are not acknowledged.
    pub fn used_bytes(&self) -> u64 {
        self.inner.rings.iter().map(Ring::used_bytes).sum()
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

fn ring_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("ring") => paths.push(path),
            // Left by a start that was cut off while it created a ring. It holds no events.
            Some("new") => std::fs::remove_file(&path)?,
            _ => {}
        }
    }
    paths.sort();
    Ok(paths)
}

fn unused_path(folder: &Path) -> io::Result<PathBuf> {
    (0..=u32::MAX)
        .map(|number| folder.join(format!("{number:04}.ring")))
        .find(|path| !path.exists())
        .ok_or_else(|| io::Error::other("holds too many rings"))
}

/// Identifies this boot of the host; a new number for each call if the system has no boot id.
fn boot_id() -> u64 {
    let Ok(id) = std::fs::read("/proc/sys/kernel/random/boot_id") else { return rand::random() };
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// This thread's number, from 0. It selects the thread's own ring.
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
mod tests {
    use bytes::Bytes;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn open(folder: &Path, bytes: u64, workers: usize) -> Journal {
        Journal::open(folder, bytes, workers, SyncMode::Never).unwrap()
    }

    fn event(number: u64, length: usize) -> AcceptedEvent {
        let mut bytes = number.to_le_bytes().to_vec();
        bytes.resize(length.max(8), 0);
        AcceptedEvent { accepted_at: number, bytes }
    }

    fn number(bytes: &Bytes) -> u64 {
        u64::from_le_bytes(bytes[..8].try_into().unwrap())
    }

    fn read_all(reader: &mut JournalReader) -> (Vec<u64>, Vec<Claim>) {
        let (mut numbers, claims): (Vec<_>, _) =
            reader.map(|(bytes, claim)| (number(&bytes), claim)).unzip();
        numbers.sort_unstable();
        (numbers, claims)
    }

    #[test]
    fn keeps_events_until_they_are_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path(), MIB, 2);
        (0..10).for_each(|n| journal.accept(&event(n, 200)).unwrap());
        let mut reader = journal.reader();
        let (numbers, claims) = read_all(&mut reader);
        assert_eq!(numbers, (0..10).collect::<Vec<_>>());
        assert_eq!((reader.oldest(), reader.outstanding()), (Some(0), 10));
        reader.acknowledge(&claims);
        assert_eq!((journal.used_bytes(), reader.oldest(), reader.outstanding()), (0, None, 0));
    }

    #[test]
    fn replays_everything_after_the_first_unacknowledged_event() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path(), MIB, 1);
        (0..4).for_each(|n| journal.accept(&event(n, 200)).unwrap());
        let mut reader = journal.reader();
        let (_, claims) = read_all(&mut reader);
        reader.acknowledge(&claims[2..]);
        let used = journal.used_bytes();
        drop((reader, journal));
        let journal = open(folder.path(), MIB, 1);
        assert_eq!(
            (journal.replayed_events(), journal.used_bytes()),
            (4, used),
            "all are replayed"
        );
        let mut reader = journal.reader();
        let (_, claims) = read_all(&mut reader);
        reader.acknowledge(&claims[1..]);
        reader.acknowledge(&claims[..1]);
        assert_eq!(journal.used_bytes(), 0);
    }

    #[test]
    fn fills_all_rings_from_one_thread() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path(), MIB, 4);
        let accepted =
            (0..).take_while(|n| journal.accept(&event(*n, 1_000)).is_ok()).count() as u64;
        assert!(accepted * 1_000 > MIB * 9 / 10, "{accepted}");
        assert!(journal.is_nearly_full());
        assert_eq!(journal.accept(&event(0, 1_000)), Err(NotAccepted::Full));
        let mut reader = journal.reader();
        let (numbers, claims) = read_all(&mut reader);
        assert_eq!(numbers, (0..accepted).collect::<Vec<_>>());
        reader.acknowledge(&claims);
        assert_eq!(journal.accept(&event(0, 1_000)), Ok(()));
    }

    #[test]
    fn replays_journals_of_other_shapes_and_then_removes_them() {
        let folder = tempfile::tempdir().unwrap();
        let shapes = [(MIB, 4), (2 * MIB, 4), (2 * MIB, 1), (MIB, 8), (MIB, 2)];
        for (round, (bytes, workers)) in (0..).zip(shapes) {
            let journal = open(folder.path(), bytes, workers);
            assert_eq!(journal.replayed_events(), round);
            assert!(journal.capacity_bytes() <= bytes);
            journal.accept(&event(round, 100)).unwrap();
        }
        let journal = open(folder.path(), 4 * MIB, 1);
        let mut reader = journal.reader();
        let (numbers, claims) = read_all(&mut reader);
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        reader.acknowledge(&claims);
        drop((reader, journal));
        drop(open(folder.path(), 4 * MIB, 1));
        assert_eq!(ring_files(folder.path()).unwrap().len(), 1);
    }

    #[test]
    fn refuses_a_second_tracker() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path(), MIB, 1);
        let error = Journal::open(folder.path(), MIB, 1, SyncMode::Never).unwrap_err();
        assert!(error.to_string().contains("another tracker uses it"), "{error}");
        drop(journal);
        open(folder.path(), MIB, 1);
    }

    #[test]
    fn refuses_a_newer_format() {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path(), MIB, 1));
        let path = &ring_files(folder.path()).unwrap()[0];
        let mut bytes = std::fs::read(path).unwrap();
        for copy in [0, 256 * 8] {
            bytes[copy + 8] = 9;
        }
        std::fs::write(path, bytes).unwrap();
        let error = Journal::open(folder.path(), MIB, 1, SyncMode::Never).unwrap_err();
        assert!(error.to_string().contains("has the journal format 9"), "{error}");
    }

    /// Runs the next test on its own disk of 2 MiB.
    #[test]
    fn reports_a_full_disk_at_the_start_and_not_in_a_request() {
        let folder = tempfile::tempdir().unwrap();
        let script = "mount -t tmpfs -o size=2m tmpfs \"$DISK\" && exec \"$0\" --ignored --exact \
                      delivery::journal::tests::on_a_small_disk";
        let output = std::process::Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", script])
            .arg(std::env::current_exe().unwrap())
            .env("DISK", folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
    }

    #[test]
    #[ignore = "needs a disk of 2 MiB: the test above gives it one"]
    fn on_a_small_disk() {
        let disk = PathBuf::from(std::env::var_os("DISK").unwrap());
        let folder = disk.join("journal");
        let error = Journal::open(&folder, 4 * MIB, 1, SyncMode::Never).unwrap_err();
        assert!(error.to_string().contains("No space left on device"), "{error}");
        assert!(error.to_string().contains("JOURNAL_MAX_BYTES free"), "{error}");
        // The incomplete journal does not prevent a smaller one.
        let journal = open(&folder, MIB, 2);
        assert!(std::fs::write(disk.join("something else"), vec![1; 2 << 20]).is_err(), "full now");
        let mut reader = journal.reader();
        for lap in 0..3 {
            let events = (0..).take_while(|n| journal.accept(&event(*n, 1_000)).is_ok()).count();
            assert!(events as u64 * 1_000 > MIB * 9 / 10, "lap {lap}: {events}");
            journal.sync_to_disk().unwrap();
            let (numbers, claims) = read_all(&mut reader);
            assert_eq!(numbers, (0..events as u64).collect::<Vec<_>>());
            reader.acknowledge(&claims);
        }
    }

    #[test]
    fn can_be_read_but_takes_nothing_once_closed() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path(), MIB, 2);
        journal.accept(&event(7, 10)).unwrap();
        journal.close();
        assert_eq!(journal.accept(&event(8, 10)), Err(NotAccepted::Closed));
        assert_eq!(read_all(&mut journal.reader()).0, [7]);
    }

    #[test]
    fn takes_events_in_every_sync_mode() {
        for sync in [SyncMode::Always, SyncMode::Interval(Duration::from_millis(5))] {
            let folder = tempfile::tempdir().unwrap();
            let journal = Journal::open(folder.path(), MIB, 1, sync).unwrap();
            // Some laps, so that records wrap around.
            let mut reader = journal.reader();
            for n in 0..2_000 {
                journal.accept(&event(n, 1_000)).unwrap();
                let (numbers, claims) = read_all(&mut reader);
                assert_eq!(numbers, [n]);
                if n % 50 == 0 {
                    journal.sync_to_disk().unwrap();
                }
                reader.acknowledge(&claims);
            }
        }
    }

    #[test]
    fn loses_nothing_with_many_threads_and_a_reader() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path(), MIB, 3);
        const THREADS: u64 = 5;
        const EACH: u64 = 20_000;
        let read = std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let journal = journal.clone();
                scope.spawn(move || {
                    for n in 0..EACH {
                        let event =
                            event(thread * EACH + n, 100 + usize::try_from(n % 300).unwrap());
                        while journal.accept(&event) != Ok(()) {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let mut reader = journal.reader();
            let mut read = Vec::new();
            while (read.len() as u64) < THREADS * EACH {
                let (numbers, claims) = read_all(&mut reader);
                reader.acknowledge(&claims);
                read.extend(numbers);
            }
            read
        });
        let mut sorted = read;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..THREADS * EACH).collect::<Vec<_>>());
        assert_eq!(journal.used_bytes(), 0);
    }
}
