//! Error responses: RFC 9457 problem details with a stable `code`.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use adtrack_proto::event::InvalidReason;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::domain::Refusal;

/// Seconds after which a client may try again. A rate limit admits at least one request per second, so a
/// retry is admitted then.
const RETRY_AFTER_SECONDS: &str = "1";

/// Why a request gets an error response.
#[derive(Debug)]
pub enum Problem {
    /// A tracking request is refused.
    Refused(Refusal),
    /// The program of a click is not valid and has no fallback page. The click is recorded.
    ProgramNotValid(InvalidReason),
    /// There is no such path.
    NotFound,
    /// The path does not accept this method; it accepts the named ones.
    MethodNotAllowed(&'static str),
    /// The request is not valid HTTP/1.1.
    MalformedRequest,
    /// The URI is longer than the parser reads.
    UriTooLong,
    /// The request did not arrive in time.
    RequestTimeout,
    /// More connections are open than the listener serves.
    TooManyConnections,
}

impl Problem {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => match refusal {
                Refusal::InvalidProgramId(_)
                | Refusal::InvalidParameters(_)
                | Refusal::ParameterMismatch(_)
                | Refusal::InvalidBody(_)
                | Refusal::UrlNotAllowed(_) => StatusCode::BAD_REQUEST,
                Refusal::InvalidSignature => StatusCode::FORBIDDEN,
                Refusal::PayloadTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
                Refusal::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Refusal::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                Refusal::ProgramNotFound => StatusCode::NOT_FOUND,
                Refusal::RateLimited => StatusCode::TOO_MANY_REQUESTS,
                Refusal::CoreDataUnavailable
                | Refusal::ConversionKeyUnavailable
                | Refusal::Overloaded
                | Refusal::Draining => StatusCode::SERVICE_UNAVAILABLE,
            },
            Self::ProgramNotValid(_) => StatusCode::GONE,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::MalformedRequest => StatusCode::BAD_REQUEST,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooManyConnections => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The stable code by which clients recognize the problem.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::ProgramNotValid(_) => "program_not_valid",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::MalformedRequest => "malformed_request",
            Self::UriTooLong => "uri_too_long",
            Self::RequestTimeout => "request_timeout",
            Self::TooManyConnections => Refusal::Overloaded.code(),
        }
    }

    /// The parameter that the problem is about, if it names one: short, and fit for a header.
    pub(super) fn parameter(&self) -> Option<String> {
        match self {
            Self::Refused(refusal) => refusal.parameter(),
            _ => None,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.to_string(),
            Self::ProgramNotValid(reason) => match reason {
                InvalidReason::ProgramDisabled => "the program is disabled",
                InvalidReason::ProgramNotStarted => "the program has not started",
                InvalidReason::ProgramEnded => "the program has ended",
            }
            .to_owned(),
            Self::NotFound => "there is nothing at this path".to_owned(),
            Self::MethodNotAllowed(allowed) => format!("this path accepts {allowed}"),
            Self::MalformedRequest => {
                "the request is not valid HTTP/1.1: check the request line, `Host`, \
                 `Content-Length` and `Transfer-Encoding`; no part of a URL may have a space"
                    .to_owned()
            }
            Self::UriTooLong => "the URI is longer than 65,534 bytes".to_owned(),
            Self::RequestTimeout => "the request did not arrive in time".to_owned(),
            Self::TooManyConnections => "too many connections are open".to_owned(),
        }
    }

    /// The problem as an item's result in the response to a batch.
    pub(super) fn to_json(&self) -> Value {
        json!({"status": self.status().as_u16(), "code": self.code(), "detail": self.detail()})
    }

    /// The whole response as bytes, for a connection that is closed afterwards, before or without a handler.
    pub(super) fn to_bytes(&self) -> Bytes {
        let status = self.status();
        let mut body = self.to_json();
        body["title"] = json!(status.canonical_reason());
        let body = body.to_string();
        let retry_after = match status {
            StatusCode::SERVICE_UNAVAILABLE => format!("retry-after: {RETRY_AFTER_SECONDS}\r\n"),
            _ => String::new(),
        };
        let (reason, length) = (status.canonical_reason().unwrap_or_default(), body.len());
        let code = status.as_u16();
        format!(
            "HTTP/1.1 {code} {reason}\r\ncontent-type: application/problem+json\r\n\
             cache-control: no-store\r\n{retry_after}content-length: {length}\r\n\
             connection: close\r\n\r\n{body}"
        )
        .into()
    }

    /// The response.
    pub fn to_response(&self) -> HttpResponse {
        let status = self.status();
        let mut response = HttpResponse::build(status);
        response
            .insert_header((CONTENT_TYPE, "application/problem+json"))
            .insert_header((CACHE_CONTROL, "no-store"));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS));
        }
        if let Self::MethodNotAllowed(allowed) = self {
            response.insert_header((ALLOW, *allowed));
        }
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            // RFC 9110, section 12.5.3: the encodings that a body may have.
            response.insert_header((ACCEPT_ENCODING, "gzip, identity"));
        }
        let mut body = self.to_json();
        body["title"] = json!(status.canonical_reason());
        response.body(body.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_lists_every_code() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/API.md");
        let page = std::fs::read_to_string(page).unwrap();
        let code_of = |row: &str| {
            let (status, rest) = row.strip_prefix("| ")?.split_once(" | `")?;
            let (code, _) = rest.split_once('`')?;
            status.parse::<u16>().is_ok().then(|| code.to_owned())
        };
        let mut documented: Vec<_> = page.lines().filter_map(code_of).collect();
        documented.sort();

        let others = [
            Problem::ProgramNotValid(InvalidReason::ProgramEnded),
            Problem::NotFound,
            Problem::MethodNotAllowed("GET"),
            Problem::MalformedRequest,
            Problem::UriTooLong,
            Problem::RequestTimeout,
        ];
        let mut codes: Vec<_> = Refusal::codes().chain(others.iter().map(Problem::code)).collect();
        codes.sort_unstable();
        assert_eq!(documented, codes);
    }
}
