//! Reads request bodies within size limits. [`super::connection`] limits how long a body may take.

use std::io::Read;

use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use bytes::{Bytes, BytesMut};
use flate2::bufread::GzDecoder;
use futures::StreamExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::connection::on_body_read;
use crate::domain::Refusal;

/// What a client says about its body: a hint. Its first bytes say what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MediaType {
    Form,
    /// JSON, NDJSON, or a format based on JSON (RFC 6839).
    Json,
    /// Anything else that may be either: none at all, text, or just bytes.
    Unspecific,
}

impl MediaType {
    /// The media type of the body. Refuses one that says that the body is neither JSON nor a form.
    pub(super) fn of(request: &HttpRequest) -> Result<Self, Refusal> {
        Self::parse(header(request, CONTENT_TYPE)).ok_or(Refusal::UnsupportedMediaType(
            "the body must be JSON, NDJSON or (for a conversion) a form; its Content-Type may be \
             application/json, application/x-ndjson, application/x-www-form-urlencoded, text/plain, \
             application/octet-stream, or missing",
        ))
    }

    fn parse(header: &str) -> Option<Self> {
        // Without parameters; of a list, as from clients that set it twice, the first.
        let name = header.split([';', ',']).next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_json =
            name.ends_with("json") || name.ends_with("jsonl") || name.ends_with("json-lines");
        let is_markup = name.contains("xml") || name.contains("html");
        match name.split_once('/') {
            None => Some(Self::Unspecific),
            Some(("application" | "text", "x-www-form-urlencoded")) => Some(Self::Form),
            Some(("application" | "text", subtype))
                if is_json || subtype.ends_with("jsonlines") =>
            {
                Some(Self::Json)
            }
            Some(("text", _)) if !is_markup => Some(Self::Unspecific),
            Some(
                ("application" | "binary", "octet-stream")
                | ("application", "gzip" | "x-gzip")
                | ("*", "*"),
            ) => Some(Self::Unspecific),
            Some(_) => None,
        }
    }
}

fn header(request: &HttpRequest, name: HeaderName) -> &str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The maximum size of all bodies in memory, in bytes: each of many connections may have a body.
const MAX_HELD_BYTES: usize = 256 << 20;

/// Bounds the bytes of all bodies in memory: one permit per byte.
#[derive(Debug)]
pub struct BodyBudget(Semaphore);

impl Default for BodyBudget {
    fn default() -> Self {
        Self(Semaphore::new(MAX_HELD_BYTES))
    }
}

impl BodyBudget {
    /// Reads a body of at most `limit` bytes. The caller keeps the permit for as long as the body.
    pub(super) async fn read(
        &self,
        request: &HttpRequest,
        payload: &mut Payload,
        limit: usize,
    ) -> Result<(Bytes, SemaphorePermit<'_>), Refusal> {
        let announced = header(request, CONTENT_LENGTH).parse().unwrap_or(0_usize);
        if announced > limit {
            return Err(too_large(limit));
        }
        // Empty; the parts' permits are merged into it.
        let mut permit = self.acquire(0)?;
        let mut body = BytesMut::with_capacity(announced);
        while let Some(part) = payload.next().await {
            let part =
                part.map_err(|_| Refusal::InvalidBody("the body is incomplete".to_owned()))?;
            if body.len() + part.len() > limit {
                return Err(too_large(limit));
            }
            permit.merge(self.acquire(part.len())?);
            body.extend_from_slice(&part);
        }
        on_body_read(request);
        Ok((body.freeze(), permit))
    }

    fn acquire(&self, bytes: usize) -> Result<SemaphorePermit<'_>, Refusal> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.0.try_acquire_many(bytes).map_err(|_| Refusal::Overloaded)
    }
}

/// A body without its encoding.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) bytes: Bytes,
    /// Whether it was compressed with gzip, though no header says so.
    pub(super) was_unannounced: bool,
}

/// Decodes the body according to its `Content-Encoding`. Without one, a body that begins as gzip does is
/// inflated, too. Stops inflating beyond `limit` bytes.
pub(super) fn decode(request: &HttpRequest, body: Bytes, limit: usize) -> Result<Decoded, Refusal> {
    let encoding = header(request, CONTENT_ENCODING).trim().to_ascii_lowercase();
    let is_announced = matches!(&*encoding, "gzip" | "x-gzip");
    if is_announced || body.starts_with(GZIP_MAGIC) {
        return Ok(Decoded { bytes: inflate(&body, limit)?, was_unannounced: !is_announced });
    }
    match &*encoding {
        "" | "identity" => Ok(Decoded { bytes: body, was_unannounced: false }),
        _ => {
            Err(Refusal::UnsupportedMediaType("the body's Content-Encoding must be gzip, or none"))
        }
    }
}

