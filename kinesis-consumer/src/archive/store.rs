//! Puts files into the archive: an S3 prefix or a folder.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use adtrack_runtime::storage::{self, StorageError};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::batch::File;

/// Concurrent writes. A batch that was redriven can have events of many hours.
const CONCURRENT_WRITES: usize = 8;
/// The time limit of one write, including its retries.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The archive.
#[derive(Debug, Clone)]
pub struct Archive {
    store: Arc<dyn ObjectStore>,
}

/// The error for an invalid `ARCHIVE_URL`.
#[derive(Debug, thiserror::Error)]
#[error("ARCHIVE_URL={url:?}: {problem}; {}", storage::EXPECTED)]
pub struct ArchiveError {
    url: String,
    problem: StorageError,
}

/// Why a file could not be put.
#[derive(Debug, thiserror::Error)]
enum PutError {
    #[error("no response within {} ms", .0.as_millis())]
    TimedOut(Duration),
    #[error(transparent)]
    Store(#[from] object_store::Error),
}

impl Archive {
    /// Opens the archive at `url`. Creates a missing folder; makes no request to a bucket yet.
    pub fn open(url: &str) -> Result<Self, ArchiveError> {
        let store =
            storage::open(url).map_err(|problem| ArchiveError { url: url.to_owned(), problem })?;
        Ok(Self { store })
    }

    /// Puts `files` by `deadline`, replacing those of the same names. Returns the files that could not be put.
    pub async fn put_all<'f, 'a>(
        &self,
        files: &'f [File<'a>],
        deadline: SystemTime,
    ) -> Vec<&'f File<'a>> {
        futures::stream::iter(files)
            .map(|file| async move {
                let error = self.put(file, deadline).await.err()?;
                let path = &file.path;
                tracing::warn!(path, %error, "a file could not be put; its records are reported for retry");
                Some(file)
            })
            .buffer_unordered(CONCURRENT_WRITES)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    async fn put(&self, file: &File<'_>, deadline: SystemTime) -> Result<(), PutError> {
        let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
        let limit = left.min(WRITE_TIMEOUT);
        if limit.is_zero() {
            return Err(PutError::TimedOut(limit));
        }
        let path = Path::from(&*file.path);
        let put = self.store.put(&path, file.bytes.clone().into());
        tokio::time::timeout(limit, put).await.map_err(|_| PutError::TimedOut(limit))??;
        Ok(())
    }
}
