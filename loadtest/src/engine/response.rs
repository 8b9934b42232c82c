//! Parses HTTP/1.1 responses, as far as a load test needs them. Pure.

use std::ops::Range;

use memchr::memmem;

/// The longest head that is accepted.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The longest body that is accepted.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
const MAX_HEADERS: usize = 64;

/// A complete response at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    /// Status, from 200 to 599: responses of 1xx before it are skipped.
    pub status: u16,
    /// The body.
    pub body: Body,
    /// Position behind the response in the buffer.
    pub end: usize,
    /// Whether the server closes the connection after it.
    pub closes: bool,
    /// The message id in `Adtrack-Event-Id`, or else the one that `Location` carries in its query.
    pub event_id: Option<u128>,
    /// Whether the server says, by `Adtrack-Recorded: false`, that the event is not recorded.
    pub is_unrecorded: bool,
}

/// The body of a response.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// Position in the buffer.
    At(Range<usize>),
    /// The chunks of a chunked body, put together.
    Joined(Vec<u8>),
}

impl Body {
    /// The bytes of the body of a response in `buffer`.
    pub fn bytes<'a>(&'a self, buffer: &'a [u8]) -> &'a [u8] {
        match self {
            Self::At(range) => buffer.get(range.clone()).unwrap_or_default(),
            Self::Joined(bytes) => bytes,
        }
    }
}

/// Outcome of parsing the bytes received so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The start of a response.
    Partial,
    /// A complete response.
    Whole(Response),
    /// Not HTTP, or a response that is too long.
    Malformed,
}

/// How the end of a body is found (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClosed,
}

#[derive(Clone, Copy)]
struct Head {
    status: u16,
    length: usize,
    framing: Framing,
    closes: bool,
    event_id: Option<u128>,
    is_unrecorded: bool,
}

/// Parses the bytes received so far. `is_head`: the response to a `HEAD` request, which never has a
/// body. `is_closed`: no further bytes will come.
pub fn parse(bytes: &[u8], is_head: bool, is_closed: bool) -> Parsed {
    let mut start = 0;
    loop {
        let head = match parse_head(&bytes[start..]) {
            Ok(Some(head)) => head,
            Ok(None) => return Parsed::Partial,
            Err(Malformed) => return Parsed::Malformed,
        };
        start += head.length;
        // An interim response; the final one follows. A switch of protocols was not asked for.
        if head.status < 200 {
            if head.status == 101 || start > MAX_HEAD_BYTES {
                return Parsed::Malformed;
            }
            continue;
        }
        return finish(bytes, start, head, is_head, is_closed);
    }
}

struct Malformed;

/// Parses a head at the start of `bytes`; `None` if it is incomplete.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() <= MAX_HEAD_BYTES => return Ok(None),
        Ok(httparse::Status::Partial) | Err(_) => return Err(Malformed),
    };
    let status = response.code.filter(|code| (100..600).contains(code)).ok_or(Malformed)?;
    let is_http_1_0 = response.version == Some(0);
    let mut head = Head {
        status,
        length,
        framing: Framing::UntilClosed,
        closes: is_http_1_0,
        event_id: None,
        is_unrecorded: false,
    };
    let mut location = None;
    for header in response.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let bytes = content_length(header.value)?;
            match head.framing {
                Framing::Length(other) if other != bytes => return Err(Malformed),
                Framing::Chunked => {}
                _ => head.framing = Framing::Length(bytes),
            }
        } else if is("transfer-encoding") {
            head.framing = if is_last(header.value, b"chunked") {
                Framing::Chunked
            } else {
                Framing::UntilClosed
            };
        } else if is("connection") {
            let has = |wanted| tokens(header.value).any(|token| token.eq_ignore_ascii_case(wanted));
            head.closes = has(b"close") || (head.closes && !has(b"keep-alive"));
        } else if is("adtrack-event-id") {
            head.event_id = uuid(header.value);
        } else if is("adtrack-recorded") {
            head.is_unrecorded = header.value.eq_ignore_ascii_case(b"false");
        } else if is("location") {
            location = Some(header.value);
        }
    }
    if let (None, Some(location)) = (head.event_id, location) {
        head.event_id = id_in_query(location);
    }
    Ok(Some(head))
}

fn content_length(value: &[u8]) -> Result<usize, Malformed> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    let text = std::str::from_utf8(digits).unwrap_or_default();
    text.parse::<usize>().ok().filter(|bytes| *bytes <= MAX_BODY_BYTES).ok_or(Malformed)
}

/// The elements of a header's comma-separated value.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn is_last(value: &[u8], wanted: &[u8]) -> bool {
    tokens(value).last().is_some_and(|token| token.eq_ignore_ascii_case(wanted))
}

