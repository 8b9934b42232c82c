//! At shutdown, writes undelivered events as objects to S3 or a folder: the disk of a Fargate task, and the
//! journal with it, is lost when the task ends.
//!
//! An object starts with eight bytes that name the format. The events follow, each after its length (a
//! protobuf varint). `redrive` puts them on the stream.

use std::sync::Arc;

use adtrack_runtime::storage::{self, StorageError};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::TryStreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use super::journal::{Claim, Journal, JournalReader};

/// The start of every object: the format and its version.
const MAGIC: &[u8; 8] = b"adtrkEV1";
/// The extension of every object's name.
const EXTENSION: &str = "events";
/// An object is closed when it reaches this size in bytes.
const OBJECT_BYTES: usize = 4 * 1024 * 1024;
/// Maximum number of objects that are written at a time. At S3's 100 to 200 ms per object, the network then limits
/// how fast a full journal of 1 GiB is written.
const MAX_WRITES: usize = 8;

/// The store of spilled events.
#[derive(Debug, Clone)]
pub struct SpillStore {
    store: Arc<dyn ObjectStore>,
}

/// Why reading or writing objects failed.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] object_store::Error),
    /// The object is cut off, or the tracker did not write it.
    #[error("object {0} is not a complete spill file of adtrack")]
    Malformed(Path),
}

impl SpillStore {
    /// Opens the store at `url`.
    pub fn open(url: &str) -> Result<Self, StorageError> {
        Ok(Self { store: storage::open(url)? })
    }

    /// Writes all events that are left in `journal`, and frees them there. The journal must be closed and
    /// have no other reader. Returns how many events it wrote.
    pub async fn spill(&self, journal: &Journal) -> Result<u64, SpillError> {
        let mut reader = journal.reader();
        let day = Timestamp::now().to_string().get(..10).unwrap_or("unknown-day").to_owned();
        let spill_id = Uuid::now_v7();
        let mut writes = FuturesUnordered::new();
        let mut events = 0;
        for number in 0.. {
            let Some((object, claims)) = next_object(&mut reader) else { break };
            let name = Path::from(format!("{day}/{spill_id}-{number:06}.{EXTENSION}"));
            writes.push(async move {
                self.store.put(&name, object.into()).await?;
                Ok::<_, SpillError>(claims)
            });
            if writes.len() == MAX_WRITES
                && let Some(claims) = writes.try_next().await?
            {
                reader.acknowledge(&claims);
                events += claims.len() as u64;
            }
        }
        while let Some(claims) = writes.try_next().await? {
            reader.acknowledge(&claims);
            events += claims.len() as u64;
        }
        Ok(events)
    }

    /// The names of all objects, oldest first.
    pub async fn list(&self) -> Result<Vec<Path>, SpillError> {
        let objects: Vec<_> = self.store.list(None).try_collect().await?;
        let mut names: Vec<_> = objects
            .into_iter()
            .map(|object| object.location)
            .filter(|name| name.extension() == Some(EXTENSION))
            .collect();
        names.sort();
        Ok(names)
    }

    /// The events of an object; none if another `redrive` has removed it meanwhile.
    pub async fn read(&self, name: &Path) -> Result<Vec<Bytes>, SpillError> {
        let object = match self.store.get(name).await {
            Ok(object) => object.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        events_of(object).ok_or_else(|| SpillError::Malformed(name.clone()))
    }

    /// Removes an object whose events the stream has.
    pub async fn remove(&self, name: &Path) -> Result<(), SpillError> {
        match self.store.delete(name).await {
            // Another `redrive` was faster.
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The next events that wait, as one object; none if nothing is left.
fn next_object(reader: &mut JournalReader) -> Option<(Bytes, Vec<Claim>)> {
    let mut object = BytesMut::from(&MAGIC[..]);
    let mut claims = Vec::new();
    while object.len() < OBJECT_BYTES {
        let Some((event, claim)) = reader.next() else { break };
        // Cannot fail: the buffer grows.
        let _ = prost::encode_length_delimiter(event.len(), &mut object);
        object.put(event);
        claims.push(claim);
    }
    (!claims.is_empty()).then(|| (object.freeze(), claims))
}

fn events_of(mut object: Bytes) -> Option<Vec<Bytes>> {
    if !object.starts_with(MAGIC) {
        return None;
    }
    object.advance(MAGIC.len());
    let mut events = Vec::new();
    while object.has_remaining() {
        let length = prost::decode_length_delimiter(&mut object).ok()?;
        if length > object.len() {
            return None;
        }
        events.push(object.split_to(length));
    }
    Some(events)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::delivery::SyncMode;
    use crate::track::{AcceptedEvent, EventSink};

    #[tokio::test]
    async fn spills_each_event_once_and_frees_it() {
        let folder = tempfile::tempdir().unwrap();
        let journal =
            Journal::open(&folder.path().join("journal"), 80 << 20, 2, SyncMode::Never).unwrap();
        let expected: BTreeSet<Vec<u8>> = (0..20_000_u32)
            .map(|number| [&number.to_le_bytes()[..], &[7; 3_000]].concat())
            .collect();
        for bytes in &expected {
            let event = AcceptedEvent { accepted_at: 0, bytes: bytes.clone() };
            journal.accept(&event).unwrap();
        }
        journal.close();
        let url = format!("file://{}/spill", folder.path().display());
        let store = SpillStore::open(&url).unwrap();
        assert_eq!(store.spill(&journal).await.unwrap(), 20_000);
        assert_eq!(journal.used_bytes(), 0);
        assert_eq!(store.spill(&journal).await.unwrap(), 0, "nothing is left");
        let names = store.list().await.unwrap();
        assert_eq!(names.len(), 15, "60 MB in objects of 4 MiB");
        let mut read = BTreeSet::new();
        for name in names {
            read.extend(store.read(&name).await.unwrap().iter().map(|event| event.to_vec()));
            store.remove(&name).await.unwrap();
        }
        assert!(read == expected);
        assert_eq!(store.list().await.unwrap(), []);
    }

    #[test]
    fn recognizes_incomplete_and_foreign_objects() {
        let mut object = BytesMut::from(&MAGIC[..]);
        prost::encode_length_delimiter(3, &mut object).unwrap();
        object.put(&b"abc"[..]);
        let object = object.freeze();
        assert_eq!(events_of(object.clone()), Some(vec!["abc".into()]));
        for end in [0, 7, 9, 10, 11] {
            assert_eq!(events_of(object.slice(..end)), None, "{end}");
        }
        assert_eq!(events_of("foreign!".into()), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = events_of([&MAGIC[..], &bytes].concat().into());
        }
    }
}
