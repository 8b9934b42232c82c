//! The ring as it was before the header had a copy in the last page: what an upgrade finds, and a roll-back
//! starts. It takes the capacity from the file's length, and every word of a lap for records.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::record::{self, Found};
use super::{HEAD, IDENTITY, TAIL, read_words, write_words};

const HEADER: usize = 512;
const BOOT_SLOT: usize = 192;

pub struct EarlierRing {
    words: Vec<AtomicU64>,
    capacity: u64,
    pub tail: u64,
    pub head: u64,
}

impl EarlierRing {
    pub fn create(path: &Path, capacity: u64, boot: u64) {
        let mut words = vec![0; HEADER + usize::try_from(capacity).unwrap()];
        words[BOOT_SLOT] = boot;
        words[2] = capacity;
        for at in IDENTITY {
            words[at] = u64::from_le_bytes(*b"adtrkJNL");
            words[at + 1] = 1;
        }
        for slot in [TAIL[0], TAIL[1], HEAD] {
            words[slot + 1] = !0;
        }
        write_words(path, &words);
    }

    /// None if it refuses the file.
    pub fn open(path: &Path, boot: u64) -> Option<Self> {
        let words: Vec<AtomicU64> = read_words(path).into_iter().map(AtomicU64::new).collect();
        let load = |at: usize| words[at].load(Ordering::Relaxed);
        let is_ours = |at| load(at) == u64::from_le_bytes(*b"adtrkJNL") && load(at + 1) == 1;
        if !IDENTITY.into_iter().any(is_ours) {
            return None;
        }
        let checked = |slot: usize| (load(slot + 1) == !load(slot)).then(|| load(slot));
        let tail = TAIL.into_iter().filter_map(checked).max();
        let head = checked(HEAD).filter(|_| load(BOOT_SLOT) == boot);
        let capacity = (words.len() - HEADER) as u64;
        let mut ring = Self { capacity, tail: 0, head: 0, words };
        (ring.tail, ring.head) = match (tail, head) {
            (Some(tail), Some(head)) if (tail..=tail + capacity).contains(&head) => (tail, head),
            _ => ring.search(tail),
        };
        loop {
            let lap_end = ring.head + capacity - ring.head % capacity;
            match ring.look(ring.head) {
                Found::Record(record) => ring.head += record::words_of(record.payload.len()),
                Found::Skip if matches!(ring.look(lap_end), Found::Record(_)) => {
                    ring.head = lap_end;
                }
                _ => break,
            }
        }
        ring.words[2].store(capacity, Ordering::Relaxed);
        ring.words[BOOT_SLOT].store(boot, Ordering::Relaxed);
        Some(ring)
    }

    pub fn close(self, path: &Path) {
        for (slot, value) in [(TAIL[0], self.tail), (TAIL[1], self.tail), (HEAD, self.head)] {
            self.words[slot].store(value, Ordering::Relaxed);
            self.words[slot + 1].store(!value, Ordering::Relaxed);
        }
        let words: Vec<u64> = self.words.into_iter().map(AtomicU64::into_inner).collect();
        write_words(path, &words);
    }

    /// Returns whether there is room.
    pub fn append(&mut self, accepted_at: u64, payload: &[u8]) -> bool {
        let size = record::words_of(payload.len());
        let left = self.capacity - self.head % self.capacity;
        let skipped = if size > left { left } else { 0 };
        let position = self.head + skipped;
        if position + size - self.tail > self.capacity {
            return false;
        }
        if skipped > 0 {
            record::write_skip(&self.words[self.at(self.head)..], self.head);
        }
        let at = self.at(position);
        let words = &self.words[at..at + usize::try_from(size).unwrap()];
        record::write(words, position, accepted_at, payload);
        self.head = position + size;
        true
    }

    /// Everything that is not acknowledged: the records' numbers and ends. None if something is damaged.
    pub fn read_all(&self) -> Option<Vec<(u64, u64)>> {
        let (mut position, mut found) = (self.tail, Vec::new());
        while position < self.head {
            match self.look(position) {
                Found::Record(record) => {
                    position += record::words_of(record.payload.len());
                    found.push((record.accepted_at, position));
                }
                Found::Skip => position += self.capacity - position % self.capacity,
                Found::Damaged | Found::Nothing => return None,
            }
        }
        Some(found)
    }

    fn search(&self, tail: Option<u64>) -> (u64, u64) {
        let from = tail.unwrap_or(0);
        let newest = tail.map_or(u64::MAX, |tail| tail + self.capacity);
        let (mut first, mut end) = (None::<u64>, from);
        for at in HEADER..self.words.len() - 1 {
            let position = self.words[at + 1].load(Ordering::Relaxed);
            let belongs = position % self.capacity == (at - HEADER) as u64
                && (from..newest).contains(&position);
            if belongs && let Found::Record(record) = record::read(&self.words[at..], position) {
                first = Some(first.map_or(position, |first| first.min(position)));
                end = end.max(position + record::words_of(record.payload.len()));
            }
        }
        let oldest = end.saturating_sub(self.capacity);
        (tail.unwrap_or_else(|| first.unwrap_or(0).max(oldest)), end)
    }

    fn look(&self, position: u64) -> Found {
        record::read(&self.words[self.at(position)..], position)
    }

    fn at(&self, position: u64) -> usize {
        HEADER + usize::try_from(position % self.capacity).unwrap()
    }
}
