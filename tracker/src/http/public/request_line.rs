//! Percent-encodes the bytes of a request line that its sender should have percent-encoded.
//!
//! actix-http refuses a request whose target has bytes above 0x7F, `"`, `<` or `>`, before any handler sees it. Old
//! applications, mail programs and hand-made postbacks send them. So the connection encodes such bytes before
//! actix-http reads them. It does so only at the start of a request: [`super::connection`] says how it knows.
//!
//! A `#` in a query is encoded, too. actix-http would cut the query there and lose parameters that count; what
//! clients send has no fragment (RFC 9112, section 3.2).

/// The place in a request line where the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the space that precedes the target. Empty lines may come first (RFC 9112, section 2.2).
    Method,
    Path,
    Query,
    /// Behind the target.
    Version,
    /// Behind the line.
    Done,
}

/// A request line while it arrives.
#[derive(Debug)]
pub(super) struct RequestLine {
    place: Place,
    /// Bytes of the line so far, as actix-http sees them.
    length: usize,
}

/// Bytes that are checked at a time: the compiler makes a few vector instructions of it.
const CHUNK: usize = 32;

impl RequestLine {
    /// Not within a request line.
    pub(super) fn none() -> Self {
        Self { place: Place::Done, length: 0 }
    }

    /// Reads the bytes that arrived at the start of a request; returns what takes their place, if anything has to
    /// be encoded.
    #[inline]
    pub(super) fn start(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if starts_with_clean_line(bytes) {
            self.place = Place::Done;
            return None;
        }
        self.place = Place::Method;
        self.length = 0;
        self.read(bytes)
    }

    /// Whether the next bytes belong to the line.
    pub(super) fn is_open(&self) -> bool {
        self.place != Place::Done
    }

    /// The bytes of the last line, as far as it arrived in several parts.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Reads further bytes of the line, as [`Self::start`] does.
    #[cold]
    pub(super) fn read(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut encoded: Option<Vec<u8>> = None;
        for (position, byte) in bytes.iter().enumerate() {
            if self.place == Place::Done {
                // Nothing behind the line changes.
                if let Some(encoded) = &mut encoded {
                    encoded.extend_from_slice(&bytes[position..]);
                }
                break;
            }
            if self.has_to_be_encoded(*byte) {
                let encoded = encoded.get_or_insert_with(|| bytes[..position].to_vec());
                encoded.extend_from_slice(percent_encoding::percent_encode_byte(*byte).as_bytes());
                self.length += 3;
            } else {
                if let Some(encoded) = &mut encoded {
                    encoded.push(*byte);
                }
                self.length += 1;
            }
            self.advance(*byte);
        }
        encoded
    }

    fn has_to_be_encoded(&self, byte: u8) -> bool {
        match self.place {
            Place::Path => byte >= 0x80 || b"\"<>".contains(&byte),
            Place::Query => byte >= 0x80 || b"\"<>#".contains(&byte),
            Place::Method | Place::Version | Place::Done => false,
        }
    }

    fn advance(&mut self, byte: u8) {
        self.place = match (self.place, byte) {
            // Only of an empty line so far.
            (Place::Method, b'\r' | b'\n') if self.length <= 2 => {
                if byte == b'\n' {
                    self.length = 0;
                }
                Place::Method
            }
            (_, b'\n') => Place::Done,
            (Place::Method, b' ') => Place::Path,
            (Place::Path, b'?') => Place::Query,
            (Place::Path | Place::Query, b' ') => Place::Version,
            (place, _) => place,
        };
    }
}

/// Whether the bytes have a whole line of which nothing can have to be encoded. May say no to some that have.
#[inline]
fn starts_with_clean_line(bytes: &[u8]) -> bool {
    if matches!(bytes.first(), None | Some(b'\r' | b'\n')) {
        return false;
    }
    let (chunks, rest) = bytes.as_chunks::<CHUNK>();
    for chunk in chunks {
        match summary(chunk) {
            0 => {}
            bits => return bits == LINE_END,
        }
    }
    summary(rest) == LINE_END
}

/// The bit in a [`summary`] that stands for the end of a line.
const LINE_END: u8 = 1;

