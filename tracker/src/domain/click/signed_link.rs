//! Links that name their own landing page (`url=`), and their signatures.

use adtrack_proto::ProgramId;
use adtrack_proto::web_url::{self, InvalidUrl, Macros};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use url::Url;

use crate::domain::SigningKeys;

/// The parameter with the landing page.
pub const URL_PARAMETER: &str = "url";
/// The parameter with the signature: HMAC-SHA-256 in base64url without padding (RFC 4648, section 5).
pub const SIGNATURE: &str = "sig";
/// The parameter with the id of the signature's key.
pub const KEY_ID: &str = "at_key";
/// The parameter with the time at which the signature expires, in Unix seconds.
pub const EXPIRES: &str = "at_expires";

/// The longest time for which a link can be valid: a hundred years. An expiry in milliseconds instead of seconds
/// would be 50,000 years ahead.
pub const MAX_LIFETIME_SECONDS: i64 = 100 * 366 * 86_400;

/// What a link's signature covers. It covers nothing else, because networks append parameters of their own.
#[derive(Debug, Clone, Copy)]
pub struct SignedLink<'a> {
    /// The program that the link belongs to.
    pub program_id: &'a ProgramId,
    /// The landing page as given: decoded, with its macros.
    pub url: &'a str,
    /// The id of the key.
    pub key_id: &'a str,
    /// When the signature expires, in Unix seconds.
    pub expires: i64,
}

impl SignedLink<'_> {
    /// The signed text. It is unambiguous, because only its last part, the URL, can contain a line feed. The
    /// first line keeps signatures of other kinds from being valid for a link.
    fn text(&self) -> String {
        let Self { program_id, url, key_id, expires } = self;
        format!("adtrack-link-v1\n{program_id}\n{key_id}\n{expires}\n{url}")
    }

    /// The value of [`SIGNATURE`]; none if there is no such key.
    pub fn sign(&self, keys: &SigningKeys) -> Option<String> {
        Some(URL_SAFE_NO_PAD.encode(keys.sign(self.key_id, self.text().as_bytes())?))
    }

    /// Whether the link expires within [`MAX_LIFETIME_SECONDS`] of `now`.
    pub fn expires_plausibly(&self, now: Timestamp) -> bool {
        self.expires <= now.as_second().saturating_add(MAX_LIFETIME_SECONDS)
    }

    /// Whether `signature` is this link's, was made with its key among `keys`, and has not expired at `now`.
    pub fn verify(&self, signature: &str, keys: &SigningKeys, now: Timestamp) -> bool {
        let signature = URL_SAFE_NO_PAD.decode(signature);
        now.as_second() < self.expires
            && self.expires_plausibly(now)
            && signature.is_ok_and(|bytes| keys.verify(self.key_id, self.text().as_bytes(), &bytes))
    }
}

/// Why a link may not lead to a landing page. Says it with the parameter as its subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLandingPage {
    /// Core data may not have it either.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// A host that browsers read as another, which is given.
    #[error("has a host that browsers read as `{0}`; write that")]
    Host(String),
}

/// Parses the landing page of a link, which may come from anybody. In addition to the rules for core data
/// ([`web_url::parse`]), its host must be written as browsers read it: no unusual notation of an IP address,
/// no characters that are mapped to others, international names as `xn--…`.
pub fn link_url(text: &str) -> Result<Url, InvalidLandingPage> {
    let url = web_url::parse(text, Macros::Allowed)?;
    let authority = web_url::split_at_authority(text).map_or("", |(authority, _)| authority);
    let host_end = if authority.starts_with('[') {
        authority.find(']').map_or(authority.len(), |bracket| bracket + 1)
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let host = url.host_str().unwrap_or_default();
    if !host.eq_ignore_ascii_case(&authority[..host_end]) {
        return Err(InvalidLandingPage::Host(host.to_owned()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "CwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCws=";

    #[test]
    fn signs_program_url_key_and_expiry() {
        let keys = SigningKeys::parse(&format!("k1={SECRET}\nk2={SECRET}")).unwrap();
        let now = Timestamp::from_second(1_000).unwrap();
        let (program, other) = (ProgramId::parse("p").unwrap(), ProgramId::parse("q").unwrap());
        let link = SignedLink {
            program_id: &program,
            url: "https://shop.example/?a={click_id}",
            key_id: "k1",
            expires: 1_001,
        };
        let signature = link.sign(&keys).unwrap();
        // The example of docs/CLICKS.md.
        assert_eq!(signature, "1tUNATbD1HVE3SFDlW9R-GmAGN_nxyxqJ9B4D3rRYHU");
        assert!(link.verify(&signature, &keys, now));
        for changed in [
            SignedLink { program_id: &other, ..link },
            SignedLink { url: "https://shop.example/?a={click_id}&", ..link },
            SignedLink { key_id: "k2", ..link },
            SignedLink { key_id: "k3", ..link },
            SignedLink { expires: 1_002, ..link },
        ] {
            assert!(!changed.verify(&signature, &keys, now), "{changed:?}");
        }
        assert!(!link.verify(&signature, &keys, Timestamp::from_second(1_001).unwrap()));
        for (expires, plausible) in [
            (1_000 + MAX_LIFETIME_SECONDS, true),
            (1_001 + MAX_LIFETIME_SECONDS, false),
            (i64::MAX, false),
        ] {
            let link = SignedLink { expires, ..link };
            assert_eq!(link.verify(&link.sign(&keys).unwrap(), &keys, now), plausible, "{expires}");
        }
        assert!(!link.verify(&signature, &SigningKeys::default(), now));
        for wrong in ["", "!", &signature[1..], &signature.to_uppercase()] {
            assert!(!link.verify(wrong, &keys, now), "{wrong}");
        }
        assert_eq!(SignedLink { key_id: "k3", ..link }.sign(&keys), None);
    }

    #[test]
    fn refuses_hosts_that_browsers_read_differently() {
        for text in ["https://Shop.Example:8443/x", "http://127.0.0.1", "http://[::1]:80/?a={b}"] {
            assert!(link_url(text).is_ok(), "{text}");
        }
        for text in [
            "https://shop\u{3002}example/",
            "https://\u{ff53}hop.example/",
            "https://b\u{fc}cher.example/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[0:0::1]/",
            "https://shop.example\u{ad}/",
            "https:shop.example",
        ] {
            assert!(link_url(text).is_err(), "{text}");
        }
    }
}
