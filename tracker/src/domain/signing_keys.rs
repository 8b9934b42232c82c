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
    /// that begin with `#`. Errors contain line numbers, never content.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Self::default();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (id, key) =
                parse_line(line).map_err(|problem| format!("line {number} {problem}"))?;
            if keys.0.insert(id.into(), key).is_some() {
                return Err(format!("line {number} has the id of an earlier line"));
            }
            if keys.0.len() > MAX_KEYS {
                return Err(format!("has more than {MAX_KEYS} keys"));
            }
        }
        if keys.0.is_empty() {
            return Err("holds no key".to_owned());
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

fn parse_line(line: &str) -> Result<(&str, Hmac<Sha256>), String> {
    let (id, secret) = line.split_once('=').ok_or("is not `id=secret`")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    if id.is_empty() || id.len() > MAX_KEY_ID_BYTES || !id.bytes().all(plain) {
        return Err(format!(
            "has an id that is not 1 to {MAX_KEY_ID_BYTES} of A-Z a-z 0-9 . _ ~ -"
        ));
    }
    let secret = STANDARD.decode(secret).map_err(|_| "has a secret that is not base64")?;
    if secret.len() < MIN_KEY_BYTES {
        return Err(format!("has a secret of less than {MIN_KEY_BYTES} bytes"));
    }
    let key = Hmac::new_from_slice(&secret).map_err(|_| "has a secret that is not a valid key")?;
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
            let error = SigningKeys::parse(text).unwrap_err();
            assert!(error.starts_with(&problem), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("CwsL"), "{error}");
        }
        let shown = format!("{:?}", SigningKeys::parse(&format!("a={SECRET}")).unwrap());
        assert_eq!(shown, r#"{"a"}"#);
    }
}
