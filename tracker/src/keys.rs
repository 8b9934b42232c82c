//! Secrets by id, from a file: what signatures are checked with.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::GeneralPurposeConfig;

/// The longest id, in bytes.
pub const MAX_ID_BYTES: usize = 64;
/// The shortest secret, in bytes: as long as what HMAC-SHA-256 makes (RFC 2104, section 3).
pub const MIN_SECRET_BYTES: usize = 32;
/// The longest secret, in bytes.
const MAX_SECRET_BYTES: usize = 1_024;
/// The largest file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Standard base64 (RFC 4648, section 4), with its padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Secrets by id. Cheap to clone, and never printed.
///
/// The file has a line `id = secret` for each, the secret in base64; empty lines and those that begin
/// with `#` are skipped. Several keys at a time let one take another's place: add the new one, let
/// everybody change over, take the old one out.
#[derive(Clone, Default)]
pub struct Keys(Arc<HashMap<String, Box<[u8]>>>);

/// Why a file holds no keys. Names the line, never what stands in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("{0}; expected a readable file of lines `id = base64 of a secret`")]
    Unreadable(String),
    /// A line is not one of a key.
    #[error("line {line}: {problem}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it, and what is expected.
        problem: String,
    },
}

impl Keys {
    /// Reads the file at `path`: for clap, whose error then names the setting and the file.
    pub fn from_file(path: &str) -> Result<Self, KeysError> {
        let unreadable = |error: std::io::Error| KeysError::Unreadable(error.to_string());
        let size = std::fs::metadata(Path::new(path)).map_err(unreadable)?.len();
        if size > MAX_FILE_BYTES {
            let problem = format!("the file has {size} bytes; at most {MAX_FILE_BYTES} are read");
            return Err(KeysError::Unreadable(problem));
        }
        Self::parse(&std::fs::read_to_string(path).map_err(unreadable)?)
    }

    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let mut keys = HashMap::new();
        for (line, text) in (1..).zip(text.lines().map(str::trim)) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let wrong = |problem: String| KeysError::Line { line, problem };
            let (id, secret) = parse_line(text).map_err(wrong)?;
            if keys.insert(id.to_owned(), secret.into()).is_some() {
                return Err(wrong("this id has a key already".to_owned()));
            }
        }
        Ok(Self(Arc::new(keys)))
    }

    /// The secret of `id`.
    pub fn get(&self, id: &str) -> Option<&[u8]> {
        self.0.get(id).map(|secret| &**secret)
    }
}

fn parse_line(text: &str) -> Result<(&str, Vec<u8>), String> {
    let (id, secret) = text.split_once('=').ok_or("expected `id = base64 of a secret`")?;
    let (id, secret) = (id.trim_end(), secret.trim_start());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    if id.is_empty() || id.len() > MAX_ID_BYTES || !id.bytes().all(allowed) {
        return Err(format!("an id has 1 to {MAX_ID_BYTES} characters of A-Z a-z 0-9 . _ ~ -"));
    }
    // The decoder's own error would show a character of the secret.
    let secret = BASE64.decode(secret).map_err(|_| "the secret is not base64".to_owned())?;
    if !(MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&secret.len()) {
        return Err(format!(
            "the secret has {} bytes; {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} are accepted, such as \
             those of `openssl rand -base64 32`",
            secret.len()
        ));
    }
    Ok((id, secret))
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    #[test]
    fn keys_are_read_by_id() {
        let text =
            format!("# of network-a\r\n\nnetwork-a.1 = {SECRET}\r\nnetwork-a.2={}", &SECRET[..43]);
        let keys = Keys::parse(&text).unwrap();
        for id in ["network-a.1", "network-a.2"] {
            assert_eq!(keys.get(id), Some(&b"0123456789abcdef0123456789abcdef"[..]));
        }
        assert_eq!(keys.get("network-a"), None);
        assert!(!format!("{keys:?}").contains("48"), "{keys:?}");
    }

    #[test]
    fn an_error_names_the_line_and_shows_no_secret() {
        for (text, line, problem) in [
            ("secret-without-id", 1, "expected `id ="),
            ("\n = c2VjcmV0", 2, "an id has 1 to 64"),
            ("a b = c2VjcmV0", 1, "an id has 1 to 64"),
            ("# k\nk = c2VjcmV0!", 2, "the secret is not base64"),
            ("k = c2VjcmV0", 1, "the secret has 6 bytes; 32 to"),
            (&format!("k={SECRET}\nk={SECRET}"), 2, "this id has a key already"),
        ] {
            let error = Keys::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("line {line}: {problem}")), "{error}");
            assert!(!error.contains("c2VjcmV0") && !error.contains("secret-"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_says_so() {
        let error = Keys::from_file("/nowhere/keys").unwrap_err().to_string();
        assert!(error.contains("No such file") && error.contains("expected a readable file"));
    }
}
