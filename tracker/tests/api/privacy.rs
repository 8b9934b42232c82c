//! Which visitors the tracker recognises, which it does not track, and which pages may read responses.

use adtrack_proto::event::TrackingEvent;
use reqwest::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    HeaderMap, SET_COOKIE, VARY,
};
use reqwest::{Method, Response};

use crate::helpers::{Setup, TestApp};

const CONSENT: &str = "COvFyGBOvFyGBAbAAAENAPCAAOAAAAAAAAAAAEEUACCKAAA";
const VISITOR: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

async fn with_cookies(flags: &[&str]) -> TestApp {
    let cookie = ["--cookie-max-age-days=30"];
    Setup::flags(&[&cookie, flags].concat()).start().await
}

async fn get(app: &TestApp, path: &str, headers: &[(&str, &str)]) -> Response {
    let request = app.client.get(format!("{}{path}", app.url));
    let with = |request: reqwest::RequestBuilder, (name, value): &(&str, &str)| {
        request.header(*name, *value)
    };
    headers.iter().fold(request, with).send().await.unwrap()
}

/// Sends a request with these headers; returns the recorded event and the response's headers.
async fn record(app: &TestApp, path: &str, headers: &[(&str, &str)]) -> (TrackingEvent, HeaderMap) {
    let count = app.stream_events().await.len();
    let response = get(app, path, headers).await;
    assert_eq!(response.status(), 200, "{path} {headers:?}");
    let headers = response.headers().clone();
    (app.wait_for_events(count + 1).await.remove(count), headers)
}

#[tokio::test(flavor = "multi_thread")]
async fn recognises_no_visitor_by_default() {
    let app = Setup::default().start().await;
    let cookie = format!("adtrack_id={VISITOR}");
    let (event, headers) = record(&app, "/event/212313", &[("cookie", &cookie)]).await;
    assert_eq!(event.visitor_id, "");
    assert!(!headers.contains_key(SET_COOKIE));
}

