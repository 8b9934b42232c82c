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
    /// Status, from 100 to 599.
    pub status: u16,
    /// Position of the body in the buffer.
    pub body: Range<usize>,
    /// Whether the server closes the connection after it.
    pub closes: bool,
}

/// Outcome of parsing the bytes received so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The start of a response.
    Partial,
    /// A complete response.
    Whole(Response),
    /// Not HTTP, or a response whose end is unknown.
    Malformed,
}

/// Parses the bytes received so far. `is_head`: the response to a `HEAD` request, which never has a
/// body.
///
/// A body needs a `Content-Length`. Chunked bodies are malformed: adtrack sends none.
pub fn parse(bytes: &[u8], is_head: bool) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() <= MAX_HEAD_BYTES => return Parsed::Partial,
        Ok(httparse::Status::Partial) | Err(_) => return Parsed::Malformed,
    };
    let Some(status) = response.code.filter(|code| (100..600).contains(code)) else {
        return Parsed::Malformed;
    };
    let mut closes = response.version == Some(0);
    let mut length = None;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).unwrap_or_default();
            length = match text.trim().parse::<usize>() {
                Ok(bytes) if bytes <= MAX_BODY_BYTES => Some(bytes),
                _ => return Parsed::Malformed,
            };
        } else if header.name.eq_ignore_ascii_case("connection") {
            closes = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    let has_no_body = is_head || status < 200 || status == 204 || status == 304;
    let Some(length) = (if has_no_body { Some(0) } else { length }) else {
        return Parsed::Malformed;
    };
    if bytes.len() < head + length {
        return Parsed::Partial;
    }
    Parsed::Whole(Response { status, body: head..head + length, closes })
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

    #[test]
    fn response_is_complete_with_its_last_byte() {
        for end in 0..RESPONSE.len() {
            assert_eq!(parse(&RESPONSE[..end], false), Parsed::Partial, "{end}");
        }
        let whole = Response { status: 200, body: 38..43, closes: false };
        assert_eq!(parse(RESPONSE, false), Parsed::Whole(whole));
    }

    #[test]
    fn finds_the_end_of_a_body() {
        let head = |text: &str| parse(text.as_bytes(), true);
        let get = |text: &str| parse(text.as_bytes(), false);
        let whole = |status, at, closes| Parsed::Whole(Response { status, body: at..at, closes });
        assert_eq!(head("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), whole(200, 38, false));
        assert_eq!(get("HTTP/1.1 204 No Content\r\n\r\n"), whole(204, 27, false));
        assert_eq!(
            get("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n"),
            whole(404, 64, true)
        );
    }

    #[test]
    fn rejects_a_response_of_unknown_length() {
        for text in [
            "SSH-2.0-OpenSSH_9.2\r\n",
            "HTTP/1.1 200 OK\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
            "HTTP/1.1 999 ?\r\ncontent-length: 0\r\n\r\n",
        ] {
            assert_eq!(parse(text.as_bytes(), false), Parsed::Malformed, "{text}");
        }
        let endless = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'y'; MAX_HEAD_BYTES]].concat();
        assert_eq!(parse(&endless, false), Parsed::Malformed);
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
            let _ = parse(&bytes, false);
            let _ = message_ids(&bytes).count();
        }
    }
}
