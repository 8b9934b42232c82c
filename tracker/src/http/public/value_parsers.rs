//! clap value parsers that several settings and `sign-link` share.

use std::fmt::Display;

use adtrack_proto::web_url::{self, Macros};
use url::Url;

use crate::domain::SigningKeys;

/// The maximum size of a file of keys in bytes.
const MAX_KEYS_FILE_BYTES: u64 = 1 << 20;

/// A URL that a visitor can be redirected to.
pub fn web_url(text: &str) -> Result<Url, String> {
    web_url::parse(text, Macros::Refused)
        .map_err(|problem| format!("{problem}; expected an http or https URL without macros"))
}

/// Reads the file of keys at `path`.
pub fn signing_keys(path: &str) -> Result<SigningKeys, String> {
    let expected = |problem: &dyn Display| {
        format!("{problem}; expected a readable file of lines `id=secret`, the secrets in base64")
    };
    let text = read(path).map_err(|error| expected(&error))?;
    SigningKeys::parse(&text).map_err(|error| expected(&error))
}

/// The content of a file of keys.
pub fn signing_keys_text(text: &str) -> Result<SigningKeys, String> {
    SigningKeys::parse(text)
        .map_err(|problem| format!("{problem}; expected lines `id=secret`, the secrets in base64"))
}

fn read(path: &str) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    // Bounded: the path may be that of a device, which never ends.
    std::fs::File::open(path)?.take(MAX_KEYS_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
