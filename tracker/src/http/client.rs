//! From headers to [`Client`].

use actix_web::HttpRequest;

use crate::domain::{Client, cut, host_name, without_query};

/// Who sent `request`.
pub(super) fn client(request: &HttpRequest) -> Client<'_> {
    let mut client = Client::default();
    // One pass: a look-up by name would hash every name that we know.
    for (name, value) in request.headers() {
        let value = value.as_bytes();
        match name.as_str() {
            "user-agent" => client.user_agent = cut(value),
            "referer" => client.referrer = cut(without_query(value)),
            "host" => client.host = host_name(value),
            _ => {}
        }
    }
    client
}
