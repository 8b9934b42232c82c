//! What a ring's file says about itself, and where.
//!
//! ```text
//! first page     word 0, 256    magic number, format version
//!                word 2, 258    capacity
//!                word 64        head
//!                word 128, 136  tail
//!                word 192       the boot of the host that wrote the head
//!                word 144       tail, as only versions with receipts write it
//!                word 200       the ring's own number
//!                word 208       the journal that the ring belongs to
//!                word 210       the boot of the host in which the ring was made
//!                word 212       1 if the journal is closed: the ring takes no more records
//!                word 216       the journal's time, milliseconds since the Unix epoch
//! last page      word 8         magic number, format version, capacity, tail
//! ```
//!
//! Capacity, head, tail and number are each followed by their complement, so that damage is recognized. The last page
//! is a copy of what the first one says, for the case that this is destroyed; the head can be searched for.
//!
//! The copy is part of the format 1 without a new number: versions before it took the last page for records.
//! To them, this version's records skip the end of every lap, which the format has always allowed. They write
//! over the copy, which is then no copy, and what they have left there must be acknowledged before it is written
//! again (`Ring::copy_from`). They leave the complement of word 2 zero, and word 200: a ring without a number gets
//! one. It is random, so that two files with the same number are copies of one ring.
//!
//! Nor do earlier versions know words 144 and 208 to 217. They may append to a ring that has them, and deliver from
//! it: word 144 then lags behind the tail, which says what was delivered without a receipt.

use std::sync::atomic::{AtomicU64, Ordering};

/// `adtrkJNL`.
const MAGIC: u64 = u64::from_le_bytes(*b"adtrkJNL");
/// The file format that this version writes.
pub(super) const FORMAT_VERSION: u64 = 1;
/// The size of the first page, which is the header.
pub(super) const HEADER_WORDS: usize = 512;
/// The size of a page. A capacity is a multiple of it, and the last page holds the copy.
pub const PAGE_WORDS: u64 = 512;
/// Where the copy is in the last page. The words before it are left for the mark of a skip to the lap's end,
/// which may be the last thing before the copy.
const COPY: usize = 8;
/// Each of these is on a cache line of its own, so that producer and consumer do not slow each other down.
const HEAD: usize = 64;
const TAIL: [usize; 2] = [128, 136];
const BOOT: usize = 192;
const RECEIPTED: usize = 144;
const NUMBER: usize = 200;
const JOURNAL: usize = 208;
const MADE_IN: usize = 210;
const CLOSED: usize = 212;
const TIME: usize = 216;
/// Magic number and version, stored twice, so that a flipped bit does not make the file foreign.
const IDENTITY: [usize; 2] = [0, 256];
const CAPACITY: [usize; 2] = [2, 258];

/// The smallest ring, in words: 64 KiB.
pub const MIN_WORDS: u64 = 8_192;
/// Longer than any ring and any position: a number above it is damage.
const MAX_WORDS: u64 = 1 << 48;

/// What a file says about itself. What is missing is damaged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The version of the format, if any copy names one.
    pub(super) version: Option<u64>,
    /// The capacity in words.
    pub(super) capacity: Option<u64>,
    /// The capacity as earlier versions wrote it: nothing tells whether it is damaged.
    pub(super) claimed_capacity: u64,
    /// The newest tail that any copy has.
    pub(super) tail: Option<u64>,
    pub(super) head: Option<u64>,
    pub(super) boot: u64,
    pub(super) number: Option<u64>,
    /// The journal that the ring belongs to, and the boot in which the ring was made.
    pub(super) origin: Option<Origin>,
    /// The tail of the last version that writes receipts.
    pub(super) receipted: Option<u64>,
    pub(super) is_closed: bool,
    /// The journal's time, in milliseconds since the Unix epoch.
    pub(super) time_ms: Option<u64>,
}

/// Stands for the boot in which a ring was made once its bounds had to be searched for: no boot has this number.
pub(super) const UNKNOWN_BOOT: u64 = 0;

/// Where a ring comes from. Rings of versions without receipts have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The journal's id.
    pub journal: u64,
    /// The boot of the host in which the ring was made.
    pub boot: u64,
}

