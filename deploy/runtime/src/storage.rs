//! Object storage: an S3 bucket, or a folder with files of the same names.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use url::Url;

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
