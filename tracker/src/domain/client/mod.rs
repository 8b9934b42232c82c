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

/// What is kept of a `Referer`: no user information, query or fragment, which may identify a person.
pub fn referrer(header: &[u8]) -> Cow<'_, str> {
    match header.iter().position(|byte| matches!(byte, b'?' | b'#' | b'@')) {
        None => truncate_header(header),
        Some(at) if header[at] == b'@' => referrer_with_at_sign(&String::from_utf8_lossy(header)),
        Some(end) => truncate_header(&header[..end]),
    }
}

/// As [`referrer`], of a text.
pub fn referrer_text(text: Cow<'_, str>) -> Cow<'_, str> {
    match text.find(['?', '#', '@']) {
        None => truncate_header_text(text),
        Some(at) if text.as_bytes()[at] == b'@' => referrer_with_at_sign(&text),
        Some(end) => truncate_header_text(truncate(text, end)),
    }
}

/// What is kept of a referrer that may have user information: its part up to the last `@` before the path.
#[cold]
fn referrer_with_at_sign(referrer: &str) -> Cow<'static, str> {
    let kept = &referrer[..referrer.find(['?', '#']).unwrap_or(referrer.len())];
    let (scheme, rest) = match kept.find("//") {
        Some(slashes) => kept.split_at(slashes + 2),
        None => ("", kept),
    };
    let authority = &rest[..rest.find(['/', '\\']).unwrap_or(rest.len())];
    let host = match authority.rfind('@') {
        Some(at) if !scheme.is_empty() => at + 1,
        _ => 0,
    };
    truncate_header_text(Cow::Owned([scheme, &rest[host..]].concat()))
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
    fn removes_what_may_identify_a_person_from_a_referrer() {
        for (referrer, kept) in [
            ("https://r.example/page?mail=a@b.example#top", "https://r.example/page"),
            ("https://r.example/page#?x", "https://r.example/page"),
            ("https://r.example/page", "https://r.example/page"),
            ("", ""),
            ("http://u:p@r.example/p?q#f", "http://r.example/p"),
            ("http://u@v:p@r.example:80", "http://r.example:80"),
            ("//u@r.example/p", "//r.example/p"),
            ("https://r.example/@user", "https://r.example/@user"),
            ("https://r.example/p?mail=a@b.example", "https://r.example/p"),
            ("https://u@r.example/@user?x", "https://r.example/@user"),
            ("https://r.example\\@h", "https://r.example\\@h"),
            ("a@r.example", "a@r.example"),
            ("@", "@"),
        ] {
            assert_eq!(super::referrer(referrer.as_bytes()), kept);
            assert_eq!(referrer_text(Cow::Borrowed(referrer)), kept);
            assert_eq!(referrer_text(Cow::Owned(referrer.to_owned())), kept);
        }
        assert_eq!(super::referrer(b"http://\xff@r.example/\xff"), "http://r.example/\u{fffd}");
        let long = format!("http://{}@r.example/", "u".repeat(600));
        assert_eq!(super::referrer(long.as_bytes()), "http://r.example/");
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
