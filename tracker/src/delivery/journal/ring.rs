//! One ring: a file of fixed size, in which records follow each other round and round.
//!
//! One producer appends at the head, one consumer reads behind it, and the tail moves when what
//! was read is acknowledged. Head and tail are positions: words ever written, which only grow. Both
//! stand in the file's first page, each with its complement, so that a damaged one is told.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::memory::{Memory, WORD};
use super::record::{self, Found, Record};

/// `adtrkJNL`.
const MAGIC: u64 = u64::from_le_bytes(*b"adtrkJNL");
/// The format of the files that this program writes.
pub(super) const FORMAT_VERSION: u64 = 1;
/// The first page.
const HEADER_WORDS: usize = 512;
/// Each on a cache line of its own: producer and consumer do not disturb each other.
const HEAD: usize = 64;
const TAIL: [usize; 2] = [128, 136];
const BOOT: usize = 192;
/// Magic number and version, twice: a flipped bit makes no file foreign.
const IDENTITY: [usize; 2] = [0, 256];

/// The smallest ring, in words: 64 KiB.
pub(super) const MIN_WORDS: u64 = 8_192;

/// A file that is no ring of ours.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The system refused something.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Not a journal.
    #[error("is not a journal file of adtrack")]
    Foreign,
    /// Written by a later version of adtrack.
    #[error(
        "has the journal format {0}; this version reads up to {FORMAT_VERSION}. Start the version \
         that wrote it, and let it drain"
    )]
    Newer(u64),
}

/// A ring.
#[derive(Debug)]
pub(super) struct Ring {
    memory: Memory,
    capacity: u64,
    /// Whoever holds it is the producer.
    producer: Mutex<Producer>,
    /// Published by the producer: everything before it is written.
    head: AtomicU64,
    /// Published by the consumer: everything before it is acknowledged.
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
    /// Something damaged from the first position to the second.
    Damaged(u64, u64),
    /// Nothing yet.
    Empty,
}

/// The ring does not take the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotAppended {
    /// It has no room for it.
    Full,
    /// Another producer is at it.
    Busy,
    /// It takes no more.
    Closed,
}

impl Ring {
    /// Makes a ring of `capacity` words at `path`, with its space on the disk allocated.
    pub(super) fn create(path: &Path, capacity: u64, boot: u64) -> io::Result<Self> {
        // Written under another name: a start that is cut off leaves no half-made ring.
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
            // So that a crash of the host does not take the file's name.
            File::open(folder)?.sync_all()?;
        }
        Ok(ring)
    }

    /// Opens the ring at `path` and finds where it begins and ends. `boot` names this start of the
    /// host: after another the published head may be older than what is on the disk.
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
        // What the file's length says goes before a damaged header.
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
        // Only now: a start that is cut off before must not make the next one believe the old head.
        words[BOOT].store(boot, Ordering::Release);
        Ok(ring)
    }

    /// Writes what was found, so that the next damage meets a whole header.
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

    /// Where records begin and end, from what the header says: where that is missing or cannot be
    /// believed, from all records that are there.
    fn bounds(&self, tail: Option<u64>, head: Option<u64>) -> (u64, u64) {
        let (tail, mut head) = match (tail, head) {
            (Some(tail), Some(head)) if (tail..=tail + self.capacity).contains(&head) => {
                (tail, head)
            }
            (tail, _) => self.search(tail),
        };
        // A record that was written when the process died, and not yet published.
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

    /// Goes through the whole ring for records at or behind `tail`: from the first to the end of
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
        // Without a tail all that fits the ring's last lap is replayed; ids make that harmless.
        let tail =
            tail.unwrap_or_else(|| first.unwrap_or(0).max(end.saturating_sub(self.capacity)));
        (tail, end)
    }

    /// Appends a record, without waiting. `sync`: and returns when it is on the disk.
    pub(super) fn append(
        &self,
        accepted_at: u64,
        payload: &[u8],
        sync: bool,
    ) -> Result<(), NotAppended> {
        match self.producer.try_lock() {
            Ok(producer) => self.append_as(producer, accepted_at, payload, sync),
            Err(TryLockError::WouldBlock) => Err(NotAppended::Busy),
            // Whoever panicked had not published its record: the next one writes over it.
            Err(TryLockError::Poisoned(poisoned)) => {
                self.append_as(poisoned.into_inner(), accepted_at, payload, sync)
            }
        }
    }

    /// Appends a record, after another producer that is at it.
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
        // The size is at most the ring's: checked where payloads are limited.
        record::write(&data[offset..offset + words(size)], position, accepted_at, payload);
        // Before it is published: what the disk did not take is not accepted. The header may lag
        // behind on the disk, for after a crash of the host the head is searched for.
        if sync && let Err(error) = self.sync_data(begin, end) {
            tracing::error!(%error, "the disk does not take the journal; the event is refused");
            return Err(NotAppended::Full);
        }
        producer.head = end;
        store_checked(self.memory.words(), HEAD, end);
        self.head.store(end, Ordering::Release);
        Ok(())
    }

    /// Takes no more records. Whatever is being appended is in when this returns.
    pub(super) fn close(&self) {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }

    /// What stands at `position`, for the consumer.
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
                // The length of what is damaged may be what is damaged: only the next whole record
                // says where it ends.
                Found::Damaged | Found::Nothing => {
                    let next = (at + 1..head).find(|next| self.continues(*next, head));
                    return Read::Damaged(at, next.unwrap_or(head));
                }
            }
        }
        Read::Empty
    }

    /// Whether records go on at `position`: there is one, or a lap ends, or it is the head.
    fn continues(&self, position: u64, head: u64) -> bool {
        position == head
            || position < head && matches!(self.look(position), Found::Record(_) | Found::Skip)
    }

    /// Frees everything before `position`.
    pub(super) fn acknowledge(&self, position: u64) {
        let words = self.memory.words();
        // One after the other: whenever the process dies, one of them is whole.
        for slot in TAIL {
            store_checked(words, slot, position);
        }
        self.tail.store(position, Ordering::Release);
    }

    /// Everything before it is acknowledged.
    pub(super) fn tail(&self) -> u64 {
        self.tail.load(Ordering::Acquire)
    }

    /// Everything before it is written.
    pub(super) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// How many events it holds that are not acknowledged.
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

    /// Bytes for records.
    pub(super) fn capacity_bytes(&self) -> u64 {
        self.capacity * WORD
    }

    /// The bytes of a ring's file with room for `capacity` words.
    pub(super) fn file_bytes(capacity: u64) -> u64 {
        (HEADER_WORDS as u64 + capacity) * WORD
    }

    /// Waits until the records from `begin` to `end`, and the header, are on the disk.
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
