//! The secrets with which links and conversions are signed.

use std::collections::HashMap;
use std::fmt;

use adtrack_proto::program::MAX_KEY_ID_BYTES;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The minimum length of a secret in bytes: as long as SHA-256's output (RFC 2104, section 3).
pub const MIN_KEY_BYTES: usize = 32;
/// The maximum number of keys in a file.
const MAX_KEYS: usize = 1_000;

/// Why a file of keys is invalid. Shows nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// No line has a key.
    #[error("holds no key")]
    Empty,
    /// Too many lines have one.
    #[error("has more than {MAX_KEYS} keys")]
    TooMany,
    /// An id appears again, on this line.
    #[error("line {0} has the id of an earlier line")]
    RepeatedId(usize),
    /// A line is invalid.
    #[error("line {number} {problem}")]
    Line {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        problem: InvalidKey,
    },
}

/// Why a line of a file of keys is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Not a pair.
    #[error("is not `id=secret`")]
    NoPair,
    /// An id that a request cannot name.
    #[error("has an id that is not 1 to {MAX_KEY_ID_BYTES} of A-Z a-z 0-9 . _ ~ -")]
    Id,
    /// A secret in another encoding.
    #[error("has a secret that is not base64")]
    Encoding,
    /// A secret that is easier to guess than a signature.
    #[error("has a secret of less than {MIN_KEY_BYTES} bytes")]
    Short,
    /// A secret that HMAC does not take.
    #[error("has a secret that is not a valid key")]
    Secret,
}

/// HMAC-SHA-256 keys by id. There may be several, so that a key can be replaced while links that were
/// signed with it are still in use.
#[derive(Clone, Default)]
pub struct SigningKeys(HashMap<Box<str>, Hmac<Sha256>>);

/// Shows no secret.
impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl SigningKeys {
    /// Parses lines `id=secret`, the secret in base64 (RFC 4648, section 4). Skips empty lines and lines
    /// that begin with `#`.
    pub fn parse(text: &str) -> Result<Self, InvalidKeys> {
        let mut keys = Self::default();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (id, key) =
                parse_line(line).map_err(|problem| InvalidKeys::Line { number, problem })?;
            if keys.0.insert(id.into(), key).is_some() {
                return Err(InvalidKeys::RepeatedId(number));
            }
            if keys.0.len() > MAX_KEYS {
                return Err(InvalidKeys::TooMany);
            }
        }
        if keys.0.is_empty() {
            return Err(InvalidKeys::Empty);
        }
        Ok(keys)
    }

    /// Whether there is a key `id`.
    pub fn has(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// The signature of `message` with the key `id`; none if there is no such key.
    pub fn sign(&self, id: &str, message: &[u8]) -> Option<[u8; 32]> {
        Some(self.mac(id, message)?.finalize().into_bytes().into())
    }

    /// Whether `signature` is the signature of `message` with the key `id`. Compares in constant time.
    pub fn verify(&self, id: &str, message: &[u8], signature: &[u8]) -> bool {
        self.mac(id, message).is_some_and(|mac| mac.verify_slice(signature).is_ok())
    }

    fn mac(&self, id: &str, message: &[u8]) -> Option<Hmac<Sha256>> {
        Some(self.0.get(id)?.clone().chain_update(message))
    }
}

fn parse_line(line: &str) -> Result<(&str, Hmac<Sha256>), InvalidKey> {
    let (id, secret) = line.split_once('=').ok_or(InvalidKey::NoPair)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    if id.is_empty() || id.len() > MAX_KEY_ID_BYTES || !id.bytes().all(plain) {
        return Err(InvalidKey::Id);
    }
    let secret = STANDARD.decode(secret).map_err(|_| InvalidKey::Encoding)?;
    if secret.len() < MIN_KEY_BYTES {
        return Err(InvalidKey::Short);
    }
    let key = Hmac::new_from_slice(&secret).map_err(|_| InvalidKey::Secret)?;
    Ok((id, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 32 bytes, 0x0b each.
    const SECRET: &str = "CwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCws=";

    #[test]
    fn signs_with_hmac_sha_256() {
        // RFC 4231, test case 6: its key is longer than a block.
        let secret = STANDARD.encode([0xaa; 131]);
        let keys = SigningKeys::parse(&format!("# ours\n\n a={SECRET}\r\nb={secret}")).unwrap();
        let message = b"Test Using Larger Than Block-Size Key - Hash Key First";
        let signature = keys.sign("b", message).unwrap();
        let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
        assert!(keys.verify("b", message, &signature));
        assert!(!keys.verify("a", message, &signature));
        assert!(!keys.verify("c", message, &signature));
        assert!(!keys.verify("b", b"another", &signature));
        assert!(!keys.verify("b", message, &signature[..31]));
        assert!(!keys.verify("b", message, b""));
    }

    #[test]
    fn reports_the_line_of_an_invalid_key_without_its_content() {
        for (text, problem) in [
            ("", "holds no key".to_owned()),
            ("# only words", "holds no key".to_owned()),
            (SECRET, "line 1 ".to_owned()),
            (&format!("a={SECRET}\nb!={SECRET}"), "line 2 has an id".to_owned()),
            (&format!("={SECRET}"), "line 1 has an id".to_owned()),
            ("a=c2hvcnQ=", "line 1 has a secret of less than 32 bytes".to_owned()),
            ("a=hunter2!", "line 1 has a secret that is not base64".to_owned()),
            (&format!("a={SECRET}\na={SECRET}"), "line 2 has the id".to_owned()),
        ] {
            let error = SigningKeys::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&problem), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("CwsL"), "{error}");
        }
        let shown = format!("{:?}", SigningKeys::parse(&format!("a={SECRET}")).unwrap());
        assert_eq!(shown, r#"{"a"}"#);
    }
}