fn uuid(text: &[u8]) -> Option<u128> {
    uuid::Uuid::try_parse_ascii(text.trim_ascii()).ok().map(|id| id.as_u128())
}

/// The id in the query of a redirect's target, if there is exactly one: of two, it is not known which is
/// the event's.
fn id_in_query(location: &[u8]) -> Option<u128> {
    let query = location.splitn(2, |byte| *byte == b'?').nth(1)?;
    let values = query.split(|byte| matches!(byte, b'&' | b'#'));
    let mut ids = values.filter_map(|pair| uuid(pair.splitn(2, |byte| *byte == b'=').nth(1)?));
    let id = ids.next()?;
    ids.next().is_none().then_some(id)
}

/// The response whose body starts at `start`, once all of it is there.
fn finish(bytes: &[u8], start: usize, head: Head, is_head: bool, is_closed: bool) -> Parsed {
    let has_no_body = is_head || head.status == 204 || head.status == 304;
    let framing = if has_no_body { Framing::Length(0) } else { head.framing };
    let (body, end) = match framing {
        Framing::Length(length) if bytes.len() < start + length => return Parsed::Partial,
        Framing::Length(length) => (Body::At(start..start + length), start + length),
        Framing::UntilClosed if bytes.len() - start > MAX_BODY_BYTES => return Parsed::Malformed,
        Framing::UntilClosed if !is_closed => return Parsed::Partial,
        Framing::UntilClosed => (Body::At(start..bytes.len()), bytes.len()),
        Framing::Chunked => match join_chunks(bytes, start) {
            Ok(Some((body, end))) => (Body::Joined(body), end),
            Ok(None) => return Parsed::Partial,
            Err(Malformed) => return Parsed::Malformed,
        },
    };
    Parsed::Whole(Response {
        status: head.status,
        body,
        end,
        closes: head.closes || framing == Framing::UntilClosed,
        event_id: head.event_id,
        is_unrecorded: head.is_unrecorded,
    })
}

/// Puts the chunks from `at` on together, and returns them with the position behind the trailers. `None`
/// if the last chunk has not come yet. Nothing in adtrack sends chunks: this is not the usual path.
#[cold]
fn join_chunks(bytes: &[u8], mut at: usize) -> Result<Option<(Vec<u8>, usize)>, Malformed> {
    let mut body = Vec::new();
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let (head, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(chunk)) => chunk,
            Ok(httparse::Status::Partial) if rest.len() <= MAX_HEAD_BYTES => return Ok(None),
            _ => return Err(Malformed),
        };
        at += head;
        let size = usize::try_from(size).map_err(|_| Malformed)?;
        if size == 0 {
            return Ok(end_of_trailers(bytes, at)?.map(|end| (body, end)));
        }
        if body.len() + size > MAX_BODY_BYTES {
            return Err(Malformed);
        }
        let Some(chunk) = bytes.get(at..at + size) else { return Ok(None) };
        match bytes.get(at + size..at + size + 2) {
            None => return Ok(None),
            Some(b"\r\n") => {}
            Some(_) => return Err(Malformed),
        }
        body.extend_from_slice(chunk);
        at += size + 2;
    }
}

/// Position behind the empty line that ends the trailers.
fn end_of_trailers(bytes: &[u8], mut at: usize) -> Result<Option<usize>, Malformed> {
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(line) = memmem::find(rest, b"\r\n") else {
            return if rest.len() > MAX_HEAD_BYTES { Err(Malformed) } else { Ok(None) };
        };
        at += line + 2;
        if line == 0 {
            return Ok(Some(at));
        }
    }
}

