//! Static documents: the script for pages, and the descriptions of the APIs.

use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ETAG, EntityTag, HeaderName,
    IfNoneMatch, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// A text that is compiled into the program.
#[derive(Debug)]
pub(in crate::http) struct Document {
    media_type: &'static str,
    text: &'static str,
}

/// `GET /adtrack.js`: the script for pages.
pub(in crate::http) const PAGE_SCRIPT: Document = Document {
    media_type: "text/javascript; charset=utf-8",
    text: include_str!("../../page/adtrack.js"),
};

/// `GET /openapi.yaml` of the public listener.
pub(in crate::http) const PUBLIC_API: Document =
    Document { media_type: OPENAPI, text: include_str!("../../openapi/public.yaml") };

/// `GET /openapi.yaml` of the management listener.
pub(in crate::http) const MANAGEMENT_API: Document =
    Document { media_type: OPENAPI, text: include_str!("../../openapi/management.yaml") };

/// RFC 9512.
const OPENAPI: &str = "application/yaml";

impl Document {
    /// The document, or 304 if the client already has it. The tag is computed for each request: these are
    /// rare, as responses are cached for an hour.
    pub(in crate::http) fn response(&self, request: &HttpRequest) -> HttpResponse {
        let tag = EntityTag::new_strong(format!("{:08x}", crc32fast::hash(self.text.as_bytes())));
        let known = match request.get_header::<IfNoneMatch>() {
            Some(IfNoneMatch::Any) => true,
            Some(IfNoneMatch::Items(tags)) => tags.iter().any(|one| one.weak_eq(&tag)),
            None => false,
        };
        let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        response
            .insert_header((ETAG, tag.to_string()))
            // Pages get a new version of the script within an hour, the description's readers likewise.
            .insert_header((CACHE_CONTROL, "public, max-age=3600"))
            .insert_header((CONTENT_TYPE, self.media_type))
            .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
            // So that pages of any origin can load it, including those that check its integrity.
            .insert_header((ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
            .insert_header((CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin"));
        if known { response.finish() } else { response.body(self.text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_lists_every_path() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/API.md");
        let page = std::fs::read_to_string(page).unwrap();
        let described = [PUBLIC_API.text, MANAGEMENT_API.text].join("\n");
        let paths =
            described.lines().filter_map(|line| line.strip_prefix("  /")?.strip_suffix(':'));

        // A path with an ending is documented with the one without.
        let missing: Vec<_> = paths
            .filter(|path| !page.contains(&format!("/{}`", path.trim_end_matches(".gif"))))
            .collect();

        assert_eq!(missing, [""; 0]);
    }
}
