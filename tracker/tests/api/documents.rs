//! The static documents: the script for pages and the description of the API.

use reqwest::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
};

use crate::helpers::Setup;

#[tokio::test(flavor = "multi_thread")]
async fn page_script_is_small_and_cacheable() {
    let app = Setup::default().start().await;
    let url = format!("{}/adtrack.js", app.url);
    let response = app.client.get(&url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    assert_eq!(headers[CONTENT_TYPE], "text/javascript; charset=utf-8");
    assert_eq!(headers[CACHE_CONTROL], "public, max-age=3600");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["cross-origin-resource-policy"], "cross-origin");
    assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    let script = response.text().await.unwrap();
    assert!(script.len() < 2_200, "{} bytes", script.len());

    for known in
        [headers[ETAG].to_str().unwrap(), &format!("\"x\", {}", headers[ETAG].to_str().unwrap())]
    {
        let again = app.client.get(&url).header(IF_NONE_MATCH, known).send().await.unwrap();
        assert_eq!(again.status(), 304, "{known}");
        assert_eq!(again.headers()[ETAG], headers[ETAG]);
    }
    let other = app.client.get(&url).header(IF_NONE_MATCH, "\"x\"").send().await.unwrap();
    assert_eq!(other.status(), 200);
    assert_eq!(app.client.post(&url).send().await.unwrap().status(), 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_listener_serves_its_description() {
    let app = Setup::default().start().await;
    for (listener, path) in [(&app.url, "/event/{programId}"), (&app.management, "/metrics")] {
        let url = format!("{listener}/openapi.yaml");
        let response = app.client.get(&url).send().await.unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/yaml");
        let text = response.text().await.unwrap();
        assert!(text.starts_with("openapi: 3.1.0\n") && text.contains(&format!("\n  {path}:\n")));
    }
}
