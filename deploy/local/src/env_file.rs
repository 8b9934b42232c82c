//! A stack's environment file: `export NAME=value` lines that point tools at the stack.
//!
//! A stack holds an exclusive lock (`flock`) on its file while it runs. If the lock is free, the stack that
//! wrote the file was killed, and the next stack replaces the file. A stack removes its file only while it
//! holds the lock.

use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use local_stack::StackError;

/// The most environment files that the stacks of a clone can have at the same time.
const MAX_FILES: u32 = 100;

/// The environment file of this stack.
#[derive(Debug)]
pub(crate) struct EnvFile {
    pub(crate) path: PathBuf,
    /// Whether the first file belongs to another running stack.
    pub(crate) is_second_choice: bool,
    locked: File,
}

impl EnvFile {
    /// Writes `path`. Fails if it belongs to another running stack.
    pub(crate) fn write(path: &Path, environment: &[(String, String)]) -> Result<Self, StackError> {
        match lock(path)? {
            Some(locked) => Self::fill(path.to_owned(), locked, environment, false),
            None => Err(StackError::EnvFileInUse(path.to_owned())),
        }
    }

    /// Writes the first of `first` (`local-stack.env`), `local-stack-2.env`, `local-stack-3.env` and so on
    /// that belongs to no running stack.
    pub(crate) fn write_first_free(
        first: &Path,
        environment: &[(String, String)],
    ) -> Result<Self, StackError> {
        for number in 1..=MAX_FILES {
            let path = numbered(first, number);
            if let Some(locked) = lock(&path)? {
                return Self::fill(path, locked, environment, number > 1);
            }
        }
        Err(StackError::EnvFileInUse(numbered(first, MAX_FILES)))
    }

    fn fill(
        path: PathBuf,
        mut locked: File,
        environment: &[(String, String)],
        is_second_choice: bool,
    ) -> Result<Self, StackError> {
        let text = exports(environment);
        match locked.set_len(0).and_then(|()| locked.write_all(text.as_bytes())) {
            Ok(()) => Ok(Self { path, is_second_choice, locked }),
            Err(error) => Err(StackError::File(path, error)),
        }
    }

    /// Removes the file, unless another process has replaced it.
    pub(crate) fn remove(self) {
        if is_at(&self.locked, &self.path) {
            // If this fails, the next stack replaces the file.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Opens the file at `path` and locks it. `None` if it belongs to a running stack.
fn lock(path: &Path) -> Result<Option<File>, StackError> {
    let file_error = |error| StackError::File(path.to_owned(), error);
    loop {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(file_error)?;
        match file.try_lock() {
            // Otherwise its stack has removed it since it was opened: try again.
            Ok(()) if is_at(&file, path) => return Ok(Some(file)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(file_error(error)),
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(file), Ok(path)) => identity(file) == identity(path),
        _ => false,
    }
}

/// `local-stack.env`, `local-stack-2.env`, `local-stack-3.env`, …
fn numbered(first: &Path, number: u32) -> PathBuf {
    if number == 1 {
        return first.to_owned();
    }
    let stem = first.file_stem().unwrap_or_default().to_string_lossy();
    first.with_file_name(format!("{stem}-{number}.env"))
}

/// Formats the lines. Only the names of folders may contain characters that a shell interprets.
fn exports(environment: &[(String, String)]) -> String {
    let mut text = format!("# adtrack local stack, process {}\n", std::process::id());
    for (name, value) in environment {
        let quoted = value.replace('\'', r"'\''");
        let needs_quotes =
            value.contains(|c: char| !c.is_ascii_alphanumeric() && !"_-./:".contains(c));
        let value = if needs_quotes { format!("'{quoted}'") } else { value.clone() };
        let _ = writeln!(text, "export {name}={value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn write(first: &Path, name: &str) -> EnvFile {
        EnvFile::write_first_free(first, &[("NAME".to_owned(), name.to_owned())]).unwrap()
    }

    #[test]
    fn each_stack_removes_only_its_own_file() {
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("local-stack.env");

        let (one, two) = (write(&first, "one"), write(&first, "two"));
        let text = std::fs::read_to_string(&two.path).unwrap();
        let both = names(folder.path());
        one.remove();
        let second_alone = names(folder.path());
        let three = write(&first, "three");

        assert_eq!(both, ["local-stack-2.env", "local-stack.env"]);
        assert!(text.ends_with("export NAME=two\n"), "{text}");
        assert_eq!(second_alone, ["local-stack-2.env"]);
        assert_eq!(three.path, first);
    }

    #[test]
    fn replaces_the_file_of_a_killed_stack() {
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("local-stack.env");
        std::fs::write(&first, "export NAME=dead\n").unwrap();

        let file = write(&first, "alive");

        let text = std::fs::read_to_string(&first).unwrap();
        assert_eq!(file.path, first);
        assert!(text.ends_with("export NAME=alive\n"), "{text}");
        assert_eq!(names(folder.path()), ["local-stack.env"]);
    }

    #[test]
    fn keeps_a_file_that_replaced_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("local-stack.env");
        let file = write(&first, "own");
        std::fs::remove_file(&first).unwrap();
        std::fs::write(&first, "another's").unwrap();

        file.remove();

        assert_eq!(std::fs::read_to_string(&first).unwrap(), "another's");
    }

    #[test]
    fn rejects_a_given_file_that_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("given.env");
        let _first = EnvFile::write(&path, &[]).unwrap();

        let second = EnvFile::write(&path, &[]);

        let error = second.unwrap_err().to_string();
        assert!(error.contains("given.env"), "{error}");
        assert_eq!(names(folder.path()), ["given.env"]);
    }

    #[test]
    fn concurrent_stacks_never_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("local-stack.env");
        std::fs::write(&first, "a killed stack's").unwrap();

        std::thread::scope(|scope| {
            for thread in 0..8 {
                let first = &first;
                scope.spawn(move || {
                    for round in 0..200 {
                        let name = format!("{thread}-{round}");
                        let file = write(first, &name);
                        std::thread::yield_now();
                        let text = std::fs::read_to_string(&file.path).unwrap();
                        assert!(text.ends_with(&format!("export NAME={name}\n")), "{name}: {text}");
                        file.remove();
                    }
                });
            }
        });

        assert!(names(folder.path()).is_empty());
    }
}
