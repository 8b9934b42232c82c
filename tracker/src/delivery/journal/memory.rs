//! Memory that outlives the process: a file, mapped, as atomic words.
//!
//! This is the only `unsafe` code of the tracker. Its proof: the words stand in one allocation (a
//! mapping, or a box) that lives as long as the value, is aligned to a word, and is never resized.
//! They are reached as `AtomicU64` only, so that no access from several threads is a data race, and
//! the bytes of a damaged file are no worse than wrong numbers. `MmapRaw` never makes a reference
//! into the mapping itself. Another process that truncated the file would make an access fault:
//! the folder's lock keeps other trackers out.

#![allow(unsafe_code, reason = "see the module's documentation")]

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;

use memmap2::MmapRaw;

/// Bytes of a word.
pub(super) const WORD: u64 = 8;

/// A mapped file as words.
#[derive(Debug)]
pub(super) struct Memory {
    mapping: MmapRaw,
}

impl Memory {
    /// Maps the whole of `file`, whose length is a multiple of a word.
    pub(super) fn map(file: &File) -> io::Result<Self> {
        let mapping = MmapRaw::map_raw(file)?;
        if mapping.len() % size_of::<AtomicU64>() != 0 {
            return Err(io::Error::other("the file's length is no multiple of 8"));
        }
        Ok(Self { mapping })
    }

    /// The words.
    pub(super) fn words(&self) -> &[AtomicU64] {
        let words = self.mapping.len() / size_of::<AtomicU64>();
        // SAFETY: the mapping is page-aligned, `words` whole words long, writable, and lives as
        // long as `self`, which the slice borrows. Everybody reaches it as atomics.
        unsafe { std::slice::from_raw_parts(self.mapping.as_ptr().cast::<AtomicU64>(), words) }
    }

    /// Waits until the words from `first` on, `count` of them, are on the disk.
    pub(super) fn sync(&self, first: usize, count: usize) -> io::Result<()> {
        let word = size_of::<AtomicU64>();
        self.mapping.flush_range(first * word, count * word)
    }
}
