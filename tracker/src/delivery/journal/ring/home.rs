//! A ring's file: created, locked as long as the ring is open, and put back if somebody takes it away.
//!
//! The lock is on the file itself, so that removing the folder's `lock` does not let a second tracker in.
//!
//! A file that is removed, renamed, shortened or unreadable under a running tracker is found by
//! [`Ring::trouble`], which is to be asked regularly. Until then the mapping keeps what was written: an unlinked
//! file lives as long as it is mapped, and zeros stand in for what is cut off (`memory`).
//! [`Ring::restore`] then writes everything that is not acknowledged to a file under the old name, and maps that.
//! Between the two, events are accepted that would not survive the process. If the file cannot be restored, the
//! ring refuses events until it can.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, FallocateFlags, RenameFlags};
use rustix::io::Errno;

use super::header::{self, HEADER_WORDS, Origin};
use super::{NotAppended, Ring, RingError};
use crate::delivery::journal::folder;
use crate::delivery::journal::memory::{Memory, WORD};

/// How many words are written to a file at a time.
const CHUNK_WORDS: usize = 8_192;

/// What has happened to the file of an open ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Trouble {
    /// It is no longer under its name: removed or renamed, or its folder is.
    Removed,
    /// It is shorter than it was.
    Shortened,
    /// The disk failed to read a page, or had no room for one.
    Unreadable,
}

impl Ring {
    /// Creates a ring of `capacity` words at `path`, with its disk space allocated.
    pub fn create(path: &Path, capacity: u64, boot: u64, journal: u64) -> Result<Self, RingError> {
        let number = rand::random();
        let origin = Origin { journal, boot };
        let first_page = first_page(capacity, (0, 0), boot, number, Some(origin));
        let file = create_file(path, Self::file_bytes(capacity), |file| {
            write_words(file, 0, &first_page)
        })?;
        let mut ring = Self::new(Memory::map(file)?, path.to_owned(), capacity, number);
        ring.origin = Some(origin);
        ring.write_header();
        Ok(ring)
    }

    /// Opens the ring at `path`, and locks it.
    pub fn open(path: &Path, boot: u64) -> Result<Self, RingError> {
        let file = open_locked(path)?;
        Self::recover(file, path.to_owned(), boot)
    }

    /// Removes the file, if it is still there.
    pub fn remove(self) -> io::Result<()> {
        std::fs::remove_file(self.path())
    }

    /// Where the file is expected.
    pub fn path(&self) -> PathBuf {
        self.path.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Goes on under another name if one of `paths` is the file's. Returns whether it is.
    pub fn follow_rename(&self, paths: &[PathBuf]) -> bool {
        let file = self.memory.file();
        let found = paths.iter().find(|path| is_at(&file, path));
        if let Some(found) = found {
            *self.path.lock().unwrap_or_else(PoisonError::into_inner) = found.clone();
        }
        found.is_some()
    }

    /// What has happened to the file since the ring was opened or restored.
    pub fn trouble(&self) -> Option<Trouble> {
        let file = self.memory.file();
        if !is_at(&file, &self.path()) {
            Some(Trouble::Removed)
        } else if file.metadata().is_ok_and(|file| file.len() < self.memory.bytes()) {
            Some(Trouble::Shortened)
        } else {
            self.memory.has_replaced_pages().then_some(Trouble::Unreadable)
        }
    }

    /// Writes what is not acknowledged to a file at the ring's path, and goes on with that. Until this succeeds,
    /// the ring takes no records. Blocks producers for as long as it takes.
    pub fn restore(&self, boot: u64) -> Result<(), RingError> {
        let mut producer = self.lock_producer();
        let refusal = producer.refusal.filter(|refusal| *refusal == NotAppended::Closed);
        producer.refusal = refusal.or(Some(NotAppended::Full));
        let path = self.path();
        let (tail, head, bytes) = (self.tail(), self.head(), self.memory.bytes());
        let first_page = first_page(self.capacity, (tail, head), boot, self.number, self.origin);
        let write_all = |file: &File| {
            for (from, to) in self.stretches(tail, head) {
                write_words(file, HEADER_WORDS + from, &self.data()[from..to])?;
            }
            write_words(file, 0, &first_page)
        };
        let file = self.memory.file().try_clone()?;
        let file = if is_at(&file, &path) {
            allocate(&file, bytes)?;
            write_all(&file)?;
            file.sync_all()?;
            file
        } else {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            if path.symlink_metadata().is_ok() {
                let aside = set_aside(&path)?;
                tracing::error!(file = %path.display(), aside = %aside.display(), "set aside what is in the ring's place");
            }
            create_file(&path, bytes, write_all)?
        };
        self.memory.remap(file)?;
        // The consumer may have acknowledged more meanwhile.
        self.write_header();
        producer.refusal = refusal;
        Ok(())
    }
}

/// Opens the file and locks it, for as long as it is open.
pub fn open_locked(path: &Path) -> Result<File, RingError> {
    // Opening anything else may wait, or do more than open it.
    if !std::fs::metadata(path)?.is_file() {
        return Err(RingError::NotAFile);
    }
    let file = File::options().read(true).write(true).open(path)?;
    lock(&file)?;
    Ok(file)
}

/// Removes a file, unless another process has it locked.
pub fn remove_unused(path: &Path) -> Result<(), RingError> {
    let _locked = open_locked(path)?;
    Ok(std::fs::remove_file(path)?)
}

/// Renames what cannot be read as a ring, so that it is in nobody's way. Returns its new path. Fails if another
/// process has it open.
pub fn set_aside(path: &Path) -> Result<PathBuf, RingError> {
    let _locked = match open_locked(path) {
        Err(RingError::InUse) => return Err(RingError::InUse),
        // What cannot be opened is in nobody's use.
        opened => opened.ok(),
    };
    rename_aside(path)
}

/// Like [`set_aside`], but also renames a path that another process has open.
pub fn rename_aside(path: &Path) -> Result<PathBuf, RingError> {
    let aside = folder::damaged_path(path)?;
    rename(path, &aside)?;
    Ok(aside)
}

fn lock(file: &File) -> Result<(), RingError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => RingError::InUse,
        TryLockError::Error(error) => error.into(),
    })
}

