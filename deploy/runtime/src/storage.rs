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

/// A value parser for URLs that [`open`] accepts, as far as it can tell without opening them.
pub fn storage_url(text: &str) -> Result<String, String> {
    let usable = Url::parse(text).is_ok_and(|url| match url.scheme() {
        "file" => url.to_file_path().is_ok(),
        "s3" => url.host_str().is_some(),
        _ => false,
    });
    if usable { Ok(text.to_owned()) } else { Err(EXPECTED.to_owned()) }
}

/// Opens the store at `url`. Creates a missing folder; makes no request to a bucket yet. The error says
/// what is wrong with the URL.
pub fn open(url: &str) -> Result<Arc<dyn ObjectStore>, String> {
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    match parsed.scheme() {
        "file" => {
            let folder =
                parsed.to_file_path().map_err(|()| "is not a path on this host".to_owned())?;
            std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
            let store =
                LocalFileSystem::new_with_prefix(folder).map_err(|error| error.to_string())?;
            Ok(Arc::new(store))
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
                .build()
                .map_err(|error| error.to_string())?;
            Ok(Arc::new(PrefixStore::new(bucket, parsed.path().trim_matches('/'))))
        }
        scheme => Err(format!("has the scheme `{scheme}`")),
    }
}

/// Writes the object at `url` to `into`, piece by piece, so that memory stays small. The error says
/// what failed, without the URL.
pub async fn copy_to(url: &str, into: &mut impl Write) -> Result<(), String> {
    let (folder, name) = url.rsplit_once('/').ok_or(EXPECTED)?;
    let store = open(folder)?;
    let path = Path::parse(name).map_err(|error| error.to_string())?;
    let size = store.head(&path).await.map_err(|error| error.to_string())?.size;
    let mut position = 0;
    while position < size {
        let end = size.min(position + PIECE_BYTES);
        let piece = store.get_range(&path, position..end).await;
        let piece = piece.map_err(|error| error.to_string())?;
        into.write_all(&piece).map_err(|error| error.to_string())?;
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

        assert!(copied.unwrap_err().contains("nothing.csv"));
    }
}
