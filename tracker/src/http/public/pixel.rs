//! Responses to image tags: always an image, errors included, so that no page shows a broken one.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};

use crate::http::problem::Problem;

/// One transparent pixel: GIF89a, with a palette of two colors of which the first is transparent.
pub(super) const GIF: &[u8; 43] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff\
    !\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// The header with the message id of the recorded event.
pub(super) const EVENT_ID: HeaderName = HeaderName::from_static("adtrack-event-id");
/// The header with the problem's code and the parameter that it is about, for responses whose body cannot carry
/// them: `invalid_parameters; parameter=currency` (a value with a parameter, as in RFC 9651).
pub(super) const PROBLEM: HeaderName = HeaderName::from_static("adtrack-problem");

/// Optional extension of a pixel's path, for software that recognizes images by their extension alone. If the
/// program's id itself ends in `.gif`, the path needs another `.gif`.
pub(super) const ENDING: &str = ".gif";

/// The response to an accepted request.
pub(super) fn pixel() -> HttpResponse {
    with_pixel(HttpResponse::Ok().finish())
}

/// The response to a refused request: status and headers are those of the problem's own response, and a
/// header has its code.
pub(super) fn problem_pixel(problem: &Problem) -> HttpResponse {
    let mut response = problem.to_response();
    let code = problem.code();
    let value = match problem.parameter() {
        Some(parameter) => HeaderValue::try_from(format!("{code}; parameter={parameter}")),
        None => Ok(HeaderValue::from_static(code)),
    };
    response.headers_mut().insert(PROBLEM, value.unwrap_or(HeaderValue::from_static(code)));
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
    fn keeps_status_and_headers_of_a_problem() {
        let response = problem_pixel(&Refusal::Overloaded.into());
        assert_eq!(response.status(), 503);
        for (name, value) in
            [(PROBLEM, "overloaded"), (RETRY_AFTER, "1"), (CONTENT_TYPE, "image/gif")]
        {
            assert_eq!(response.headers().get(&name).unwrap(), value);
        }
        let response = problem_pixel(&Refusal::nested("currency").into());
        let named = "invalid_parameters; parameter=currency";
        assert_eq!(response.headers().get(PROBLEM).unwrap(), named);
    }
}