/// The number of refused events that the response to a batch states; 0 if it states none.
#[cold]
pub fn refused(body: &[u8]) -> u64 {
    const MEMBER: &[u8] = b"\"refused\":";
    let Some(at) = memmem::find(body, MEMBER) else { return 0 };
    let digits = body[at + MEMBER.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

/// The values of `messageId` in a JSON body, as numbers. A value that is not a UUID is skipped.
pub fn message_ids(body: &[u8]) -> impl Iterator<Item = u128> {
    const MEMBER: &[u8] = b"\"messageId\":\"";
    memmem::find_iter(body, MEMBER).filter_map(|at| {
        let start = at + MEMBER.len();
        let text = body.get(start..start + 36)?;
        uuid::Uuid::try_parse_ascii(text).ok().map(|id| id.as_u128())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

    fn whole(text: &str) -> Response {
        match parse(text.as_bytes(), false, false) {
            Parsed::Whole(response) => response,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn response_is_complete_with_its_last_byte() {
        let chunked = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\nt: 1\r\n\r\n";
        for response in [RESPONSE, chunked] {
            for end in 0..response.len() {
                assert_eq!(parse(&response[..end], false, false), Parsed::Partial, "{end}");
            }
            let Parsed::Whole(whole) = parse(response, false, false) else { panic!("not whole") };
            assert_eq!((whole.status, whole.end, whole.closes), (200, response.len(), false));
            assert_eq!(whole.body.bytes(response), b"hello");
        }
    }

    #[test]
    fn finds_the_end_of_a_body() {
        let head = |text: &str| match parse(text.as_bytes(), true, false) {
            Parsed::Whole(response) => (response.status, response.end),
            other => panic!("{other:?}"),
        };
        assert_eq!(head("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), (200, 38));
        assert_eq!(whole("HTTP/1.1 204 No Content\r\n\r\n").end, 27);
        let until_closed = b"HTTP/1.1 200 OK\r\n\r\nhello";
        assert_eq!(parse(until_closed, false, false), Parsed::Partial);
        let Parsed::Whole(closed) = parse(until_closed, false, true) else { panic!("closed") };
        assert_eq!((closed.body.bytes(until_closed), closed.closes), (&b"hello"[..], true));
    }

    #[test]
    fn knows_whether_the_connection_is_closed() {
        for (version, connection, closes) in [
            ("1.1", "Connection: Close", true),
            ("1.1", "Connection: foo, close", true),
            ("1.1", "Connection: close-later", false),
            ("1.1", "x: close", false),
            ("1.0", "x: y", true),
            ("1.0", "Connection: keep-alive", false),
        ] {
            let text = format!("HTTP/{version} 404 N\r\nContent-Length: 0\r\n{connection}\r\n\r\n");
            assert_eq!(whole(&text).closes, closes, "{text}");
        }
    }

    #[test]
    fn rejects_what_is_not_http() {
        for text in [
            "SSH-2.0-OpenSSH_9.2\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 999 ?\r\ncontent-length: 0\r\n\r\n",
        ] {
            assert_eq!(parse(text.as_bytes(), false, false), Parsed::Malformed, "{text}");
        }
        let endless = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'y'; MAX_HEAD_BYTES]].concat();
        assert_eq!(parse(&endless, false, false), Parsed::Malformed);
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000);
        assert_eq!(parse(&interim, false, false), Parsed::Malformed);
    }

    #[test]
    fn reads_the_event_id_from_the_headers() {
        const ID: &str = "01a1fd87-81ac-7202-b10a-070d1de87f87";
        const OTHER: &str = "01a1fd87-81ac-7202-b10a-070d1de87f88";
        let number = uuid::Uuid::parse_str(ID).unwrap().as_u128();
        for (headers, expected) in [
            (format!("Adtrack-Event-Id: {ID}"), Some(number)),
            (format!("Location: https://s.example/p?a=1&click_id={ID}#f"), Some(number)),
            (
                format!("Location: https://s.example/?x={OTHER}\r\nadtrack-event-id: {ID}"),
                Some(number),
            ),
            (format!("Location: https://s.example/?x={OTHER}&y={ID}"), None),
            (format!("Location: https://s.example/{ID}"), None),
            ("Adtrack-Event-Id: none".to_owned(), None),
        ] {
            let text = format!("HTTP/1.1 302 Found\r\ncontent-length: 0\r\n{headers}\r\n\r\n");
            assert_eq!(whole(&text).event_id, expected, "{headers}");
        }
        let unrecorded = "HTTP/1.1 302 F\r\ncontent-length: 0\r\nAdtrack-Recorded: false\r\n\r\n";
        assert!(whole(unrecorded).is_unrecorded);
    }

    #[test]
    fn reads_how_many_events_a_batch_refused() {
        assert_eq!(refused(br#"{"accepted":2,"refused":13,"results":[]}"#), 13);
        assert_eq!(refused(b"{}"), 0);
    }

    #[test]
    fn finds_every_message_id() {
        let id = "01a1fd87-81ac-7202-b10a-070d1de87f87";
        let body = format!(
            r#"[{{"messageId":"{id}","valid":true}},{{"messageId":"short"}},{{"messageId":"{id}"}}]"#
        );
        let expected = uuid::Uuid::parse_str(id).unwrap().as_u128();
        assert_eq!(message_ids(body.as_bytes()).collect::<Vec<_>>(), [expected, expected]);
        assert_eq!(message_ids(br#"{"messageId":""#).count(), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse(&bytes, false, false), parse(&bytes, true, true), refused(&bytes));
            let chunks = [b"HTTP/1.1 200 O\r\ntransfer-encoding: chunked\r\n\r\n".as_slice(), &bytes].concat();
            let _ = parse(&chunks, false, true);
            let _ = message_ids(&bytes).count();
        }
    }
}
