//! Where a function keeps records that can never succeed: an S3 prefix or a folder.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::PoisonRecord;
use crate::storage::{self, StorageError};

/// Concurrent writes. A batch that has only invalid records must not open thousands of connections.
const CONCURRENT_WRITES: usize = 16;
/// The time limit of one write, including its retries.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The failure store.
#[derive(Debug, Clone)]
pub struct FailureStore {
    function: &'static str,
    store: Arc<dyn ObjectStore>,
}

/// The error for an invalid `FAILED_RECORDS_URL`.
#[derive(Debug, thiserror::Error)]
#[error("FAILED_RECORDS_URL={url:?}: {problem}; {}", storage::EXPECTED)]
pub struct FailureStoreError {
    url: String,
    problem: StorageError,
}

/// Why a failed record could not be stored.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("no response within {} ms", .0.as_millis())]
    TimedOut(Duration),
    #[error(transparent)]
    Store(#[from] object_store::Error),
}

impl FailureStore {
    /// Opens the store at `url` for `function`. Creates a missing folder; makes no request to a bucket
    /// yet.
    pub fn open(function: &'static str, url: &str) -> Result<Self, FailureStoreError> {
        let store = storage::open(url)
            .map_err(|problem| FailureStoreError { url: url.to_owned(), problem })?;
        Ok(Self { function, store })
    }

    /// Stores every record of `poison` by `deadline`, and logs each without its payload. Returns the
    /// sequence numbers of the records that could not be stored and are to be retried.
    pub async fn keep(&self, poison: &[PoisonRecord], deadline: SystemTime) -> BTreeSet<String> {
        futures::stream::iter(poison)
            .map(|record| async move {
                match self.write(record, deadline).await {
                    Ok(()) => None,
                    Err(error) => {
                        tracing::error!(
                            sequence_number = record.carrier.sequence_number,
                            %error,
                            "a failed record could not be stored; it is reported for retry"
                        );
                        Some(record.carrier.sequence_number.clone())
                    }
                }
            })
            .buffer_unordered(CONCURRENT_WRITES)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    async fn write(&self, poison: &PoisonRecord, deadline: SystemTime) -> Result<(), WriteError> {
        let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
        let limit = left.min(WRITE_TIMEOUT);
        let record = poison.to_failed_record(self.function, Timestamp::now());
        let name = record.object_name();
        let json = serde_json::to_vec_pretty(&record)?;
        tokio::time::timeout(limit, self.store.put(&Path::from(&*name), Bytes::from(json).into()))
            .await
            .map_err(|_| WriteError::TimedOut(limit))??;
        tracing::warn!(
            sequence_number = record.sequence_number,
            sub_sequence_number = record.sub_sequence_number,
            shard_id = record.shard_id,
            reason = record.reason,
            object = name,
            "a record can never succeed; it was written to the failure store"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lambda::StreamRecord;
    use adtrack_proto::failed_record::FailedRecord;

    fn soon() -> SystemTime {
        SystemTime::now() + Duration::from_secs(10)
    }

    fn poison() -> PoisonRecord {
        PoisonRecord {
            carrier: StreamRecord {
                stream_arn: "arn".into(),
                shard_id: "shardId-000000000001".into(),
                sequence_number: "4959".into(),
                partition_key: "k".into(),
                arrived_at: "2026-01-02T03:04:05Z".parse().unwrap(),
                data: Bytes::from_static(b"whole"),
            },
            sub_sequence_number: 2,
            data: Bytes::from_static(b"\xff\x00"),
            reason: "not protobuf".into(),
        }
    }

    #[tokio::test]
    async fn stores_a_redelivered_record_whole_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}/failed", folder.path().display());
        let store = FailureStore::open("f", &url).unwrap();
        for _ in 0..2 {
            assert_eq!(store.keep(&[poison()], soon()).await, BTreeSet::new());
        }
        let day = folder.path().join("failed/f/2026-01-02/shardId-000000000001");
        let names: Vec<_> =
            std::fs::read_dir(&day).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["4959-2.json"]);
        let kept: FailedRecord =
            serde_json::from_slice(&std::fs::read(day.join("4959-2.json")).unwrap()).unwrap();
        assert_eq!((kept.data.as_str(), kept.reason.as_str()), ("/wA=", "not protobuf"));
    }

    #[tokio::test]
    async fn reports_a_record_that_cannot_be_stored() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().display());
        let store = FailureStore::open("f", &url).unwrap();
        // A file blocks the function's folder.
        std::fs::write(folder.path().join("f"), "").unwrap();
        assert_eq!(store.keep(&[poison()], soon()).await, BTreeSet::from(["4959".to_owned()]));
    }

    #[tokio::test]
    async fn reports_records_after_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().display());
        let store = FailureStore::open("f", &url).unwrap();
        let poison = vec![poison(); 1_000];
        assert_eq!(
            store.keep(&poison, SystemTime::now()).await,
            BTreeSet::from(["4959".to_owned()])
        );
    }

    #[test]
    fn rejects_urls_of_other_schemes() {
        for url in ["", "/tmp/x", "http://x/y"] {
            let error = FailureStore::open("f", url).unwrap_err().to_string();
            assert!(error.contains("expected s3://"), "{error}");
        }
    }
}
