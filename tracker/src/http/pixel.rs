//! Answers for image tags.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};

use super::problem::{Problem, RETRY_AFTER_SECONDS};

/// A transparent picture of one pixel: GIF89a, as small as browsers take it.
pub(super) const GIF: &[u8; 43] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff\
    \x21\xf9\x04\x01\x00\x00\x00\x00\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b";

/// Carries a problem's code, where the body is a picture.
const ADTRACK_PROBLEM: HeaderName = HeaderName::from_static("adtrack-problem");

/// The picture: with 200 where the event is recorded; else with the problem's status and its code in
/// `Adtrack-Problem`, so that no page shows a broken picture.
pub(super) fn pixel(outcome: Result<(), Problem>) -> HttpResponse {
    let status = outcome.as_ref().map_or_else(Problem::status, |()| StatusCode::OK);
    let mut response = HttpResponse::build(status);
    response.insert_header((CONTENT_TYPE, "image/gif")).insert_header((CACHE_CONTROL, "no-store"));
    if let Err(problem) = outcome {
        response.insert_header((ADTRACK_PROBLEM, problem.code()));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS));
    }
    response.body(&GIF[..])
}
