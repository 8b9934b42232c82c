//! A ring: a fixed-size file used as a circular log.
//!
//! One producer at a time appends at the head, and one consumer reads behind it. The tail moves when what was read is
//! acknowledged. Head and tail are positions: words ever written, which only grow. Both are in the file's
//! first page, each with its complement, so that damage is recognized.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::memory::{Memory, WORD};
use super::record::{self, Found, Record};

/// `adtrkJNL`.
const MAGIC: u64 = u64::from_le_bytes(*b"adtrkJNL");
/// The file format that this version writes.
pub(super) const FORMAT_VERSION: u64 = 1;
/// The size of the first page, which is the header.
const HEADER_WORDS: usize = 512;
/// Each of these is on a cache line of its own, so that producer and consumer do not slow each other down.
const HEAD: usize = 64;
const TAIL: [usize; 2] = [128, 136];
const BOOT: usize = 192;
/// Magic number and version, stored twice, so that one flipped bit does not make the file unrecognizable.
const IDENTITY: [usize; 2] = [0, 256];

/// The smallest ring, in words: 64 KiB.
pub(super) const MIN_WORDS: u64 = 8_192;

/// Why a file cannot be opened as a ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// A system call failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not a journal file.
    #[error("is not a journal file of adtrack")]
    Foreign,
    /// A later version of adtrack wrote it.
    #[error(
        "has the journal format {0}; this version reads up to {FORMAT_VERSION}. Start the version \
         that wrote it, and let it drain"
    )]
    Newer(u64),
}

#[derive(Debug)]
pub(super) struct Ring {
    memory: Memory,
    capacity: u64,
    /// The thread that holds the lock is the producer.
    producer: Mutex<Producer>,
    /// Published by the producer: all records before it are written.
    head: AtomicU64,
    /// Published by the consumer: all records before it are acknowledged.
    tail: AtomicU64,
}

#[derive(Debug)]
struct Producer {
    /// Where the next record goes.
    head: u64,
    closed: bool,
}

/// What the consumer found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// A record, and the position behind it.
    Record(Record, u64),
    /// A damaged stretch, from the first position to the second.
    Damaged(u64, u64),
    /// Nothing yet.
    Empty,
}

/// Why the ring does not take a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotAppended {
    /// It has no room for it.
    Full,
    /// Another producer is appending.
    Busy,
    /// It is closed.
    Closed,
}

impl Ring {
    /// Creates a ring of `capacity` words at `path`, with its disk space allocated.
    pub(super) fn create(path: &Path, capacity: u64, boot: u64) -> io::Result<Self> {
        // Under another name first, so that an interrupted start leaves no incomplete ring.
        let unfinished = path.with_extension("new");
        let file =
            File::options().create(true).truncate(true).read(true).write(true).open(&unfinished)?;
        let bytes = Self::file_bytes(capacity);
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
        let memory = Memory::map(&file)?;
        let words = memory.words();
        words[BOOT].store(boot, Ordering::Relaxed);
        let ring = Self::with(memory, capacity, 0, 0);
        ring.repair_header(0, 0);
        file.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        if let Some(folder) = path.parent() {
            // So that the file's name survives a crash of the host.
            File::open(folder)?.sync_all()?;
        }
        Ok(ring)
    }

    /// Opens the ring at `path` and finds its tail and head. `boot` identifies this boot of the host: a head
    /// from another boot may be older than the records on the disk.
    pub(super) fn open(path: &Path, boot: u64) -> Result<Self, RingError> {
        Self::from_file(&File::options().read(true).write(true).open(path)?, boot)
    }

    fn from_file(file: &File, boot: u64) -> Result<Self, RingError> {
        let length = file.metadata()?.len() / WORD;
        if length <= HEADER_WORDS as u64 || file.metadata()?.len() % WORD != 0 {
            return Err(RingError::Foreign);
        }
        let memory = Memory::map(file)?;
        let words = memory.words();
        let load = |index: usize| words[index].load(Ordering::Relaxed);
        let copies = IDENTITY.map(|copy| (load(copy), load(copy + 1)));
        if !copies.contains(&(MAGIC, FORMAT_VERSION)) {
            let newer =
                copies.iter().find(|(magic, version)| *magic == MAGIC && *version > FORMAT_VERSION);
            return Err(newer.map_or(RingError::Foreign, |(_, version)| RingError::Newer(*version)));
        }
        // The file's length is more reliable than the header, which may be damaged.
        let capacity = length - HEADER_WORDS as u64;
        let same_boot = load(BOOT) == boot;
        let tail = TAIL.into_iter().filter_map(|slot| load_checked(words, slot)).max();
        let head = load_checked(words, HEAD).filter(|_| same_boot);
        let mut ring = Self::with(memory, capacity, 0, 0);
        let (tail, head) = ring.bounds(tail, head);
        ring.head = AtomicU64::new(head);
        ring.tail = AtomicU64::new(tail);
        ring.producer = Mutex::new(Producer { head, closed: false });
        ring.repair_header(tail, head);
        let words = ring.memory.words();
        // Only now: if this start is interrupted before, the next one must not trust the old head.
        words[BOOT].store(boot, Ordering::Release);
        Ok(ring)
    }

