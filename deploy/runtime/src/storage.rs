//! Object storage: an S3 bucket, or a folder with files of the same names.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};
use url::Url;

/// Bytes of an object that are read at once: small enough to arrive within the client's 5 s timeout.
const PIECE_BYTES: u64 = 4 * 1024 * 1024;

/// The accepted URLs, for error messages.
pub const EXPECTED: &str = "expected s3://BUCKET/PREFIX or file:///FOLDER";

/// Why an object store cannot be opened, or an object cannot be read. Does not name the URL.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Not a URL.
    #[error(transparent)]
    Url(#[from] url::ParseError),
    /// A URL of another kind of store.
    #[error("has the scheme `{0}`")]
    Scheme(String),
    /// A `file` URL that names another host.
    #[error("is not a path on this host")]
    ForeignPath,
    /// A URL without a name after its last slash.
    #[error("{EXPECTED}")]
    NoObject,
    /// A name that no object can have.
    #[error(transparent)]
    Name(#[from] object_store::path::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] object_store::Error),
    /// A local file or folder failed.
    #[error(transparent)]
    File(#[from] std::io::Error),
}

/// A value parser for URLs that [`open`] accepts, as far as it can tell without opening them.
pub fn storage_url(text: &str) -> Result<String, String> {
    let usable = Url::parse(text).is_ok_and(|url| match url.scheme() {
        "file" => url.to_file_path().is_ok(),
        "s3" => url.host_str().is_some(),
        _ => false,
    });
    if usable { Ok(text.to_owned()) } else { Err(EXPECTED.to_owned()) }
}

/// Opens the store at `url`. Creates a missing folder; makes no request to a bucket yet.
pub fn open(url: &str) -> Result<Arc<dyn ObjectStore>, StorageError> {
    let parsed = Url::parse(url)?;
    match parsed.scheme() {
        "file" => {
            let folder = parsed.to_file_path().map_err(|()| StorageError::ForeignPath)?;
            std::fs::create_dir_all(&folder)?;
            Ok(Arc::new(LocalFileSystem::new_with_prefix(folder)?))
        }
        "s3" => {
            let options = ClientOptions::new()
                .with_connect_timeout(Duration::from_secs(2))
                .with_timeout(Duration::from_secs(5));
            let retry = RetryConfig {
                max_retries: 3,
                retry_timeout: Duration::from_secs(10),
                ..RetryConfig::default()
            };
            let bucket = AmazonS3Builder::from_env()
                .with_url(url)
                .with_client_options(options)
                .with_retry(retry)
                .build()?;
            Ok(Arc::new(PrefixStore::new(bucket, parsed.path().trim_matches('/'))))
        }
        scheme => Err(StorageError::Scheme(scheme.to_owned())),
    }
}

/// Writes the object at `url` to `into`, piece by piece, so that memory stays small.
pub async fn copy_to(url: &str, into: &mut impl Write) -> Result<(), StorageError> {
    let (folder, name) = url.rsplit_once('/').ok_or(StorageError::NoObject)?;
    let store = open(folder)?;
    let path = Path::parse(name)?;
    let size = store.head(&path).await?.size;
    let mut position = 0;
    while position < size {
        let end = size.min(position + PIECE_BYTES);
        into.write_all(&store.get_range(&path, position..end).await?)?;
        position = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn copies_an_object_of_several_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let size = usize::try_from(2 * PIECE_BYTES + 17).unwrap();
        let held: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
        std::fs::write(folder.path().join("programs.csv"), &held).unwrap();

        let mut copied = Vec::new();
        let url = format!("file://{}/programs.csv", folder.path().display());
        copy_to(&url, &mut copied).await.unwrap();

        assert!(copied == held);
    }

    #[tokio::test]
    async fn reports_an_object_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();

        let url = format!("file://{}/nothing.csv", folder.path().display());
        let copied = copy_to(&url, &mut Vec::new()).await;

        assert!(copied.unwrap_err().to_string().contains("nothing.csv"));
    }
}
