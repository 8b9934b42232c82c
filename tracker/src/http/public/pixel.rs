//! Responses to image tags: a picture whatever happens, so that no page shows a broken one.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};

use crate::http::problem::Problem;

/// One transparent pixel: GIF89a, a palette of two colours of which the first is transparent.
pub(super) const GIF: &[u8; 43] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff\
    !\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// The message id of the event that was recorded.
pub(super) const EVENT_ID: HeaderName = HeaderName::from_static("adtrack-event-id");
/// The code of the problem, where the body has no room for it.
pub(super) const PROBLEM: HeaderName = HeaderName::from_static("adtrack-problem");

/// What a path may end with, for software that recognizes a picture by its ending alone. For an id that
/// itself ends so, the path has the ending twice.
pub(super) const ENDING: &str = ".gif";

/// The pixel of a request that is accepted.
pub(super) fn pixel() -> HttpResponse {
    with_pixel(HttpResponse::Ok().finish())
}

/// The pixel of a request that is refused: with status and headers of the problem's own response, and its
/// code in a header.
pub(super) fn problem_pixel(problem: &Problem) -> HttpResponse {
    let mut response = problem.to_response();
    response.headers_mut().insert(PROBLEM, HeaderValue::from_static(problem.code()));
    with_pixel(response)
}

fn with_pixel(response: HttpResponse) -> HttpResponse {
    let mut response = response.set_body(&GIF[..]).map_into_boxed_body();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("image/gif"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::RETRY_AFTER;

    use super::*;
    use crate::domain::Refusal;

    #[test]
    fn a_problem_keeps_its_status_and_headers() {
        let response = problem_pixel(&Refusal::Overloaded.into());
        assert_eq!(response.status(), 503);
        for (name, value) in
            [(PROBLEM, "overloaded"), (RETRY_AFTER, "1"), (CONTENT_TYPE, "image/gif")]
        {
            assert_eq!(response.headers().get(&name).unwrap(), value);
        }
    }
}
