//! Ids of programs.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A program's id: 1 to 128 characters of `A-Z a-z 0-9 . _ ~ -`. These are the unreserved characters of
/// RFC 3986, so an id needs no escaping in a URL, a Redis key or a file name. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProgramId(Arc<str>);

/// The error for a text that is not a valid program id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a program id has 1 to {} characters of A-Z a-z 0-9 . _ ~ -", ProgramId::MAX_LEN)]
pub struct InvalidProgramId;

impl ProgramId {
    /// The longest id, in bytes (all characters are ASCII).
    pub const MAX_LEN: usize = 128;

    /// Checks that `text` is a valid id.
    pub fn parse(text: &str) -> Result<Self, InvalidProgramId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        if text.is_empty() || text.len() > Self::MAX_LEN || !text.bytes().all(allowed) {
            return Err(InvalidProgramId);
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProgramId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for ProgramId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_unreserved_characters_up_to_the_limit() {
        for text in ["212313", "a", "A-z_0.9~", &"x".repeat(128)] {
            assert_eq!(ProgramId::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_map_of_ids_is_searched_by_text() {
        let id = ProgramId::parse("212313").unwrap();
        let map = std::collections::BTreeMap::from([(id, 1)]);
        assert_eq!((map.get("212313"), map.get("2")), (Some(&1), None));
    }

    #[test]
    fn rejects_everything_else() {
        for text in ["", "a b", "a/b", "ü", "a%20", "{a}", "a\n", "a\0", &"x".repeat(129)] {
            assert_eq!(ProgramId::parse(text), Err(InvalidProgramId), "{text:?}");
        }
    }
}
