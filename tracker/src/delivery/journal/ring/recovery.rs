//! Opens a ring after whatever has happened to its file: finds its capacity, its tail and its head.

use std::cmp::Ordering;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{self, AtomicBool, AtomicU64};

use super::header::{self, FORMAT_VERSION, HEADER_WORDS, Header, Origin, UNKNOWN_BOOT};
use super::{Ring, RingError};
use crate::delivery::journal::memory::Memory;
use crate::delivery::journal::record::{self, Found, Record};

struct Bounds {
    tail: u64,
    head: u64,
    /// The header did not say them, or cannot be believed.
    searched: bool,
}

impl Ring {
    /// Opens the ring in `file`, which the caller has locked, and finds its tail and head. `boot` identifies this
    /// boot of the host: a head from another boot may be older than the records on the disk.
    pub(super) fn recover(file: File, path: PathBuf, boot: u64) -> Result<Self, RingError> {
        let file_bytes = file.metadata()?.len();
        if file_bytes <= Self::file_bytes(0) {
            return Err(RingError::Foreign);
        }
        let memory = Memory::map(file)?;
        let header = Header::read(memory.words());
        if let Some(version) = header.version.filter(|version| *version > FORMAT_VERSION) {
            return Err(RingError::Newer(version));
        }
        let data = &memory.words()[HEADER_WORDS..];
        let capacity = capacity_of(&header, data);
        // A first page that is gone does not matter as long as there are records.
        let is_ours = header.version.is_some() || records(data, capacity).next().is_some();
        if capacity == 0 || !is_ours {
            return Err(RingError::Foreign);
        }
        let number = header.number.unwrap_or_else(rand::random);
        let mut ring = Self::new(memory, path, capacity, number);
        ring.origin = header.origin;
        ring.is_closed = AtomicBool::new(header.is_closed);
        ring.time_ms = AtomicU64::new(header.time_ms.unwrap_or(0));
        ring.is_whole = file_bytes == Self::file_bytes(capacity) && header::is_capacity(capacity);
        let head = header.head.filter(|_| header.boot == boot);
        let Bounds { tail, head, searched } = ring.bounds(header.tail, head);
        ring.start_at(tail, head);
        if searched {
            // Later starts find an intact header, and must not trust the ring either.
            let unknown = |origin: Origin| Origin { boot: UNKNOWN_BOOT, ..origin };
            ring.origin = ring.origin.map(unknown);
        }
        let same_boot = header.origin.is_some_and(|origin| origin.boot == boot);
        let receipted = header.receipted.filter(|receipted| *receipted < tail);
        ring.unreceipted = receipted.map(|receipted| (receipted, tail));
        ring.may_lack_records = !header.is_closed && (searched || !same_boot);
        ring.is_appendable = ring.is_whole
            && same_boot
            && !searched
            && !header.is_closed
            && header.number.is_some()
            && ring.unreceipted.is_none();
        ring.write_header();
        // Only now: if this start is cut off before, the next one must not believe the old head.
        header::write_boot(ring.memory.words(), boot);
        Ok(ring)
    }

    /// The tail and the head, from the header; if that is missing or cannot be true, from the records that
    /// are there.
    fn bounds(&self, tail: Option<u64>, head: Option<u64>) -> Bounds {
        let mut searched = false;
        let (tail, mut head) = match (tail, head) {
            (Some(tail), Some(head)) if (tail..=tail + self.capacity).contains(&head) => {
                (tail, head)
            }
            (tail, _) => {
                searched = true;
                self.search(tail)
            }
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
        Bounds { tail, head, searched }
    }

    /// Searches the whole ring for records at or after `tail`. Returns the tail and the end of the last.
    fn search(&self, tail: Option<u64>) -> (u64, u64) {
        let from = tail.unwrap_or(0);
        let mut first = None::<u64>;
        let mut end = from;
        for (position, record) in records(self.data(), self.capacity) {
            if position >= from {
                first = Some(first.map_or(position, |first| first.min(position)));
                end = end.max(position + record::words_of(record.payload.len()));
            }
        }
        // A tail may be older than the records: a header's page that the host wrote before it crashed, or the
        // copy in the last page. Without a tail, all records of the last lap are replayed. Message ids make
        // both harmless.
        let tail = tail.or(first).unwrap_or(0);
        (tail.max(end.saturating_sub(self.capacity)), end)
    }
}

/// The capacity in words of a ring with this header, whose file holds `data` behind it.
fn capacity_of(header: &Header, data: &[AtomicU64]) -> u64 {
    let by_length = data.len() as u64;
    let claimed = header.claimed_capacity;
    match header.capacity {
        Some(capacity) => capacity,
        // Earlier versions wrote it without a complement. Either it is damaged, or the file is shortened: the
        // records know, because each is at its position modulo the capacity.
        None if header::is_capacity(claimed) && claimed != by_length => {
            let evidence = |capacity| records(data, capacity).count();
            match evidence(claimed).cmp(&evidence(by_length)) {
                Ordering::Greater => claimed,
                Ordering::Less => by_length,
                // All are in the first lap, where nothing depends on the capacity.
                Ordering::Equal if header::is_capacity(by_length) => by_length,
                Ordering::Equal => claimed,
            }
        }
        None => by_length,
    }
}

/// All records that are where they belong in a ring of this capacity, and their positions, in the order of the
/// file. Those of the previous lap, too.
fn records(data: &[AtomicU64], capacity: u64) -> impl Iterator<Item = (u64, Record)> {
    (0..data.len().saturating_sub(1)).filter_map(move |offset| {
        let position = data[offset + 1].load(atomic::Ordering::Relaxed);
        if position.checked_rem(capacity) != Some(offset as u64) {
            return None;
        }
        match record::read(&data[offset..], position) {
            Found::Record(record) => Some((position, record)),
            _ => None,
        }
    })
}