    /// Rewrites the whole header, so that later damage affects at most one copy.
    fn repair_header(&self, tail: u64, head: u64) {
        let words = self.memory.words();
        for copy in IDENTITY {
            words[copy].store(MAGIC, Ordering::Relaxed);
            words[copy + 1].store(FORMAT_VERSION, Ordering::Relaxed);
        }
        words[2].store(self.capacity, Ordering::Relaxed);
        for (slot, position) in [(TAIL[0], tail), (TAIL[1], tail), (HEAD, head)] {
            store_checked(words, slot, position);
        }
    }

    fn with(memory: Memory, capacity: u64, tail: u64, head: u64) -> Self {
        Self {
            memory,
            capacity,
            producer: Mutex::new(Producer { head, closed: false }),
            head: AtomicU64::new(head),
            tail: AtomicU64::new(tail),
        }
    }

    /// The tail and the head, from the header; if it is missing or inconsistent, from the records found.
    fn bounds(&self, tail: Option<u64>, head: Option<u64>) -> (u64, u64) {
        let (tail, mut head) = match (tail, head) {
            (Some(tail), Some(head)) if (tail..=tail + self.capacity).contains(&head) => {
                (tail, head)
            }
            (tail, _) => self.search(tail),
        };
        // Includes records that were written but not published when the process died.
        loop {
            let lap_end = head + self.capacity - head % self.capacity;
            match self.look(head) {
                Found::Record(record) => head += record::words_of(record.payload.len()),
                Found::Skip if matches!(self.look(lap_end), Found::Record(_)) => head = lap_end,
                _ => break,
            }
        }
        (tail, head)
    }

    /// Searches the whole ring for records at or after `tail`. Returns the start of the first and the end of
    /// the last.
    fn search(&self, tail: Option<u64>) -> (u64, u64) {
        let data = self.data();
        let from = tail.unwrap_or(0);
        let newest = tail.map_or(u64::MAX, |tail| tail.saturating_add(self.capacity));
        let mut first = None::<u64>;
        let mut end = from;
        for offset in 0..data.len() {
            let Some(position) = data.get(offset + 1).map(|word| word.load(Ordering::Relaxed))
            else {
                break;
            };
            let belongs =
                position % self.capacity == offset as u64 && (from..newest).contains(&position);
            if belongs && let Found::Record(record) = record::read(&data[offset..], position) {
                first = Some(first.map_or(position, |first| first.min(position)));
                end = end.max(position + record::words_of(record.payload.len()));
            }
        }
        // Without a tail, all records of the last lap are replayed. Message ids make that harmless.
        let tail =
            tail.unwrap_or_else(|| first.unwrap_or(0).max(end.saturating_sub(self.capacity)));
        (tail, end)
    }

    /// Appends a record without waiting for other producers. With `sync`, returns once it is on disk.
    pub(super) fn append(
        &self,
        accepted_at: u64,
        payload: &[u8],
        sync: bool,
    ) -> Result<(), NotAppended> {
        match self.producer.try_lock() {
            Ok(producer) => self.append_as(producer, accepted_at, payload, sync),
            Err(TryLockError::WouldBlock) => Err(NotAppended::Busy),
            // The thread that panicked had not published its record. The next record overwrites it.
            Err(TryLockError::Poisoned(poisoned)) => {
                self.append_as(poisoned.into_inner(), accepted_at, payload, sync)
            }
        }
    }

    /// Appends a record. Waits for a producer that is appending.
    pub(super) fn wait_and_append(
        &self,
        accepted_at: u64,
        payload: &[u8],
        sync: bool,
    ) -> Result<(), NotAppended> {
        let producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        self.append_as(producer, accepted_at, payload, sync)
    }

    fn append_as(
        &self,
        mut producer: MutexGuard<'_, Producer>,
        accepted_at: u64,
        payload: &[u8],
        sync: bool,
    ) -> Result<(), NotAppended> {
        if producer.closed {
            return Err(NotAppended::Closed);
        }
        let data = self.data();
        let begin = producer.head;
        let size = record::words_of(payload.len());
        let left = self.capacity - begin % self.capacity;
        let skipped = if size > left { left } else { 0 };
        let position = begin + skipped;
        let end = position + size;
        if end - self.tail.load(Ordering::Acquire) > self.capacity {
            return Err(NotAppended::Full);
        }
        if skipped > 0 {
            record::write_skip(&data[self.offset(begin)..], begin);
        }
        let offset = self.offset(position);
        // The record fits into the ring: payloads are limited.
        record::write(&data[offset..offset + words(size)], position, accepted_at, payload);
        // Before it is published: an event that is not on disk is not accepted. The header may lag behind
        // on disk, because the head is searched for after a crash of the host.
        if sync && let Err(error) = self.sync_data(begin, end) {
            tracing::error!(%error, "the journal cannot be synced to the disk; the event is refused");
            return Err(NotAppended::Full);
        }
        producer.head = end;
        store_checked(self.memory.words(), HEAD, end);
        self.head.store(end, Ordering::Release);
        Ok(())
    }

