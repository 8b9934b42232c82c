//! A ring: a fixed-size file used as a circular log.
//!
//! One producer appends at the head, and one consumer reads behind it. The tail moves when what was read is
//! acknowledged. Head and tail are positions: words ever written, which only grow. Both are in the file's first
//! page; `header` has the layout, `recovery` finds them again after damage, `home` looks after the file.

mod header;
mod home;
mod recovery;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use rustix::io::Errno;

use super::memory::{Memory, WORD};
use super::record::{self, Found, Record};

use header::{FORMAT_VERSION, HEADER_WORDS};
pub(super) use header::{MIN_WORDS, Origin, PAGE_WORDS};
pub(super) use home::{Trouble, open_locked, remove_unused, rename_aside, set_aside};

/// Why a file cannot be opened as a ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// A system call failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Another process has it open.
    #[error("is used by another process; stop that one")]
    InUse,
    /// It is a folder, a pipe or a device.
    #[error("is not a regular file")]
    NotAFile,
    /// It is another name of a ring that is already open.
    #[error("is another name of a ring's file")]
    SameFile,
    /// It has the same number as another ring.
    #[error("is a copy of {0:?}")]
    Copy(PathBuf),
    /// It is not a journal file, or so damaged that it cannot be told from another file.
    #[error("is not a journal file of adtrack")]
    Foreign,
    /// A later version of adtrack wrote it.
    #[error(
        "has the journal format {0}; this version reads up to {FORMAT_VERSION}. Start the version \
         that wrote it, and let it drain"
    )]
    Newer(u64),
}

impl RingError {
    /// Whether nothing in the journal can be read or written at this path, and nothing else keeps the tracker from
    /// starting.
    pub(super) fn is_about_path(&self) -> bool {
        match self {
            Self::NotAFile | Self::SameFile | Self::Copy(_) | Self::Foreign => true,
            Self::Io(error) => matches!(
                Errno::from_io_error(error),
                Some(
                    Errno::NOENT
                        | Errno::ACCESS
                        | Errno::PERM
                        | Errno::LOOP
                        | Errno::NOTDIR
                        | Errno::ISDIR
                        | Errno::NXIO
                        | Errno::NODEV
                        | Errno::TXTBSY
                        | Errno::IO
                )
            ),
            Self::InUse | Self::Newer(_) => false,
        }
    }
}

#[derive(Debug)]
pub(super) struct Ring {
    memory: Memory,
    /// Its own number, the same in every copy of its file.
    number: u64,
    origin: Option<Origin>,
    /// What an earlier version delivered from it, without receipts, since this version last had it open.
    unreceipted: Option<(u64, u64)>,
    /// Records that were accepted may be missing behind the head: the host crashed, or the head was searched for.
    may_lack_records: bool,
    /// No position was given to a record that is lost, so the ring may take more.
    is_appendable: bool,
    is_closed: AtomicBool,
    /// The journal's time when the ring was opened, or as written since.
    time_ms: AtomicU64,
    capacity: u64,
    /// The part of a lap that takes records: what follows is the copy of the header.
    usable: u64,
    /// Where the records end in the file, in words: less than the capacity says if the file is shortened.
    data_end: usize,
    /// The file is as long as it should be. Others are only read.
    is_whole: bool,
    /// Once this position is acknowledged, the last page holds no record of an earlier version.
    copy_from: u64,
    /// Where the file is expected.
    path: Mutex<PathBuf>,
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
    /// Why the ring takes no records at all.
    refusal: Option<NotAppended>,
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
    /// It has no room for it, or its file is lost.
    Full,
    /// Another producer is appending.
    Busy,
    /// It is closed.
    Closed,
}

impl Ring {
    fn new(memory: Memory, path: PathBuf, capacity: u64, number: u64) -> Self {
        let data_words = memory.words().len().saturating_sub(HEADER_WORDS).min(words(capacity));
        Self {
            memory,
            number,
            origin: None,
            unreceipted: None,
            may_lack_records: false,
            is_appendable: true,
            is_closed: AtomicBool::new(false),
            time_ms: AtomicU64::new(0),
            capacity,
            usable: capacity.saturating_sub(PAGE_WORDS),
            data_end: HEADER_WORDS + data_words,
            is_whole: true,
            copy_from: 0,
            path: Mutex::new(path),
            producer: Mutex::new(Producer { head: 0, refusal: None }),
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
        }
    }

    /// Continues a ring whose records from `tail` to `head` are not acknowledged.
    fn start_at(&mut self, tail: u64, head: u64) {
        let lap = head - head % self.capacity;
        // Only versions that do not know the copy let a head into the last page.
        self.copy_from = if head - lap > self.usable { lap + self.capacity } else { lap };
        self.producer = Mutex::new(Producer { head, refusal: None });
        self.head = AtomicU64::new(head);
        self.tail = AtomicU64::new(tail);
    }

    /// Writes the whole header again, so that the next damage meets an intact one.
    fn write_header(&self) {
        header::write(self.memory.words(), self.capacity, self.tail(), self.head());
        header::write_number(self.memory.words(), self.number);
        if let Some(origin) = self.origin {
            header::write_origin(self.memory.words(), origin);
        }
        if self.is_closed.load(Ordering::Relaxed) {
            header::write_closed(self.memory.words());
        }
        header::write_time(self.memory.words(), self.time_ms.load(Ordering::Relaxed));
        self.write_copy(self.tail());
    }

    /// Notes in the file that the journal is closed, so that no start appends to the ring.
    pub(super) fn mark_closed(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        header::write_closed(self.memory.words());
    }