/// Creates a file with `write`, locked and on disk before it gets its name. Under another name first, so that
/// one that is cut off leaves no incomplete ring.
fn create_file(
    path: &Path,
    bytes: u64,
    write: impl FnOnce(&File) -> io::Result<()>,
) -> Result<File, RingError> {
    let unfinished = path.with_extension(folder::UNFINISHED);
    let file = File::options().create_new(true).read(true).write(true).open(&unfinished);
    let file = file.map_err(|error| match error.kind() {
        // Those that a dead tracker left are removed before any is created.
        io::ErrorKind::AlreadyExists => RingError::InUse,
        _ => error.into(),
    })?;
    let finish = || -> Result<(), RingError> {
        lock(&file)?;
        allocate(&file, bytes)?;
        write(&file)?;
        file.sync_all()?;
        rename(&unfinished, path)?;
        if let Some(folder) = path.parent() {
            // So that the file's name survives a crash of the host.
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    if let Err(error) = finish() {
        // What matters is the first error; the next start removes the file.
        let _ = std::fs::remove_file(&unfinished);
        return Err(error);
    }
    Ok(file)
}

/// Renames a file, but never over another one, which may be the ring of another tracker.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot do this.
        Err(Errno::INVAL | Errno::NOSYS) if to.symlink_metadata().is_err() => {
            std::fs::rename(from, to)
        }
        result => Ok(result?),
    }
}

/// Allocates the disk space, so that a full disk is noticed now and not on an access to the mapping.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes)?)
}

/// Whether `path` is the name of `file`.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(file), Ok(there)) => (file.dev(), file.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn first_page(
    capacity: u64,
    (tail, head): (u64, u64),
    boot: u64,
    number: u64,
    origin: Option<Origin>,
) -> Vec<AtomicU64> {
    let page: Vec<_> = (0..HEADER_WORDS).map(|_| AtomicU64::new(0)).collect();
    header::write(&page, capacity, tail, head);
    header::write_boot(&page, boot);
    header::write_number(&page, number);
    if let Some(origin) = origin {
        header::write_origin(&page, origin);
    }
    page
}

/// Writes words to a file, from its word `first` on.
fn write_words(file: &File, first: usize, from: &[AtomicU64]) -> io::Result<()> {
    let mut offset = first as u64 * WORD;
    for chunk in from.chunks(CHUNK_WORDS) {
        let bytes: Vec<u8> =
            chunk.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
        file.write_all_at(&bytes, offset)?;
        offset += bytes.len() as u64;
    }
    Ok(())
}
