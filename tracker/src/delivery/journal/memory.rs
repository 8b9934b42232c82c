//! Memory that outlives the process: a mapped file, as atomic words.
//!
//! This module and `fault` are the only `unsafe` code of the tracker. Why it is sound: the words are in one
//! mapping that lives as long as the value, is aligned to a word and never changes its address or size. They
//! are accessed only as `AtomicU64`, so that accesses from several threads are never a data race, and the
//! bytes of a damaged file are nothing worse than wrong numbers. `MmapRaw` itself never makes a reference into
//! the mapping. What is mapped may change under the words: `fault` puts zeros where the file cannot be read,
//! and [`Memory::remap`] another file.

#![allow(unsafe_code, reason = "see the module's documentation")]

mod fault;

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::{MmapOptions, MmapRaw};

use fault::Guard;

/// The size of a word in bytes.
pub(super) const WORD: u64 = 8;

/// A mapped file as words.
#[derive(Debug)]
pub(super) struct Memory {
    // Dropped in this order: see `Guard::new`.
    guard: Guard,
    mapping: MmapRaw,
    /// Kept open, so that its lock is held as long as it is mapped.
    file: Mutex<File>,
}

impl Memory {
    /// Maps the whole words of `file`. Fails if there are none.
    pub(super) fn map(file: File) -> io::Result<Self> {
        let bytes = usize::try_from(file.metadata()?.len() / WORD * WORD);
        let bytes = bytes.map_err(|_| io::Error::other("the file is too large to be mapped"))?;
        let mapping = MmapOptions::new().len(bytes).map_raw(&file)?;
        let guard = Guard::new(mapping.as_mut_ptr(), bytes, &file)?;
        Ok(Self { guard, mapping, file: Mutex::new(file) })
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        let words = self.mapping.len() / size_of::<AtomicU64>();
        // SAFETY: the mapping is page-aligned, `words` whole words long, writable, and lives as
        // long as `self`, which the slice borrows. All accesses are atomic.
        unsafe { std::slice::from_raw_parts(self.mapping.as_ptr().cast::<AtomicU64>(), words) }
    }

    /// The size of the mapping in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.mapping.len() as u64
    }

    /// Syncs `count` words, from `first` on, to disk.
    pub(super) fn sync(&self, first: usize, count: usize) -> io::Result<()> {
        let word = size_of::<AtomicU64>();
        self.mapping.flush_range(first * word, count * word)
    }

    /// The mapped file.
    pub(super) fn file(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether zeros stand in for parts of the file that could not be read or written.
    pub(super) fn has_replaced_pages(&self) -> bool {
        self.guard.has_replaced_pages()
    }

    /// Maps another file, or the same again, which must be at least as long as the mapping. Threads that access
    /// the words meanwhile find the old content or the new.
    pub(super) fn remap(&self, file: File) -> io::Result<()> {
        let mut mapped = self.file();
        self.guard.remap(&file)?;
        *mapped = file;
        Ok(())
    }
}
