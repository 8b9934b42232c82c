//! Reads what can still be recognized in a file that cannot be opened as a ring.
//!
//! Without a header nothing says which events are delivered, so these are all whose checksum is right: up to a
//! whole ring, delivered ones among them. An event that is delivered twice becomes the same row.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::folder;
use super::memory::Memory;
use super::record::{self, Found};
use super::ring::{self, PAGE_WORDS, RingError};

/// The events of a damaged file.
#[derive(Debug)]
pub struct Salvage {
    path: PathBuf,
    memory: Memory,
    /// The word to look at next.
    next: usize,
}

impl Salvage {
    /// The files in `folder` that were set aside.
    pub fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
        folder::damaged_files(folder)
    }

    /// Opens and locks a file. None if it is too short for any event.
    pub fn open(path: &Path) -> Result<Option<Self>, RingError> {
        let file: File = ring::open_locked(path)?;
        if file.metadata()?.len() < super::memory::WORD {
            return Ok(None);
        }
        Ok(Some(Self { path: path.to_owned(), memory: Memory::map(file)?, next: 0 }))
    }

    /// Removes the file, whose events are all saved.
    pub fn remove(self) -> std::io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

impl Iterator for Salvage {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let words = self.memory.words();
        while self.next + 1 < words.len() {
            let at = self.next;
            self.next += 1;
            let position = words[at + 1].load(Ordering::Relaxed);
            // A record is at its position modulo the capacity, which is whole pages, behind the header's page.
            // The exact capacity does not matter.
            if position % PAGE_WORDS != at as u64 % PAGE_WORDS {
                continue;
            }
            if let Found::Record(record) = record::read(&words[at..], position) {
                self.next =
                    at + usize::try_from(record::words_of(record.payload.len())).unwrap_or(1);
                return Some(record.payload.into());
            }
        }
        None
    }
}