impl Header {
    /// Reads the header of a ring from the words of its file, at least [`HEADER_WORDS`].
    pub(super) fn read(words: &[AtomicU64]) -> Self {
        let first_page = CAPACITY
            .into_iter()
            .filter_map(|slot| load_checked(words, slot))
            .find(|capacity| is_capacity(*capacity));
        let copy = match first_page {
            Some(capacity) => HeaderCopy::read(words, capacity),
            None => HeaderCopy::search(words),
        };
        // An intact copy of a version that can be read outweighs a damaged one. The last page may be older
        // than a later version's first page, so it counts only if there is nothing else.
        let version = IDENTITY.into_iter().filter_map(|at| identity(words, at)).min();
        let tails = TAIL.into_iter().filter_map(|slot| load_checked(words, slot));
        Self {
            version: version.or(copy.as_ref().map(|copy| copy.version)),
            capacity: first_page.or(copy.as_ref().map(|copy| copy.capacity)),
            claimed_capacity: load(words, CAPACITY[0]),
            tail: tails
                .chain(copy.and_then(|copy| copy.tail))
                .filter(|tail| *tail < MAX_WORDS)
                .max(),
            head: load_checked(words, HEAD).filter(|head| *head < MAX_WORDS),
            boot: load(words, BOOT),
            number: load_checked(words, NUMBER),
            origin: load_checked(words, JOURNAL)
                .zip(load_checked(words, MADE_IN))
                .map(|(journal, boot)| Origin { journal, boot }),
            receipted: load_checked(words, RECEIPTED).filter(|tail| *tail < MAX_WORDS),
            is_closed: load_checked(words, CLOSED) == Some(1),
            time_ms: load_checked(words, TIME),
        }
    }
}

/// The copy in the last page.
struct HeaderCopy {
    version: u64,
    capacity: u64,
    tail: Option<u64>,
}

impl HeaderCopy {
    /// The copy of a ring of this capacity.
    fn read(words: &[AtomicU64], capacity: u64) -> Option<Self> {
        let start = usize::try_from(HEADER_WORDS as u64 + capacity - PAGE_WORDS).ok()?;
        let copy = words.get(start + COPY..start + COPY + 6)?;
        let stored = load_checked(copy, 2).filter(|stored| *stored == capacity)?;
        Some(Self { version: identity(copy, 0)?, capacity: stored, tail: load_checked(copy, 4) })
    }

    /// The first page is gone, and with it the capacity: looks at every page whether it is the last one.
    fn search(words: &[AtomicU64]) -> Option<Self> {
        let pages = words.len() as u64 / PAGE_WORDS;
        let smallest = MIN_WORDS / PAGE_WORDS;
        (smallest..pages).rev().find_map(|pages| Self::read(words, pages * PAGE_WORDS))
    }
}

/// Whether a ring of this version or an earlier one may have this capacity.
pub(super) fn is_capacity(words: u64) -> bool {
    words.is_multiple_of(PAGE_WORDS) && (MIN_WORDS..MAX_WORDS).contains(&words)
}

/// Writes all that the first page says, except the boot.
pub(super) fn write(words: &[AtomicU64], capacity: u64, tail: u64, head: u64) {
    for at in IDENTITY {
        store(words, at, MAGIC);
        store(words, at + 1, FORMAT_VERSION);
    }
    for slot in CAPACITY {
        store_checked(words, slot, capacity);
    }
    write_tail(words, tail);
    write_head(words, head);
}

/// Names the boot of the host. A header whose head is from another boot may be older than the records.
pub(super) fn write_boot(words: &[AtomicU64], boot: u64) {
    words[BOOT].store(boot, Ordering::Release);
}

/// Writes the ring's own number.
pub(super) fn write_number(words: &[AtomicU64], number: u64) {
    store_checked(words, NUMBER, number);
}

/// Writes where the ring comes from.
pub(super) fn write_origin(words: &[AtomicU64], origin: Origin) {
    store_checked(words, JOURNAL, origin.journal);
    store_checked(words, MADE_IN, origin.boot);
}

/// Notes that the journal is closed.
pub(super) fn write_closed(words: &[AtomicU64]) {
    store_checked(words, CLOSED, 1);
}

/// Writes the journal's time.
pub(super) fn write_time(words: &[AtomicU64], time_ms: u64) {
    store_checked(words, TIME, time_ms);
}

pub(super) fn write_head(words: &[AtomicU64], head: u64) {
    store_checked(words, HEAD, head);
}

pub(super) fn write_tail(words: &[AtomicU64], tail: u64) {
    for slot in TAIL {
        store_checked(words, slot, tail);
    }
    store_checked(words, RECEIPTED, tail);
}

/// Writes the copy. `last_page` is the ring's last page.
pub(super) fn write_copy(last_page: &[AtomicU64], capacity: u64, tail: u64) {
    let copy = &last_page[COPY..];
    store(copy, 0, MAGIC);
    store(copy, 1, FORMAT_VERSION);
    store_checked(copy, 2, capacity);
    store_checked(copy, 4, tail);
}

fn identity(words: &[AtomicU64], at: usize) -> Option<u64> {
    (load(words, at) == MAGIC).then(|| load(words, at + 1)).filter(|version| *version > 0)
}

fn store(words: &[AtomicU64], at: usize, value: u64) {
    words[at].store(value, Ordering::Relaxed);
}

fn load(words: &[AtomicU64], at: usize) -> u64 {
    words[at].load(Ordering::Relaxed)
}

fn store_checked(words: &[AtomicU64], slot: usize, value: u64) {
    store(words, slot, value);
    store(words, slot + 1, !value);
}

fn load_checked(words: &[AtomicU64], slot: usize) -> Option<u64> {
    let value = load(words, slot);
    (load(words, slot + 1) == !value).then_some(value)
}
