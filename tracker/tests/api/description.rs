//! Compares the OpenAPI documents with the listeners' responses: every code, operation, status and media
//! type, and the headers that matter to clients.

use std::collections::BTreeSet;

use reqwest::header::HeaderName;
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tracker::domain::Refusal;

use crate::helpers::{Setup, TestApp, store};

/// A response: the described path, the method, the status, and the body's media type (empty for `HEAD`).
type ResponseKey = (String, String, u16, String);

/// A request: the method, the path, and a function that adds the rest.
type TestRequest = (Method, String, fn(RequestBuilder) -> RequestBuilder);

/// Described responses that these requests do not cause; each is tested elsewhere.
const ELSEWHERE: [(&str, u16); 4] = [
    // core_data.rs: before Redis could be read once, and while draining.
    ("/health/check", 503),
    // limits.rs: a body that does not arrive.
    ("/conversion/{programId}", 408),
    ("/events", 408),
    // pipeline tests: /cache/fill without Redis.
    ("/cache/fill", 503),
];

/// Headers that the document must describe for every response that has them.
const HEADERS: [&str; 7] = [
    "adtrack-event-id",
    "adtrack-repaired",
    "adtrack-problem",
    "adtrack-recorded",
    "location",
    "retry-after",
    "set-cookie",
];

async fn description(app: &TestApp, listener: &str) -> Value {
    let text = app.client.get(format!("{listener}/openapi.yaml")).send().await.unwrap();
    serde_saphyr::from_str(&text.text().await.unwrap()).unwrap()
}

/// Follows the value's `$ref`, if it has one.
fn resolve<'a>(description: &'a Value, value: &'a Value) -> &'a Value {
    let reference = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.map_or(value, |pointer| description.pointer(pointer).unwrap())
}

fn described_responses(description: &Value) -> BTreeSet<ResponseKey> {
    let mut keys = BTreeSet::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let Some(responses) = operation["responses"].as_object() else { continue };
            for (status, response) in responses {
                let mut insert = |media: &str| {
                    keys.insert((
                        path.clone(),
                        method.clone(),
                        status.parse().unwrap(),
                        media.into(),
                    ))
                };
                match resolve(description, response)["content"].as_object() {
                    Some(content) if method != "head" => {
                        content.keys().for_each(|media| {
                            insert(media);
                        });
                    }
                    _ => {
                        insert("");
                    }
                }
            }
        }
    }
    keys
}

/// Asserts that the response's headers are described. `HEAD` has those of `GET`.
fn check_headers(description: &Value, path: &str, method: &str, response: &Response) {
    let method = if method == "head" { "get" } else { method };
    let status = response.status().as_str().to_owned();
    let described = &description["paths"][path][method]["responses"][&status];
    let described = resolve(description, described)["headers"].as_object();
    for name in response.headers().keys().map(HeaderName::as_str) {
        let is_described =
            || described.is_some_and(|all| all.keys().any(|one| one.eq_ignore_ascii_case(name)));
        assert!(!HEADERS.contains(&name) || is_described(), "{name} of {method} {path}: {status}");
    }
}

/// The described path template that `path` matches.
fn template(description: &Value, path: &str) -> String {
    let paths = description["paths"].as_object().unwrap();
    let path = path.split('?').next().unwrap();
    let matches = |template: &&String| match template.strip_suffix("{programId}") {
        Some(prefix) => path.starts_with(prefix),
        None => path == *template,
    };
    // A path without a parameter takes precedence.
    let mut templates: Vec<_> = paths.keys().filter(matches).collect();
    templates.sort_by_key(|template| template.contains('{'));
    templates.first().unwrap_or_else(|| panic!("{path} is not described")).to_string()
}

async fn store_program(app: &TestApp, id: &str, members: &Value) {
    let mut json = json!({"programId": id, "programName": "n", "checksum": "c", "customerId": 1,
        "customerName": "c", "valid": true, "version": "0.1"});
    json.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let update = adtrack_proto::program::Update::from_json(json.to_string().as_bytes()).unwrap();
    store(&app.redis, &update).await;
}

