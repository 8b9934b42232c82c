//! What an ad client tells us.

use adtrack_proto::ProgramId;
use jiff::Timestamp;

use super::Parameters;

/// The longest `User-Agent` and `Referer` that are kept, in bytes.
pub const MAX_HEADER_BYTES: usize = 512;
/// The longest host name (RFC 1035), in bytes.
const MAX_HOST_BYTES: usize = 253;

/// A tracking request, before it is known whether its program exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackingRequest {
    /// The program that it names.
    pub program_id: ProgramId,
    /// Its query.
    pub parameters: Parameters,
    /// `User-Agent`; empty where there is none.
    pub user_agent: String,
    /// `Referer`; empty where there is none.
    pub referrer: String,
    /// The host name that the client asked; empty where there is none.
    pub host: String,
    /// When the tracker took it.
    pub received_at: Timestamp,
}

/// A header's value as it is kept: as UTF-8, and cut at a character boundary.
pub fn cut(header: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(header).into_owned();
    text.truncate(text.floor_char_boundary(MAX_HEADER_BYTES));
    text
}

/// The host name of a `Host` header, without the port.
pub fn host_name(header: &str) -> String {
    let end = if header.starts_with('[') {
        header.find(']').map_or(header.len(), |bracket| bracket + 1)
    } else {
        header.find(':').unwrap_or(header.len())
    };
    let host = &header[..end];
    host[..host.floor_char_boundary(MAX_HOST_BYTES)].to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_cut_at_a_character_boundary() {
        assert_eq!(cut(b"curl/8"), "curl/8");
        assert_eq!(cut("ü".repeat(300).as_bytes()), "ü".repeat(256));
        assert_eq!(cut(format!("x{}", "ü".repeat(300)).as_bytes()).len(), 511);
        assert_eq!(cut(b"a\xffb"), "a\u{fffd}b");
    }

    #[test]
    fn a_host_loses_its_port() {
        assert_eq!(host_name("T.example:8080"), "t.example");
        assert_eq!(host_name("t.example"), "t.example");
        assert_eq!(host_name("[::1]:80"), "[::1]");
        assert_eq!(host_name("[::1"), "[::1");
        assert_eq!(host_name(""), "");
    }
}