#[tokio::test(flavor = "multi_thread")]
async fn recognises_a_visitor_by_the_cookie() {
    let app = with_cookies(&[]).await;
    for path in ["/event/212313", "/impression/212313"] {
        let (first, headers) = record(&app, path, &[]).await;
        let cookie = headers[SET_COOKIE].to_str().unwrap().to_owned();
        let (pair, attributes) = cookie.split_once("; ").unwrap();
        assert_eq!(pair, format!("adtrack_id={}", first.visitor_id));
        assert_eq!(attributes, "Max-Age=2592000; Path=/; Secure; HttpOnly; SameSite=Lax");

        let (again, headers) = record(&app, path, &[("cookie", pair)]).await;
        assert_eq!(again.visitor_id, first.visitor_id);
        assert_eq!(headers[SET_COOKIE], cookie, "renewed");

        let (other, _) = record(&app, path, &[("cookie", "adtrack_id=me@b.example")]).await;
        assert!(other.visitor_id != first.visitor_id && other.visitor_id.len() == 36);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_a_cookie_only_with_a_recorded_event() {
    let app = with_cookies(&[]).await;
    for path in [
        "/event/unknown",
        "/impression/unknown",
        "/event/212313?checksum=1&checksum=2",
        "/health/check",
    ] {
        assert!(!get(&app, path, &[]).await.headers().contains_key(SET_COOKIE), "{path}");
    }
    let head = app.client.head(format!("{}/event/212313", app.url)).send().await.unwrap();
    assert!(!head.headers().contains_key(SET_COOKIE));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_objecting_visitors_without_recognising_them() {
    let app = with_cookies(&[]).await;
    let cookie = format!("adtrack_id={VISITOR}");
    let without_consent = "gdpr=1";
    let consent_refused =
        "gdpr=1&gdpr_consent=COwAdDhOwAdDhN4ABAENAPCgAAQAAv___wAAAFP_AAp_4AI6ACACAA";
    for path in ["/event/212313", "/impression/212313"] {
        for (query, header) in [
            ("a=1", Some(("sec-gpc", "1"))),
            ("a=1", Some(("dnt", "1"))),
            (without_consent, None),
            (consent_refused, None),
        ] {
            let path = format!("{path}?mail=x&{query}");
            let headers: Vec<_> = header.into_iter().chain([("cookie", &*cookie)]).collect();
            let (event, response_headers) = record(&app, &path, &headers).await;
            assert_eq!(event.visitor_id, "", "{path} {header:?}");
            assert!(event.parameters.is_empty(), "{path} {header:?}");
            assert!(!response_headers.contains_key(SET_COOKIE), "{path} {header:?}");
            assert!(event.is_valid);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recognises_visitors_who_consent_or_do_not_object() {
    let app = with_cookies(&[]).await;
    let cookie = format!("adtrack_id={VISITOR}");
    let long = format!("{CONSENT}.{}", "A".repeat(3_000));
    for (query, parameters, header) in [
        (format!("gdpr=1&gdpr_consent={CONSENT}"), 2, ("x", "y")),
        (format!("gdpr=1&gdpr_consent={long}"), 1, ("x", "y")),
        ("gdpr=0".to_owned(), 1, ("sec-gpc", "0")),
        ("a=1".to_owned(), 1, ("dnt", "0")),
    ] {
        let path = format!("/event/212313?{query}");
        let (event, headers) = record(&app, &path, &[("cookie", &cookie), header]).await;
        assert_eq!(event.visitor_id, VISITOR, "{query}");
        assert_eq!(event.parameters.len(), parameters, "{query}");
        assert!(headers.contains_key(SET_COOKIE));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_choose_the_signals_and_the_vendor() {
    for (signals, gpc, dnt) in [("gpc", true, false), ("none", false, false)] {
        let app = with_cookies(&[&format!("--privacy-signals={signals}")]).await;
        for (header, objects) in [("sec-gpc", gpc), ("dnt", dnt)] {
            let (event, _) = record(&app, "/event/212313", &[(header, "1")]).await;
            assert_eq!(event.visitor_id.is_empty(), objects, "{signals} {header}");
        }
    }
    for (vendor, known) in [(6, true), (7, false)] {
        let app = with_cookies(&[&format!("--tcf-vendor-id={vendor}")]).await;
        let path = format!("/event/212313?gdpr=1&gdpr_consent={CONSENT}");
        assert_eq!(record(&app, &path, &[]).await.0.visitor_id.is_empty(), !known, "{vendor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_the_truncated_client_address_and_ignores_spoofed_ones() {
    let app = Setup::default().start().await;
    let spoofed = [("x-forwarded-for", "198.51.100.77"), ("forwarded", "for=198.51.100.77")];
    assert_eq!(record(&app, "/event/212313", &spoofed).await.0.client_ip, "127.0.0.0");

    let app = Setup::flags(&["--trusted-proxies=127.0.0.0/8,10.0.0.0/8"]).start().await;
    for (forwarded, kept) in [
        (&["203.0.113.77"][..], "203.0.113.0"),
        (&["198.51.100.77, 203.0.113.77"], "203.0.113.0"),
        (&["203.0.113.77, 10.1.2.3"], "203.0.113.0"),
        (&["198.51.100.77", "203.0.113.77"], "203.0.113.0"),
        (&["203.0.113.77", "10.1.2.3"], "203.0.113.0"),
        (&["2001:db8:1:2::77"], "2001:db8:1::"),
        (&["198.51.100.77, <script>"], "127.0.0.0"),
        (&[], "127.0.0.0"),
    ] {
        let headers: Vec<_> = forwarded.iter().map(|line| ("x-forwarded-for", *line)).collect();
        let (event, _) = record(&app, "/event/212313", &headers).await;
        assert_eq!(event.client_ip, kept, "{forwarded:?}");
    }
}

fn preflight(app: &TestApp, path: &str, origin: &str) -> reqwest::RequestBuilder {
    app.client
        .request(Method::OPTIONS, format!("{}{path}", app.url))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_origin_may_read_by_default() {
    let app = Setup::default().start().await;
    let response = get(&app, "/event/212313", &[("origin", "https://shop.example")]).await;
    assert!(!response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
    let response = preflight(&app, "/event/212313", "https://shop.example").send().await.unwrap();
    assert_eq!(response.status(), 405);
    assert!(!response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_origins_may_read_with_cookies() {
    let flag = "--cors-allowed-origins=https://shop.example,https://b.example:8443";
    let app = Setup::flags(&[flag]).start().await;
    for (origin, allowed) in [
        ("https://shop.example", true),
        ("https://b.example:8443", true),
        ("https://b.example", false),
        ("http://shop.example", false),
        ("https://shop.example.evil.example", false),
        ("https://evil-shop.example", false),
        ("null", false),
    ] {
        for path in ["/event/212313", "/impression/212313", "/event/unknown", "/nothing"] {
            let response = get(&app, path, &[("origin", origin)]).await;
            let headers = response.headers();
            let allowed_origin =
                headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap());
            assert_eq!(allowed_origin, allowed.then_some(origin), "{path}");
            assert_eq!(headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS), allowed);
            assert_eq!(headers[VARY], "Origin");
        }
        let response = preflight(&app, "/event/212313", origin).send().await.unwrap();
        assert_eq!(response.status(), 204);
        assert_eq!(response.headers()[VARY], "Origin");
        assert_eq!(response.headers().contains_key(ACCESS_CONTROL_ALLOW_METHODS), allowed);
    }
    // A cache must not serve a response for one origin, or for none, to another.
    assert_eq!(get(&app, "/event/212313", &[]).await.headers()[VARY], "Origin");
    let response = preflight(&app, "/nothing", "https://shop.example").send().await.unwrap();
    assert_eq!(response.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_origin_may_read_without_cookies_if_all_are_allowed() {
    let app = Setup::flags(&["--cors-allowed-origins=*"]).start().await;
    let response = get(&app, "/impression/212313", &[("origin", "https://any.example")]).await;
    assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert!(!response.headers().contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    let response =
        preflight(&app, "/impression/212313", "https://any.example").send().await.unwrap();
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_METHODS], "GET, HEAD");
    assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert!(!response.headers().contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    assert_eq!(response.bytes().await.unwrap().len(), 0);
}
