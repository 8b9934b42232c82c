//! Memory that outlives the process: a mapped file, as atomic words.
//!
//! This is the only `unsafe` code of the tracker. Why it is sound: the words are in one mapping that lives as
//! long as the value, is aligned to a word and is never resized. They are accessed only as `AtomicU64`, so
//! that accesses from several threads are never a data race, and the bytes of a damaged file yield wrong
//! values at worst. `MmapRaw` itself never makes a reference into the mapping. If another process
//! truncated the file, accesses would fault; the folder's lock keeps other trackers out.

#![allow(unsafe_code, reason = "see the module's documentation")]

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;

use memmap2::MmapRaw;

/// The size of a word in bytes.
pub(super) const WORD: u64 = 8;

/// A mapped file as words.
#[derive(Debug)]
pub(super) struct Memory {
    mapping: MmapRaw,
}

impl Memory {
    /// Maps the whole of `file`. Fails if its length is not a multiple of a word.
    pub(super) fn map(file: &File) -> io::Result<Self> {
        let mapping = MmapRaw::map_raw(file)?;
        if mapping.len() % size_of::<AtomicU64>() != 0 {
            return Err(io::Error::other("the file's length is not a multiple of 8"));
        }
        Ok(Self { mapping })
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        let words = self.mapping.len() / size_of::<AtomicU64>();
        // SAFETY: the mapping is page-aligned, `words` whole words long, writable, and lives as
        // long as `self`, which the slice borrows. All accesses are atomic.
        unsafe { std::slice::from_raw_parts(self.mapping.as_ptr().cast::<AtomicU64>(), words) }
    }

    /// Syncs `count` words, from `first` on, to disk.
    pub(super) fn sync(&self, first: usize, count: usize) -> io::Result<()> {
        let word = size_of::<AtomicU64>();
        self.mapping.flush_range(first * word, count * word)
    }
}
