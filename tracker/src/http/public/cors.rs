//! Cross-origin requests of page scripts (Fetch standard, "CORS protocol"). Not a middleware: that would
//! cost every request, and there are few routes.

use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, HeaderValue, ORIGIN, VARY,
};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};
use url::Url;

/// Headers that a script may send, in addition to those that are always allowed.
const ALLOWED_HEADERS: &str = "Content-Type, Content-Encoding";
/// Headers that a script may read, in addition to those that are always allowed.
const EXPOSED_HEADERS: &str =
    "Adtrack-Event-Id, Adtrack-Problem, Adtrack-Recorded, Adtrack-Repaired, Retry-After";
/// Seconds for which a browser caches the response to a preflight: the most that any browser does.
const MAX_AGE_SECONDS: &str = "86400";

/// The origins whose scripts may read responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// Any origin, without cookies: with them, any page could act as its visitor.
    Any,
    /// These origins, with cookies.
    These(Vec<String>),
}

impl AllowedOrigins {
    /// Parses a setting: `*`, or exact origins.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let origins = text.split(',').map(str::trim).filter(|text| !text.is_empty());
        let origins = origins.map(|text| is_origin(text).then(|| text.to_owned()));
        origins.collect::<Option<_>>().map(Self::These).ok_or_else(|| {
            "expected `*`, or origins separated by commas: https://HOST or https://HOST:PORT, in \
             lower case, without a path"
                .to_owned()
        })
    }

    /// Adds headers to the `response` to `request` that let a page's script read it. A preflight (OPTIONS) got
    /// 405 from its route, which is how this learns from `Allow` which methods the path takes; the 405 is
    /// replaced by the response to the preflight.
    pub(super) fn apply(&self, request: &HttpRequest, response: HttpResponse) -> HttpResponse {
        if matches!(self, Self::These(origins) if origins.is_empty()) {
            return response;
        }
        let mut response = response;
        response.headers_mut().append(VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = request.headers().get(ORIGIN) else { return response };
        let methods = allowed_methods(request, &response);
        if let Some(methods) = &methods {
            response = HttpResponse::NoContent()
                .insert_header((ALLOW, methods.clone()))
                .insert_header((VARY, HeaderValue::from_static("Origin")))
                .finish();
        }
        let headers = response.headers_mut();
        match self {
            Self::Any => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            Self::These(origins) => {
                if !origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
                    return response;
                }
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                let with_cookies = HeaderValue::from_static("true");
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, with_cookies);
            }
        }
        if let Some(methods) = methods {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED_HEADERS));
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_SECONDS));
        } else {
            headers
                .insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
        }
        response
    }
}

/// The methods that the path takes; none if `request` is not a preflight.
fn allowed_methods(request: &HttpRequest, response: &HttpResponse) -> Option<HeaderValue> {
    let is_preflight = *request.method() == Method::OPTIONS
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        && response.status() == StatusCode::METHOD_NOT_ALLOWED;
    if is_preflight { response.headers().get(ALLOW).cloned() } else { None }
}

fn is_origin(text: &str) -> bool {
    // To a URL parser `*` is part of a host. Here it would look like a pattern, and patterns do not work.
    !text.contains('*')
        && Url::parse(text).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_exact_origins_only() {
        assert_eq!(AllowedOrigins::parse("*"), Ok(AllowedOrigins::Any));
        assert_eq!(AllowedOrigins::parse(""), Ok(AllowedOrigins::These(Vec::new())));
        let two = "https://shop.example, http://localhost:8000";
        let AllowedOrigins::These(origins) = AllowedOrigins::parse(two).unwrap() else { panic!() };
        assert_eq!(origins, ["https://shop.example", "http://localhost:8000"]);
        for text in [
            "shop.example",
            "https://shop.example/",
            "https://shop.example:443",
            "https://Shop.example",
            "https://*.shop.example",
            "*,https://shop.example",
            "null",
            "file:///x",
        ] {
            assert!(AllowedOrigins::parse(text).is_err(), "{text}");
        }
    }
}
