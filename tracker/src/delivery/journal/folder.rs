//! The journal's folder: its lock, and the names in it.

use std::fs::{File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The extension of a ring.
const RING: &str = "ring";
/// The extension of a ring that is not complete yet. It holds no events.
pub(super) const UNFINISHED: &str = "new";
/// The extension of a file that was set aside because it cannot be read as a ring.
const DAMAGED: &str = "damaged";

/// The file `lock`, locked. The rings have locks of their own, which cannot be removed without the ring. This one
/// keeps versions out that know no other.
#[derive(Debug)]
pub(super) struct FolderLock {
    path: PathBuf,
    file: Mutex<File>,
}

impl FolderLock {
    /// Takes the lock; none if another process has it.
    pub(super) fn take(folder: &Path) -> io::Result<Option<Self>> {
        let path = lock_path(folder);
        let file = take(&path)?;
        Ok(file.map(|file| Self { path, file: Mutex::new(file) }))
    }

    /// Takes the lock again if somebody has removed the file. Returns whether this was necessary.
    pub(super) fn keep(&self) -> io::Result<bool> {
        let mut held = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = |file: std::fs::Metadata| (file.dev(), file.ino());
        let there = std::fs::metadata(&self.path).ok().map(identity);
        if there == Some(identity(held.metadata()?)) {
            return Ok(false);
        }
        let file = take(&self.path)?;
        *held = file.ok_or_else(|| io::Error::other("another process has taken the lock"))?;
        Ok(true)
    }
}

/// Where the lock is.
pub(super) fn lock_path(folder: &Path) -> PathBuf {
    folder.join("lock")
}

fn take(path: &Path) -> io::Result<Option<File>> {
    // Opening a pipe would wait for a reader.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other("is not a regular file"));
    }
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The rings in `folder`. Links come last, so that they are found to be other names of files, and not the files to
/// be other names of them.
pub(super) fn ring_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = files(folder, RING)?;
    paths.sort_by_key(|path| path.is_symlink());
    Ok(paths)
}

/// Rings that a start left incomplete, if they are not being created at this moment.
pub(super) fn unfinished_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    files(folder, UNFINISHED)
}

/// The files in `folder` that were set aside.
pub(super) fn damaged_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    files(folder, DAMAGED)
}

fn files(folder: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A path in `folder` for a new ring.
pub(super) fn unused_ring_path(folder: &Path) -> io::Result<PathBuf> {
    unused(|number| folder.join(format!("{number:04}.{RING}")))
}

/// Where to set `path` aside.
pub(super) fn damaged_path(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    unused(|number| {
        let number = if number == 0 { String::new() } else { format!(".{number}") };
        path.with_file_name(format!("{name}{number}.{DAMAGED}"))
    })
}

fn unused(path: impl Fn(u32) -> PathBuf) -> io::Result<PathBuf> {
    (0..=u32::MAX)
        .map(path)
        .find(|path| path.symlink_metadata().is_err())
        .ok_or_else(|| io::Error::other("the folder holds too many rings"))
}

/// Identifies this boot of the host; a new number for each call if the system has no boot id.
pub(super) fn boot_id() -> u64 {
    let Ok(id) = std::fs::read("/proc/sys/kernel/random/boot_id") else { return rand::random() };
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
