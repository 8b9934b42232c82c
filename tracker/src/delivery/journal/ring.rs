//! One ring: a file of fixed size, in which records follow each other round and round.
//!
//! One producer appends at the head, one consumer reads behind it, and the tail moves when what
//! was read is acknowledged. Head and tail are positions: words ever written, which only grow. Both
//! stand in the file's first page, each with its complement, so that a damaged one is told.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

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
        words[1].store(FORMAT_VERSION, Ordering::Relaxed);
        words[2].store(capacity, Ordering::Relaxed);
        words[BOOT].store(boot, Ordering::Relaxed);
        for slot in [HEAD, TAIL[0], TAIL[1]] {
            store_checked(words, slot, 0);
        }
        words[0].store(MAGIC, Ordering::Relaxed);
        file.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        Ok(Self::with(memory, capacity, 0, 0))
    }

    /// Opens the ring at `path` and finds where it begins and ends. `boot` names this start of the
    /// host: after another the published head may be older than what is on the disk.
    pub(super) fn open(path: &Path, boot: u64) -> Result<Self, RingError> {
        let file = File::options().read(true).write(true).open(path)?;
        let length = file.metadata()?.len() / WORD;
        if length <= HEADER_WORDS as u64 || file.metadata()?.len() % WORD != 0 {
            return Err(RingError::Foreign);
        }
        let memory = Memory::map(&file)?;
        let words = memory.words();
        let load = |index: usize| words[index].load(Ordering::Relaxed);
        if load(0) != MAGIC {
            return Err(RingError::Foreign);
        }
        match load(1) {
            FORMAT_VERSION => {}
            0 => return Err(RingError::Foreign),
            newer => return Err(RingError::Newer(newer)),
        }
        // What the file's length says goes before a damaged header.
        let capacity = length - HEADER_WORDS as u64;
        let same_boot = load(BOOT) == boot;
        let tail = TAIL.into_iter().filter_map(|slot| load_checked(words, slot)).max();
        let head = load_checked(words, HEAD).filter(|_| same_boot);
        words[BOOT].store(boot, Ordering::Relaxed);
        let mut ring = Self::with(memory, capacity, 0, 0);
        let (tail, head) = ring.bounds(tail, head);
        ring.head = AtomicU64::new(head);
        ring.tail = AtomicU64::new(tail);
        ring.producer = Mutex::new(Producer { head, closed: false });
        store_checked(ring.memory.words(), HEAD, head);
        Ok(ring)
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
        while let Found::Record(record) = self.look(head) {
            head += record::words_of(record.payload.len());
        }
        (tail, head)
    }

    /// Goes through the whole ring for records at or behind `tail`: from the first to the end of
    /// the last.
    fn search(&self, tail: Option<u64>) -> (u64, u64) {
        let data = self.data();
        let from = tail.unwrap_or(0);
        let mut first = None::<u64>;
        let mut end = from;
        for offset in 0..data.len() {
            let Some(position) = data.get(offset + 1).map(|word| word.load(Ordering::Relaxed))
            else {
                break;
            };
            let newest = tail.map_or(u64::MAX, |tail| tail.saturating_add(self.capacity));
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
        let Ok(mut producer) = self.producer.try_lock() else { return Err(NotAppended::Busy) };
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
        producer.head = end;
        store_checked(self.memory.words(), HEAD, end);
        self.head.store(end, Ordering::Release);
        if sync && let Err(error) = self.sync(begin, end) {
            tracing::error!(%error, "the journal cannot be synced to the disk");
        }
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
                Found::Damaged(size) if self.continues(at + size, head) => {
                    return Read::Damaged(at, at + size);
                }
                Found::Damaged(_) | Found::Nothing => {
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
        let sync = |from: usize, to: usize| self.memory.sync(HEADER_WORDS + from, to - from);
        let whole = words(self.capacity);
        let (from, to) = (self.offset(begin), self.offset(end));
        if end - begin >= self.capacity {
            sync(0, whole)?;
        } else if begin == end {
            // Nothing but the header has changed.
        } else if from < to {
            sync(from, to)?;
        } else {
            sync(from, whole)?;
            sync(0, to)?;
        }
        self.memory.sync(0, HEADER_WORDS)
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
mod tests {
    use std::collections::VecDeque;
    use std::path::PathBuf;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const BOOT: u64 = 1;

    fn file() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring");
        (folder, path)
    }

    fn payload(number: u64, length: usize) -> Vec<u8> {
        (0..length).map(|index| (number as usize + index) as u8).collect()
    }

    /// Everything from `position` on: numbers accepted at, and damaged stretches.
    fn read_all(ring: &Ring, mut position: u64) -> (Vec<u64>, usize) {
        let (mut numbers, mut damaged) = (Vec::new(), 0);
        loop {
            match ring.read(position) {
                Read::Record(record, end) => {
                    assert_eq!(record.payload, payload(record.accepted_at, record.payload.len()));
                    numbers.push(record.accepted_at);
                    position = end;
                }
                Read::Damaged(_, end) => {
                    damaged += 1;
                    position = end;
                }
                Read::Empty => return (numbers, damaged),
            }
        }
    }

    fn fill(ring: &Ring, from: u64, length: usize) -> u64 {
        let mut number = from;
        while ring.append(number, &payload(number, length), false).is_ok() {
            number += 1;
        }
        number
    }

    #[test]
    fn records_survive_and_what_is_acknowledged_is_gone() {
        let (_folder, path) = file();
        let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
        for number in 0..10 {
            ring.append(number, &payload(number, 200), false).unwrap();
        }
        let Read::Record(_, end) = ring.read(ring.tail()) else { panic!("a record") };
        ring.acknowledge(end);
        drop(ring);
        let ring = Ring::open(&path, BOOT).unwrap();
        assert_eq!(read_all(&ring, ring.tail()), ((1..10).collect(), 0));
        ring.acknowledge(ring.head());
        drop(ring);
        let ring = Ring::open(&path, BOOT).unwrap();
        assert_eq!((ring.used_bytes(), ring.read(ring.tail())), (0, Read::Empty));
    }

    #[test]
    fn a_full_ring_takes_no_more_until_something_is_acknowledged() {
        let (_folder, path) = file();
        let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
        let count = fill(&ring, 0, 200);
        assert_eq!(count, MIN_WORDS / record::words_of(200));
        assert_eq!(ring.append(count, &[], false), Ok(()), "a small one fits yet");
        assert_eq!(ring.append(count, &payload(count, 200), false), Err(NotAppended::Full));
        let Read::Record(_, end) = ring.read(0) else { panic!("a record") };
        ring.acknowledge(end);
        assert_eq!(ring.append(count, &payload(count, 150), false), Ok(()));
    }

    #[test]
    fn a_closed_ring_takes_no_more() {
        let (_folder, path) = file();
        let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
        ring.close();
        assert_eq!(ring.append(0, &[], false), Err(NotAppended::Closed));
    }

    #[test]
    fn a_record_that_was_not_published_is_found() {
        let (_folder, path) = file();
        let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
        ring.append(0, &payload(0, 50), false).unwrap();
        let published = ring.head();
        ring.append(1, &payload(1, 50), false).unwrap();
        // As if the process had died between the record and its publication.
        store_checked(ring.memory.words(), HEAD, published);
        drop(ring);
        let ring = Ring::open(&path, BOOT).unwrap();
        assert_eq!(read_all(&ring, 0), (vec![0, 1], 0));
    }

    #[test]
    fn a_torn_tail_is_dropped_and_written_over() {
        let (_folder, path) = file();
        let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
        ring.append(0, &payload(0, 50), false).unwrap();
        let published = ring.head();
        ring.append(1, &payload(1, 50), false).unwrap();
        store_checked(ring.memory.words(), HEAD, published);
        ring.data()[ring.offset(published) + 4].fetch_xor(1, Ordering::Relaxed);
        drop(ring);
        let ring = Ring::open(&path, BOOT).unwrap();
        assert_eq!(ring.head(), published);
        ring.append(2, &payload(2, 50), false).unwrap();
        assert_eq!(read_all(&ring, 0), (vec![0, 2], 0));
    }

    #[test]
    fn after_a_crash_of_the_host_the_whole_ring_is_searched() {
        let (_folder, path) = file();
        let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
        let count = fill(&ring, 0, 100);
        // The header's page was not written again; the tail says that nothing is acknowledged.
        store_checked(ring.memory.words(), HEAD, 0);
        drop(ring);
        let ring = Ring::open(&path, BOOT + 1).unwrap();
        assert_eq!(read_all(&ring, 0), ((0..count).collect(), 0));
    }

    #[test]
    fn a_damaged_header_costs_nothing_but_a_search() {
        let (_folder, path) = file();
        let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
        let count = fill(&ring, 0, 100);
        let Read::Record(_, end) = ring.read(0) else { panic!("a record") };
        ring.acknowledge(end);
        for slot in [HEAD, TAIL[0], TAIL[1]] {
            ring.memory.words()[slot].fetch_xor(1 << 40, Ordering::Relaxed);
        }
        drop(ring);
        let ring = Ring::open(&path, BOOT).unwrap();
        let (numbers, damaged) = read_all(&ring, ring.tail());
        assert_eq!((numbers, damaged), ((0..count).collect(), 0), "the acknowledged one too");
    }

    #[test]
    fn a_flipped_bit_costs_one_record() {
        for word in 0..record::words_of(80) as usize {
            let (_folder, path) = file();
            let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
            for number in 0..5 {
                ring.append(number, &payload(number, 80), false).unwrap();
            }
            let third = 2 * record::words_of(80) as usize;
            ring.data()[third + word].fetch_xor(1 << 17, Ordering::Relaxed);
            assert_eq!(read_all(&ring, 0), (vec![0, 1, 3, 4], 1), "word {word}");
        }
    }

    #[test]
    fn what_is_no_ring_of_this_version_is_refused() {
        let (_folder, path) = file();
        drop(Ring::create(&path, MIN_WORDS, BOOT).unwrap());
        let ring = Ring::open(&path, BOOT).unwrap();
        ring.memory.words()[1].store(FORMAT_VERSION + 1, Ordering::Relaxed);
        assert!(matches!(Ring::open(&path, BOOT), Err(RingError::Newer(2))));
        ring.memory.words()[0].store(0, Ordering::Relaxed);
        assert!(matches!(Ring::open(&path, BOOT), Err(RingError::Foreign)));
        for bytes in [&b""[..], b"garbage", &[7; 100_000]] {
            std::fs::write(&path, bytes).unwrap();
            assert!(matches!(Ring::open(&path, BOOT), Err(RingError::Foreign)));
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Append(usize),
        Read,
        Acknowledge,
        Reopen,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..3_000_usize).prop_map(Step::Append),
            4 => Just(Step::Read),
            2 => Just(Step::Acknowledge),
            1 => Just(Step::Reopen),
        ]
    }

    proptest! {
        /// The ring against a queue: whatever happens, what was appended and not acknowledged is
        /// read, in order, after every start.
        #[test]
        fn it_is_a_queue_that_survives(steps in proptest::collection::vec(step(), 1..200)) {
            let (_folder, path) = file();
            let mut ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
            let (mut number, mut position) = (0, 0);
            let (mut unread, mut unacknowledged) = (VecDeque::new(), VecDeque::new());
            for step in steps {
                match step {
                    Step::Append(length) => {
                        if ring.append(number, &payload(number, length), false).is_ok() {
                            unread.push_back((number, length));
                            number += 1;
                        }
                    }
                    Step::Read => match ring.read(position) {
                        Read::Record(record, end) => {
                            prop_assert_eq!(record.payload, payload(record.accepted_at, unread[0].1));
                            prop_assert_eq!(Some(record.accepted_at), unread.front().map(|u| u.0));
                            unacknowledged.extend(unread.pop_front());
                            position = end;
                        }
                        other => {
                            prop_assert_eq!(other, Read::Empty);
                            prop_assert!(unread.is_empty());
                        }
                    },
                    Step::Acknowledge => {
                        ring.acknowledge(position);
                        unacknowledged.clear();
                    }
                    Step::Reopen => {
                        drop(ring);
                        ring = Ring::open(&path, BOOT).unwrap();
                        position = ring.tail();
                        unacknowledged.append(&mut unread);
                        unread = std::mem::take(&mut unacknowledged);
                    }
                }
            }
        }

        #[test]
        fn no_file_makes_it_panic_or_hang(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 0..40),
            boot in 0..2_u64,
        ) {
            let (_folder, path) = file();
            let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
            fill(&ring, 0, 300);
            for (index, value) in damage {
                let words = ring.memory.words();
                words[index.index(words.len())].store(value, Ordering::Relaxed);
            }
            drop(ring);
            if let Ok(ring) = Ring::open(&path, boot) {
                let mut position = ring.tail();
                while let Read::Record(_, end) | Read::Damaged(_, end) = ring.read(position) {
                    prop_assert!(end > position);
                    position = end;
                }
            }
        }
    }
}
