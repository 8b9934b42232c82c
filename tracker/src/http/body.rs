//! Bodies of requests: their kind, and their bytes within a bound. How long they may take is the
//! connection's affair.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use futures::StreamExt;

use crate::domain::Refusal;

/// The media type of the body, without parameters, in lower case; empty where none is named.
pub(super) fn media_type(request: &HttpRequest) -> String {
    let value = header(request, CONTENT_TYPE);
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn header(request: &HttpRequest, name: HeaderName) -> &str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Bytes of bodies that are held at a time, over all connections. Each connection may hold one, and there
/// may be many.
const MAX_HELD_BYTES: usize = 256 << 20;

/// The bodies that requests hold now.
#[derive(Debug, Default)]
pub struct Bodies {
    held: AtomicUsize,
}

/// What one request holds of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Share<'a> {
    bodies: &'a Bodies,
    bytes: usize,
}

impl Bodies {
    /// The body, of at most `limit` bytes, and its share of what may be held.
    pub(super) async fn read(
        &self,
        request: &HttpRequest,
        payload: &mut Payload,
        limit: usize,
    ) -> Result<(Bytes, Share<'_>), Refusal> {
        let announced = header(request, CONTENT_LENGTH).parse().unwrap_or(0_usize);
        if announced > limit {
            return Err(too_large(limit));
        }
        let mut share = Share { bodies: self, bytes: 0 };
        let mut body = BytesMut::with_capacity(announced);
        while let Some(part) = payload.next().await {
            let part =
                part.map_err(|_| Refusal::InvalidBody("the body is cut short".to_owned()))?;
            if body.len() + part.len() > limit {
                return Err(too_large(limit));
            }
            share.grow(part.len())?;
            body.extend_from_slice(&part);
        }
        Ok((body.freeze(), share))
    }
}

impl Share<'_> {
    fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.bytes += bytes;
        let held = self.bodies.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held > MAX_HELD_BYTES { Err(Refusal::Overloaded) } else { Ok(()) }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.bodies.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The body as it was before `Content-Encoding`, of at most `limit` bytes: what is longer is not
/// inflated further.
pub(super) fn decoded(request: &HttpRequest, body: Bytes, limit: usize) -> Result<Bytes, Refusal> {
    match header(request, CONTENT_ENCODING).trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(body),
        "gzip" | "x-gzip" => inflate(&body, limit),
        _ => Err(Refusal::UnsupportedMediaType("the body's encoding is gzip or none")),
    }
}

fn inflate(body: &[u8], limit: usize) -> Result<Bytes, Refusal> {
    let mut inflated = Vec::with_capacity((4 * body.len()).min(limit));
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(body)
        .take(one_more)
        .read_to_end(&mut inflated)
        .map_err(|_| Refusal::InvalidBody("the body is not gzip, or cut short".to_owned()))?;
    if inflated.len() > limit { Err(too_large(limit)) } else { Ok(inflated.into()) }
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
    fn gzip_is_inflated_up_to_the_bound() {
        let data = vec![b'x'; 1_000];
        assert_eq!(inflate(&gzip(&data), 1_000).unwrap(), data);
        assert_eq!(inflate(&gzip(&data), 999).unwrap_err().code(), "payload_too_large");
        let halves = [gzip(&data[..400]), gzip(&data[400..])].concat();
        assert_eq!(inflate(&halves, 1_000).unwrap(), data, "RFC 1952: members follow each other");
        // A thousandfold.
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 1 << 17);
        assert_eq!(inflate(&bomb, 1 << 20).unwrap_err().code(), "payload_too_large");
    }

    #[test]
    fn all_bodies_together_are_bounded() {
        let bodies = Bodies::default();
        let share = || Share { bodies: &bodies, bytes: 0 };
        let (mut first, mut second) = (share(), share());
        assert_eq!(first.grow(MAX_HELD_BYTES), Ok(()));
        assert_eq!(second.grow(1), Err(Refusal::Overloaded));
        drop(second);
        drop(first);
        assert_eq!(share().grow(MAX_HELD_BYTES), Ok(()));
        assert_eq!(bodies.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_no_gzip_is_said_to_be_none() {
        let cut = gzip(b"hello");
        for body in [&b"hello"[..], b"", &cut[..cut.len() - 1], &[&cut[..], b"junk"].concat()] {
            assert_eq!(inflate(body, 100).unwrap_err().code(), "invalid_body");
        }
    }
}