    /// Notes the journal's time in the file.
    pub(super) fn write_time(&self, time_ms: u64) {
        self.time_ms.store(time_ms, Ordering::Relaxed);
        header::write_time(self.memory.words(), time_ms);
    }

    /// The journal's time as noted last, in milliseconds since the Unix epoch; 0 if it never was.
    pub(super) fn time_ms(&self) -> u64 {
        self.time_ms.load(Ordering::Relaxed)
    }

    /// The journal that the ring belongs to; none if a version without receipts made it.
    pub(super) fn journal(&self) -> Option<u64> {
        self.origin.map(|origin| origin.journal)
    }

    /// Whether a start may append to it.
    pub(super) fn is_appendable(&self) -> bool {
        self.is_appendable
    }

    /// What an earlier version delivered from it, without receipts, since this version last had it open.
    pub(super) fn unreceipted(&self) -> Option<(u64, u64)> {
        self.unreceipted
    }

    /// Where records may be missing behind the head: at most up to here.
    pub(super) fn may_lack(&self) -> Option<(u64, u64)> {
        let (tail, head) = (self.tail(), self.head());
        (self.origin.is_some() && self.may_lack_records).then_some((head, tail + self.capacity))
    }

    fn write_copy(&self, tail: u64) {
        if self.is_whole && tail >= self.copy_from {
            let last_page = &self.data()[words(self.usable)..];
            header::write_copy(last_page, self.capacity, tail);
        }
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
        self.append_as(self.lock_producer(), accepted_at, payload, sync)
    }

    fn lock_producer(&self) -> MutexGuard<'_, Producer> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append_as(
        &self,
        mut producer: MutexGuard<'_, Producer>,
        accepted_at: u64,
        payload: &[u8],
        sync: bool,
    ) -> Result<(), NotAppended> {
        if let Some(refusal) = producer.refusal {
            return Err(refusal);
        }
        let data = self.data();
        let begin = producer.head;
        let size = record::words_of(payload.len());
        let mut offset = begin % self.capacity;
        let mut position = begin;
        if offset + size > self.usable {
            if size > self.usable {
                return Err(NotAppended::Full);
            }
            position = begin + self.capacity - offset;
            offset = 0;
        }
        let end = position + size;
        if end - self.tail.load(Ordering::Acquire) > self.capacity {
            return Err(NotAppended::Full);
        }
        if position > begin {
            record::write_skip(&data[self.offset(begin)..], begin);
        }
        let offset = words(offset);
        record::write(&data[offset..offset + words(size)], position, accepted_at, payload);
        // Before it is published: an event that is not on disk is not accepted. The header may lag behind
        // on disk, because the head is searched for after a crash of the host.
        if sync && let Err(error) = self.sync_data(begin, end) {
            tracing::error!(%error, "the journal cannot be synced to the disk; the event is refused");
            return Err(NotAppended::Full);
        }
        producer.head = end;
        header::write_head(self.memory.words(), end);
        self.head.store(end, Ordering::Release);
        Ok(())
    }

    /// Closes the ring to new records. A record that is being appended is stored when this returns.
    pub(super) fn close(&self) {
        self.lock_producer().refusal = Some(NotAppended::Closed);
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
        header::write_tail(self.memory.words(), position);
        self.write_copy(position);
        self.tail.store(position, Ordering::Release);
    }

    /// The number that only this ring and copies of its file have.
    pub(super) fn number(&self) -> u64 {
        self.number
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

    /// When the first record that is not acknowledged was accepted, in milliseconds since the Unix epoch. Any
    /// thread may ask.
    pub(super) fn oldest_accepted_at(&self) -> Option<u64> {
        let mut position = self.tail();
        loop {
            match self.read(position) {
                Read::Record(record, _) => return Some(record.accepted_at),
                Read::Empty => return None,
                // Damaged, or acknowledged and overwritten meanwhile; then the tail has moved on.
                Read::Damaged(begin, end) => {
                    let tail = self.tail();
                    position = if tail > begin { tail } else { end };
                }
            }
        }
    }

    /// Bytes of records that are not acknowledged.
    pub(super) fn used_bytes(&self) -> u64 {
        self.head().saturating_sub(self.tail()) * WORD
    }

    /// Whether its file is not shortened.
    #[cfg(test)]
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
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
        self.stretches(begin, end)
            .into_iter()
            .filter(|(from, to)| from < to)
            .try_for_each(|(from, to)| self.memory.sync(HEADER_WORDS + from, to - from))
    }

    /// The parts of the file from one position to another: begin and end, as offsets behind the header.
    fn stretches(&self, begin: u64, end: u64) -> [(usize, usize); 2] {
        let whole = self.data_end - HEADER_WORDS;
        let (from, to) = (self.offset(begin).min(whole), self.offset(end).min(whole));
        if end - begin >= self.capacity {
            [(0, whole), (whole, whole)]
        } else if from <= to {
            [(from, to), (to, to)]
        } else {
            [(from, whole), (0, to)]
        }
    }

    fn look(&self, position: u64) -> Found {
        let offset = position % self.capacity;
        if self.capacity - offset < record::HEADER_WORDS {
            return Found::Skip;
        }
        match self.data().get(words(offset)..) {
            Some(words) if words.len() as u64 >= record::HEADER_WORDS => {
                record::read(words, position)
            }
            // The file is shortened.
            _ => Found::Nothing,
        }
    }

    fn data(&self) -> &[AtomicU64] {
        &self.memory.words()[HEADER_WORDS..self.data_end]
    }

    fn offset(&self, position: u64) -> usize {
        words(position % self.capacity)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "positions in a mapping, or more than any mapping"
)]
fn words(count: u64) -> usize {
    count as usize
}

#[cfg(test)]
mod tests;