/// Sends the requests to a listener, checks the headers of the responses and returns their keys.
async fn send_all(
    listener: &str,
    description: &Value,
    requests: Vec<TestRequest>,
) -> BTreeSet<ResponseKey> {
    // Does not follow redirects: they are responses to check.
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
    let mut keys = BTreeSet::new();
    for (method, path, complete) in requests {
        let request = client.request(method.clone(), format!("{listener}{path}"));
        let response = complete(request).send().await.unwrap();
        let (path, method) = (template(description, &path), method.as_str().to_lowercase());
        check_headers(description, &path, &method, &response);
        let has_body = method != "head" && response.status() != 304;
        let media = response.headers().get("content-type").filter(|_| has_body);
        let media = media.map_or("", |media| media.to_str().unwrap().split(';').next().unwrap());
        keys.insert((path, method, response.status().as_u16(), media.to_owned()));
    }
    keys
}

fn plain(request: RequestBuilder) -> RequestBuilder {
    request
}

fn large_headers(request: RequestBuilder) -> RequestBuilder {
    request.header("x-large", "x".repeat(33_000))
}

fn events(request: RequestBuilder) -> RequestBuilder {
    request.json(&json!([{"programId": "212313"}]))
}

fn public_requests() -> Vec<TestRequest> {
    let mut requests: Vec<TestRequest> = Vec::new();
    let long = "x".repeat(9_000);
    for (kind, ending) in [
        ("event", ""),
        ("impression", ""),
        ("click", ""),
        ("conversion", ""),
        ("conversion", ".gif"),
    ] {
        let mut methods = vec![Method::GET, Method::HEAD];
        if kind == "conversion" {
            methods.push(Method::POST);
        }
        for method in methods {
            for (id, query) in [
                ("212313", ""),
                ("212313", "?checksum=wrong"),
                ("unknown", ""),
                ("212313", &format!("?x={long}")),
            ] {
                requests.push((method.clone(), format!("/{kind}/{id}{ending}{query}"), plain));
            }
            requests.push((method.clone(), format!("/{kind}/212313{ending}"), large_headers));
            match kind {
                "click" => {
                    requests.push((method.clone(), "/click/gone".into(), plain));
                    requests.push((method, "/click/pageless".into(), plain));
                }
                "conversion" => {
                    let path = format!("/conversion/signed{ending}?sig=00");
                    requests.push((method, path, plain));
                }
                _ => {}
            }
        }
    }
    for conversion in ["/conversion/212313", "/conversion/212313.gif"] {
        requests.push((Method::POST, conversion.into(), |r| {
            r.body(vec![b'x'; 2 << 20]).header("content-type", "application/json")
        }));
        requests.push((Method::POST, conversion.into(), |r| {
            r.body("x").header("content-type", "text/html")
        }));
    }
    let path = || "/events".to_owned();
    requests.push((Method::POST, path(), events));
    requests.push((Method::POST, path(), |r| r.json(&json!([{"programId": "unknown"}]))));
    requests.push((Method::POST, path(), |r| r.body("[")));
    requests.push((Method::POST, "/validate".into(), events));
    requests
        .push((Method::POST, "/validate".into(), |r| r.json(&json!([{"programId": "unknown"}]))));
    requests.push((Method::POST, "/validate".into(), |r| r.body("[")));
    requests.push((Method::POST, "/validate".into(), |r| r.body(vec![b' '; 2 << 20])));
    requests.push((Method::POST, "/validate".into(), |r| {
        r.body("[]").header("content-type", "text/html")
    }));
    requests.push((Method::POST, path(), |r| r.body(vec![b' '; 2 << 20])));
    requests.push((Method::POST, path(), |r| r.body("[]").header("content-type", "text/html")));
    requests.push((Method::POST, path(), |r| large_headers(events(r))));
    for path in ["/health/check", "/health/live", "/health/ready", "/adtrack.js", "/openapi.yaml"] {
        requests.push((Method::GET, path.into(), plain));
        requests.push((Method::HEAD, path.into(), plain));
    }
    for path in ["/adtrack.js", "/openapi.yaml"] {
        for method in [Method::GET, Method::HEAD] {
            requests.push((method, path.into(), |r| r.header("if-none-match", "*")));
        }
    }
    requests
}

