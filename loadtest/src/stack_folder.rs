//! The folder of a run's local stack: logs, Redis' files and the tracker's journal, which is 256 MB.
//!
//! The folder has a file that the run keeps locked (`flock`). All processes of the stack inherit the lock, so it
//! ends when the last of them has ended, however they end. A folder whose file nobody has locked was left by a
//! run that was killed, and the next run removes it. Whoever removes a folder holds its lock.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::io::{FdFlags, fcntl_setfd};

use crate::local::LocalStackError;

/// The start of every folder's name; the run's id follows.
const PREFIX: &str = "stack-";
/// Name of the file that is locked.
const LOCK: &str = "lock";
/// What takes space in a folder that is kept for its logs.
const JOURNAL: &str = "stack/journal";

/// The folder of this run's stack.
#[derive(Debug)]
pub struct StackFolder {
    /// Its path.
    pub path: PathBuf,
    _locked: File,
}

impl StackFolder {
    /// Creates the folder of the run `id` in `parent`.
    pub fn create(parent: &Path, id: &str) -> Result<Self, LocalStackError> {
        let path = parent.join(format!("{PREFIX}{id}"));
        let lock = || -> std::io::Result<File> {
            std::fs::create_dir_all(&path)?;
            let file = File::create(path.join(LOCK))?;
            file.try_lock()?;
            // The processes that this one starts hold the lock, too.
            fcntl_setfd(&file, FdFlags::empty())?;
            Ok(file)
        };
        match lock() {
            Ok(file) => Ok(Self { path, _locked: file }),
            Err(error) => Err(LocalStackError::File { path, error }),
        }
    }

    /// Removes the folders in `parent` that runs left when they were killed. Returns their paths.
    pub fn remove_abandoned(parent: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        let folders = entries.map(|entry| entry.path()).filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
        });
        folders.filter(|folder| remove_if_abandoned(folder)).collect()
    }

    /// Removes the folder. One that cannot be removed does no harm; the next run tries again.
    pub fn remove(self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }

    /// Keeps the folder for its logs, without the journal. No later run removes it.
    pub fn keep_logs(self) {
        let _ = std::fs::remove_dir_all(self.path.join(JOURNAL));
        let _ = std::fs::remove_file(self.path.join(LOCK));
    }
}

fn remove_if_abandoned(folder: &Path) -> bool {
    // Without a lock it is kept for its logs, or is not a run's.
    let Ok(file) = File::open(folder.join(LOCK)) else { return false };
    file.try_lock().is_ok() && std::fs::remove_dir_all(folder).is_ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;

    /// A process that one test starts inherits the locks of all tests.
    fn alone() -> MutexGuard<'static, ()> {
        static TESTS: Mutex<()> = Mutex::new(());
        TESTS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn removes_only_what_no_process_holds() {
        let _alone = alone();
        let parent = tempfile::tempdir().unwrap();
        let _live = StackFolder::create(parent.path(), "live").unwrap();
        drop(StackFolder::create(parent.path(), "dead").unwrap());
        std::fs::create_dir(parent.path().join("stack-of-somebody")).unwrap();
        std::fs::write(parent.path().join("report.html"), "").unwrap();

        let removed = StackFolder::remove_abandoned(parent.path());

        assert_eq!(removed, [parent.path().join("stack-dead")]);
        assert_eq!(names(parent.path()), ["report.html", "stack-live", "stack-of-somebody"]);
    }

    #[test]
    fn a_process_of_the_stack_holds_the_folder_after_its_run_was_killed() {
        let _alone = alone();
        let parent = tempfile::tempdir().unwrap();
        let folder = StackFolder::create(parent.path(), "run").unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        drop(folder);

        let while_it_runs = StackFolder::remove_abandoned(parent.path());
        drop(child.stdin.take());
        child.wait().unwrap();
        let later = StackFolder::remove_abandoned(parent.path());

        assert!(while_it_runs.is_empty());
        assert_eq!(later, [parent.path().join("stack-run")]);
    }

    #[test]
    fn a_failed_run_keeps_its_logs_alone() {
        let _alone = alone();
        let parent = tempfile::tempdir().unwrap();
        let folder = StackFolder::create(parent.path(), "failed").unwrap();
        std::fs::create_dir_all(folder.path.join(JOURNAL)).unwrap();
        std::fs::create_dir_all(folder.path.join("stack/logs")).unwrap();

        folder.keep_logs();

        assert!(StackFolder::remove_abandoned(parent.path()).is_empty());
        assert_eq!(names(&parent.path().join("stack-failed/stack")), ["logs"]);
    }
}