    /// Closes the ring to new records. A record that is being appended is stored when this returns.
    pub(super) fn close(&self) {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }

    /// Reads the record at `position`, for the consumer.
    pub(super) fn read(&self, position: u64) -> Read {
        let head = self.head.load(Ordering::Acquire);
        let mut at = position;
        while at < head {
            match self.look(at) {
                Found::Record(record) => {
                    let end = at + record::words_of(record.payload.len());
                    return Read::Record(record, end);
                }
                Found::Skip => at += self.capacity - at % self.capacity,
                // The length itself may be damaged, so the damaged stretch ends at the next valid record.
                Found::Damaged | Found::Nothing => {
                    let next = (at + 1..head).find(|next| self.continues(*next, head));
                    return Read::Damaged(at, next.unwrap_or(head));
                }
            }
        }
        Read::Empty
    }

    /// Whether valid data continues at `position`: a record, the end of a lap, or the head.
    fn continues(&self, position: u64, head: u64) -> bool {
        position == head
            || position < head && matches!(self.look(position), Found::Record(_) | Found::Skip)
    }

    /// Frees everything before `position`.
    pub(super) fn acknowledge(&self, position: u64) {
        let words = self.memory.words();
        // One after the other, so that one of them is intact whenever the process dies.
        for slot in TAIL {
            store_checked(words, slot, position);
        }
        self.tail.store(position, Ordering::Release);
    }

    /// All records before this position are acknowledged.
    pub(super) fn tail(&self) -> u64 {
        self.tail.load(Ordering::Acquire)
    }

    /// All records before this position are written.
    pub(super) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// How many events are not acknowledged.
    pub(super) fn count_events(&self) -> u64 {
        let (mut position, mut count) = (self.tail(), 0);
        loop {
            match self.read(position) {
                Read::Record(_, end) => {
                    count += 1;
                    position = end;
                }
                Read::Damaged(_, end) => position = end,
                Read::Empty => return count,
            }
        }
    }

    /// Bytes of records that are not acknowledged.
    pub(super) fn used_bytes(&self) -> u64 {
        self.head().saturating_sub(self.tail()) * WORD
    }

    /// The capacity for records, in bytes.
    pub(super) fn capacity_bytes(&self) -> u64 {
        self.capacity * WORD
    }

    /// The size in bytes of the file of a ring with a capacity of `capacity` words.
    pub(super) fn file_bytes(capacity: u64) -> u64 {
        (HEADER_WORDS as u64 + capacity) * WORD
    }

    /// Syncs the records from `begin` to `end`, and the header, to disk.
    pub(super) fn sync(&self, begin: u64, end: u64) -> io::Result<()> {
        self.sync_data(begin, end)?;
        self.memory.sync(0, HEADER_WORDS)
    }

    fn sync_data(&self, begin: u64, end: u64) -> io::Result<()> {
        let sync = |from: usize, to: usize| self.memory.sync(HEADER_WORDS + from, to - from);
        let whole = words(self.capacity);
        let (from, to) = (self.offset(begin), self.offset(end));
        if end - begin >= self.capacity {
            sync(0, whole)
        } else if begin == end {
            Ok(())
        } else if from < to {
            sync(from, to)
        } else {
            sync(from, whole)?;
            sync(0, to)
        }
    }

    fn look(&self, position: u64) -> Found {
        record::read(&self.data()[self.offset(position)..], position)
    }

    fn data(&self) -> &[AtomicU64] {
        &self.memory.words()[HEADER_WORDS..]
    }

    fn offset(&self, position: u64) -> usize {
        words(position % self.capacity)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "never above the mapping's length")]
fn words(count: u64) -> usize {
    count as usize
}

fn store_checked(words: &[AtomicU64], slot: usize, value: u64) {
    words[slot].store(value, Ordering::Relaxed);
    words[slot + 1].store(!value, Ordering::Relaxed);
}

fn load_checked(words: &[AtomicU64], slot: usize) -> Option<u64> {
    let value = words[slot].load(Ordering::Relaxed);
    (words[slot + 1].load(Ordering::Relaxed) == !value).then_some(value)
}

#[cfg(test)]
mod tests;