fn management_requests() -> Vec<TestRequest> {
    let mut requests: Vec<TestRequest> = Vec::new();
    for path in ["/metrics", "/health/live", "/health/ready", "/openapi.yaml"] {
        requests.push((Method::GET, path.into(), plain));
    }
    for path in ["/cache/212313", "/cache/unknown", "/cache/%00"] {
        requests.push((Method::GET, path.into(), plain));
    }
    requests.push((Method::GET, "/openapi.yaml".into(), |r| r.header("if-none-match", "*")));
    requests.push((Method::POST, "/cache/fill".into(), plain));
    requests.push((Method::POST, "/cache/purge".into(), plain));
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_give_every_described_response_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    // A secret of 32 bytes, the minimum.
    std::fs::write(&keys, format!("k={}=\n", "A".repeat(43))).unwrap();
    let keys = format!("--conversion-keys-file={}", keys.display());
    let flags = ["--sample-programs=true", &keys, "--cookie-max-age-days=1"];
    let app = Setup::flags(&flags).start().await;
    store_program(&app, "gone", &json!({"valid": false})).await;
    store_program(&app, "pageless", &json!({})).await;
    store_program(&app, "signed", &json!({"conversionKeyId": "k"})).await;
    // Without core data, for 503 on both listeners.
    let empty = Setup { samples: false, ..Setup::default() }.start().await;
    // With a rate limit that nearly every request exceeds, for 429.
    let paths = "--rate-limit-paths=/event,/impression,/click,/conversion,/events";
    let flags = ["--rate-limit=1/1", "--rate-limit-direct-clients=true", paths];
    let limited = Setup::flags(&flags).start().await;
    for (listeners, requests) in [
        ([&app.url, &empty.url, &limited.url], public_requests as fn() -> _),
        (
            [&app.management, &empty.management, &limited.management],
            management_requests as fn() -> _,
        ),
    ] {
        let description = description(&app, listeners[0]).await;
        let mut given = BTreeSet::new();
        for listener in listeners {
            given.extend(send_all(listener, &description, requests()).await);
        }
        let described = described_responses(&description);
        let undescribed: Vec<_> = given.difference(&described).collect();
        assert!(undescribed.is_empty(), "not described: {undescribed:?}");
        let is_elsewhere = |key: &&ResponseKey| {
            ELSEWHERE.iter().any(|(path, status)| (*path, *status) == (&*key.0, key.2))
        };
        let missing: Vec<_> =
            described.difference(&given).filter(|key| !is_elsewhere(key)).collect();
        assert!(missing.is_empty(), "described but never given: {missing:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_refuse_every_undescribed_method() {
    let app = Setup::default().start().await;
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
    for listener in [&app.url, &app.management] {
        let description = description(&app, listener).await;
        for (path, operations) in description["paths"].as_object().unwrap() {
            let url = format!("{listener}{}", path.replace("{programId}", "212313"));
            for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                let status = client.request(method.clone(), &url).send().await.unwrap().status();
                let name = method.as_str().to_lowercase();
                let is_described = operations.get(&name).is_some();
                assert_eq!(status != 405, is_described, "{method} {path}: {status}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn document_describes_every_code() {
    let app = Setup::default().start().await;
    let description = description(&app, &app.url).await;
    let codes = description["components"]["schemas"]["Code"]["enum"].as_array().unwrap();
    let described: BTreeSet<_> = codes.iter().map(|code| code.as_str().unwrap()).collect();
    let ours = [
        "not_found",
        "method_not_allowed",
        "program_not_valid",
        "malformed_request",
        "uri_too_long",
        "request_timeout",
    ];
    assert_eq!(described, Refusal::codes().chain(ours).collect());
}
