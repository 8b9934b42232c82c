//! The client of a request, as its headers and connection show it.

pub mod address;
pub mod bots;
pub mod privacy;
pub(in crate::domain) mod tcf;
mod traffic;

pub use traffic::TrafficFlags;

use std::borrow::Cow;

use super::limits::MAX_KEPT_HEADER_BYTES;
use address::TruncatedAddress;

/// The longest host name (RFC 1035), in bytes.
const MAX_HOST_BYTES: usize = 253;

/// What is recorded of the client of a tracking request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client<'a> {
    /// `User-Agent`; empty if there is none.
    pub user_agent: Cow<'a, str>,
    /// `Referer`, without its query; empty if there is none.
    pub referrer: Cow<'a, str>,
    /// The host name of the request; empty if there is none.
    pub host: Cow<'a, str>,
    /// The address, truncated; empty if unknown.
    pub address: TruncatedAddress,
    /// The visitor's id; empty if the client objects, or if visitors are not tracked.
    pub visitor_id: String,
    /// Why the traffic may be invalid.
    pub traffic_flags: TrafficFlags,
    /// Whether the client objects to tracking. Then neither visitor id nor parameters are recorded.
    pub objects_to_tracking: bool,
}

/// A `Referer` without query and fragment, which may identify a person.
pub fn without_query(referrer: &[u8]) -> &[u8] {
    let end = referrer.iter().position(|byte| matches!(byte, b'?' | b'#'));
    &referrer[..end.unwrap_or(referrer.len())]
}

/// A referrer without query and fragment, cut to the longest header.
pub fn referrer_without_query(referrer: Cow<'_, str>) -> Cow<'_, str> {
    let end = without_query(referrer.as_bytes()).len();
    truncate_header_text(truncate(referrer, end))
}

/// A header's value as UTF-8, cut to the longest header at a character boundary.
pub fn truncate_header(header: &[u8]) -> Cow<'_, str> {
    // Nearly all are UTF-8. That check reads many bytes at a time; the lossy conversion reads byte by byte.
    let text = str::from_utf8(header).map(Cow::Borrowed);
    truncate_header_text(text.unwrap_or_else(|_| String::from_utf8_lossy(header)))
}

/// A text that replaces a header's value, such as a batch item's `userAgent`, cut like the header.
pub fn truncate_header_text(text: Cow<'_, str>) -> Cow<'_, str> {
    let end = text.floor_char_boundary(MAX_KEPT_HEADER_BYTES);
    truncate(text, end)
}

/// The first `end` bytes, which must end at a character boundary.
fn truncate(text: Cow<'_, str>, end: usize) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    }
}

/// The host name of a `Host` header, without the port, in lower case; empty if it is invalid.
pub fn host_name(header: &[u8]) -> Cow<'_, str> {
    let end = if header.starts_with(b"[") {
        header.iter().position(|byte| *byte == b']').map_or(header.len(), |bracket| bracket + 1)
    } else {
        header.iter().position(|byte| *byte == b':').unwrap_or(header.len())
    };
    match str::from_utf8(&header[..end]) {
        Ok(host) if end > MAX_HOST_BYTES || host.is_empty() => Cow::Borrowed(""),
        // A fold does not stop early, so that the compiler can check many bytes at a time.
        Ok(host) if host.bytes().fold(false, |found, byte| found | byte.is_ascii_uppercase()) => {
            Cow::Owned(host.to_ascii_lowercase())
        }
        Ok(host) => Cow::Borrowed(host),
        Err(_) => Cow::Borrowed(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_headers_at_a_character_boundary() {
        assert_eq!(truncate_header(b"curl/8"), "curl/8");
        assert_eq!(truncate_header("ü".repeat(300).as_bytes()), "ü".repeat(256));
        assert_eq!(truncate_header(format!("x{}", "ü".repeat(300)).as_bytes()).len(), 511);
        assert_eq!(truncate_header(b"a\xffb"), "a\u{fffd}b");
    }

    #[test]
    fn removes_the_query_of_a_referrer() {
        for (referrer, kept) in [
            ("https://r.example/page?mail=a@b.example#top", "https://r.example/page"),
            ("https://r.example/page#?x", "https://r.example/page"),
            ("https://r.example/page", "https://r.example/page"),
            ("", ""),
        ] {
            assert_eq!(without_query(referrer.as_bytes()), kept.as_bytes());
            assert_eq!(referrer_without_query(Cow::Borrowed(referrer)), kept);
            assert_eq!(referrer_without_query(Cow::Owned(referrer.to_owned())), kept);
        }
    }

    #[test]
    fn removes_the_port_of_a_host() {
        assert_eq!(host_name(b"T.example:8080"), "t.example");
        assert_eq!(host_name(b"t.example"), "t.example");
        assert_eq!(host_name(b"[::1]:80"), "[::1]");
        assert_eq!(host_name(b"[::1"), "[::1");
        for invalid in [&b""[..], b":80", b"\xff", &[b'a'; 254]] {
            assert_eq!(host_name(invalid), "");
        }
    }
}