/// Bits for what is among `bytes`: [`LINE_END`], and others for what may have to be encoded. Without branches, so
/// that the compiler can check many bytes at a time.
#[inline]
fn summary(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |bits, byte| {
        // `"` and `#` differ in their lowest bit, `<` and `>` in their second.
        let is_suspicious = (byte | 1 == b'#') | (byte | 2 == b'>');
        bits | byte & 0x80 | u8::from(is_suspicious) << 1 | u8::from(*byte == b'\n')
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What actix-http gets of bytes that arrive in these parts.
    fn read(parts: &[&[u8]]) -> Vec<u8> {
        let mut line = RequestLine::none();
        parts
            .iter()
            .enumerate()
            .flat_map(|(index, part)| {
                let replaced = match index {
                    0 => line.start(part),
                    _ if line.is_open() => line.read(part),
                    _ => None,
                };
                replaced.unwrap_or_else(|| part.to_vec())
            })
            .collect()
    }

    #[test]
    fn encodes_what_a_target_must_not_have() {
        for (sent, read_as) in [
            (
                "GET /event/1?a=b HTTP/1.1\r\nx: \"é#\r\n\r\n",
                "GET /event/1?a=b HTTP/1.1\r\nx: \"é#\r\n\r\n",
            ),
            (
                "GET /e<?a=é\"<>#` HTTP/1.1\r\nx: é",
                "GET /e%3C?a=%C3%A9%22%3C%3E%23` HTTP/1.1\r\nx: é",
            ),
            ("\r\nGET /?é HTTP/1.1\r\n", "\r\nGET /?%C3%A9 HTTP/1.1\r\n"),
            ("\r\n\r\n\nGET /?é HTTP/1.1\r\n", "\r\n\r\n\nGET /?%C3%A9 HTTP/1.1\r\n"),
            ("GET /a#b HTTP/1.1\r\n", "GET /a#b HTTP/1.1\r\n"),
            ("G\"T /a HTTP/1.1\r\n", "G\"T /a HTTP/1.1\r\n"),
            ("GET /?a=1 é HTTP/1.1\r\n", "GET /?a=1 é HTTP/1.1\r\n"),
        ] {
            assert_eq!(String::from_utf8(read(&[sent.as_bytes()])).unwrap(), read_as, "{sent}");
        }
        assert_eq!(read(&[b"GET /?\xfc HTTP/1.1\r\n\r\n\xfc"]), b"GET /?%FC HTTP/1.1\r\n\r\n\xfc");
    }

    #[test]
    fn clean_lines_take_the_fast_path() {
        for length in 1..200 {
            let line = format!("GET /{} HTTP/1.1\r\nhost: t\r\n", "x".repeat(length));
            assert!(starts_with_clean_line(line.as_bytes()), "{length}");
            assert!(!starts_with_clean_line(&line.as_bytes()[..length]), "{length}");
        }
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        let target = proptest::collection::vec(
            prop_oneof![Just(b'?'), Just(b'"'), Just(b'#'), Just(b' '), 0x21_u8..=0xff],
            0..120,
        );
        (target, proptest::collection::vec(any::<u8>(), 0..80)).prop_map(|(target, behind)| {
            [b"GET /".to_vec(), target, b" HTTP/1.1\r\n".to_vec(), behind].concat()
        })
    }

    proptest! {
        #[test]
        fn parts_do_not_matter_and_nothing_behind_the_line_changes(line in line(), at: proptest::sample::Index) {
            let whole = read(&[&line]);
            let (first, second) = line.split_at(at.index(line.len()));
            prop_assert_eq!(&read(&[first, second]), &whole);
            let end = |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'\n').unwrap();
            let (sent, kept) = (&line[end(&line)..], &whole[end(&whole)..]);
            prop_assert_eq!(sent, kept);
            // Decoding gives back what was sent, but for escapes that were there before.
            let target = &line[..end(&line)];
            if !target.contains(&b'%') {
                let decoded: Vec<u8> = percent_encoding::percent_decode(&whole[..end(&whole)]).collect();
                prop_assert_eq!(&decoded, target);
            }
        }
    }
}