/// How a gzip stream begins (RFC 1952): its two magic bytes, and deflate, the only method. No form or JSON begins
/// like this.
const GZIP_MAGIC: &[u8] = b"\x1f\x8b\x08";

fn inflate(body: &[u8], limit: usize) -> Result<Bytes, Refusal> {
    let mut inflated = Vec::with_capacity((4 * body.len()).min(limit));
    let mut rest = body;
    // A gzip file may have several members (RFC 1952), and zeros behind the last one, as from tools that pad to
    // blocks.
    loop {
        let one_more = u64::try_from(limit - inflated.len()).unwrap_or(u64::MAX).saturating_add(1);
        let mut decoder = GzDecoder::new(rest).take(one_more);
        decoder.read_to_end(&mut inflated).map_err(|_| {
            Refusal::InvalidBody("the body is not gzip, or is incomplete".to_owned())
        })?;
        if inflated.len() > limit {
            return Err(too_large(limit));
        }
        rest = decoder.into_inner().into_inner();
        if rest.iter().all(|byte| *byte == 0) {
            return Ok(inflated.into());
        }
    }
}

/// The body without a byte-order mark, which some senders put before JSON (RFC 8259, section 8.1, lets readers
/// ignore it).
pub(super) fn without_byte_order_mark(mut body: &[u8]) -> &[u8] {
    while let Some(rest) = body.strip_prefix(b"\xef\xbb\xbf") {
        body = rest;
    }
    body
}

fn too_large(limit: usize) -> Refusal {
    Refusal::PayloadTooLarge(format!("the body has more than {limit} bytes"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn inflates_gzip_up_to_the_limit() {
        let data = vec![b'x'; 1_000];
        assert_eq!(inflate(&gzip(&data), 1_000).unwrap(), data);
        assert_eq!(inflate(&gzip(&data), 999).unwrap_err().code(), "payload_too_large");
        let halves = [gzip(&data[..400]), gzip(&data[400..])].concat();
        assert_eq!(
            inflate(&halves, 1_000).unwrap(),
            data,
            "RFC 1952: a file may have several members"
        );
        // Inflates to more than 500 times its size.
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 1 << 17);
        assert_eq!(inflate(&bomb, 1 << 20).unwrap_err().code(), "payload_too_large");
        let padded = [gzip(&data), vec![0; 512]].concat();
        assert_eq!(inflate(&padded, 1_000).unwrap(), data);
    }

    #[test]
    fn takes_every_media_type_that_may_be_a_form_or_json() {
        for (header, expected) in [
            ("", Some(MediaType::Unspecific)),
            ("application/x-www-form-urlencoded; charset=UTF-8", Some(MediaType::Form)),
            ("Application/JSON;charset=utf-8", Some(MediaType::Json)),
            ("application/json, application/json", Some(MediaType::Json)),
            ("text/json", Some(MediaType::Json)),
            ("application/vnd.x+json", Some(MediaType::Json)),
            ("application/x-ndjson", Some(MediaType::Json)),
            ("application/ndjson", Some(MediaType::Json)),
            ("application/jsonl", Some(MediaType::Json)),
            ("application/x-jsonlines", Some(MediaType::Json)),
            ("application/json-lines", Some(MediaType::Json)),
            ("text/plain;charset=UTF-8", Some(MediaType::Unspecific)),
            ("text/csv", Some(MediaType::Unspecific)),
            ("application/octet-stream", Some(MediaType::Unspecific)),
            ("*/*", Some(MediaType::Unspecific)),
            ("json", Some(MediaType::Unspecific)),
            ("multipart/form-data; boundary=x", None),
            ("image/gif", None),
            ("application/xml", None),
            ("text/xml", None),
            ("text/html", None),
            ("application/pdf", None),
        ] {
            assert_eq!(MediaType::parse(header), expected, "{header}");
        }
    }

    #[test]
    fn bounds_all_bodies_together() {
        let bodies = BodyBudget::default();
        let first = bodies.acquire(MAX_HELD_BYTES);
        assert!(first.is_ok());
        assert_eq!(bodies.acquire(1).err(), Some(Refusal::Overloaded));
        drop(first);
        assert!(bodies.acquire(MAX_HELD_BYTES).is_ok());
        assert_eq!(bodies.0.available_permits(), MAX_HELD_BYTES);
    }

    #[test]
    fn reports_invalid_gzip() {
        let cut = gzip(b"hello");
        for body in [&b"hello"[..], b"", &cut[..cut.len() - 1], &[&cut[..], b"junk"].concat()] {
            assert_eq!(inflate(body, 100).unwrap_err().code(), "invalid_body");
        }
    }
}
