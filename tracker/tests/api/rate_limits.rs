//! The rate limit for each client address.

use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::helpers::{Setup, TestApp};

const LIMITED: &str = r#"adtrack_requests_total{answer="rate_limited"}"#;
/// Three requests at once and then one per second, the least there is; behind a proxy on this machine, so
/// that a test can be many clients.
const BEHIND_PROXY: [&str; 2] = ["--rate-limit=1/3", "--trusted-proxies=127.0.0.0/8,10.0.0.0/8"];

async fn behind_proxy(flags: &[&str]) -> TestApp {
    Setup::flags(&[&BEHIND_PROXY, flags].concat()).start().await
}

async fn send(app: &TestApp, method: Method, path: &str, forwarded: &str) -> Response {
    let request = app.client.request(method, format!("{}{path}", app.url));
    request.header("x-forwarded-for", forwarded).send().await.unwrap()
}

/// Asks until it is refused. The machine may be so slow that a second passes between two requests.
async fn refusal(app: &TestApp, path: &str, forwarded: &str) -> Response {
    loop {
        let response = send(app, Method::GET, path, forwarded).await;
        if response.status() == 429 {
            return response;
        }
    }
}

/// How many of ten requests in a row are admitted.
async fn admitted(app: &TestApp, forwarded: &str) -> usize {
    let mut admitted = 0;
    for _ in 0..10 {
        let status = send(app, Method::GET, "/event/212313", forwarded).await.status().as_u16();
        assert!(matches!(status, 200 | 429), "{status}");
        admitted += usize::from(status == 200);
    }
    admitted
}

/// The most that one client can get: the burst, and one for each second that has started.
fn most(since: Instant) -> usize {
    4 + since.elapsed().as_secs() as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn is_off_by_default() {
    let app = Setup::flags(&["--trusted-proxies=127.0.0.1"]).start().await;
    for _ in 0..300 {
        assert_eq!(app.get("/event/212313").await.status(), 200);
    }
    assert_eq!(app.metric(LIMITED).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_with_429_and_counts_that() {
    let app = behind_proxy(&[]).await;
    let response = refusal(&app, "/event/212313", "203.0.113.7").await;
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    assert_eq!(response.headers()[RETRY_AFTER], "1");
    let body: Value = response.json().await.unwrap();
    assert_eq!((&body["code"], &body["status"]), (&json!("rate_limited"), &json!(429)));
    assert_eq!(app.metric(LIMITED).await, 1.0);

    let recorded = app.metric(r#"adtrack_requests_total{answer="accepted"}"#).await as usize;
    assert_eq!(app.wait_for_events(recorded).await.len(), recorded);
}

#[tokio::test(flavor = "multi_thread")]
async fn admits_a_request_after_the_time_that_it_names() {
    let app = behind_proxy(&[]).await;
    let response = refusal(&app, "/event/212313", "203.0.113.7").await;
    let seconds = response.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let again = send(&app, Method::GET, "/event/212313", "203.0.113.7").await;
    assert_eq!(again.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_the_client_that_trusted_proxies_name() {
    let app = behind_proxy(&[]).await;
    // Of IPv6 a /64 is one client; what a client makes up does not make it another.
    for (first, second, is_same) in [
        ("203.0.113.1", "203.0.113.2", false),
        ("203.0.113.3", "198.51.100.1, 203.0.113.3", true),
        ("203.0.113.4", "10.0.0.1, 203.0.113.4, 10.0.0.2", true),
        ("2001:db8:1:1::1", "2001:db8:1:1:ffff::2", true),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
    ] {
        let start = Instant::now();
        let total = admitted(&app, first).await + admitted(&app, second).await;
        if is_same {
            assert!((3..=most(start)).contains(&total), "{second}: {total}");
        } else {
            assert!(total >= 6, "{second}: {total}");
        }
    }
    // A proxy that names nobody stands for many.
    for nobody in ["", "unknown", "10.0.0.5"] {
        assert_eq!(admitted(&app, nobody).await, 10, "{nobody}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_proxies_limits_the_peer_whatever_it_sends() {
    let app = Setup::flags(&["--rate-limit=1/3", "--rate-limit-direct-clients=true"]).start().await;
    let (start, mut total) = (Instant::now(), 0);
    for spoofed in 1..=10 {
        let forwarded = format!("203.0.113.{spoofed}");
        let response = send(&app, Method::GET, "/event/212313", &forwarded).await;
        total += usize::from(response.status() == 200);
    }
    assert!((3..=most(start)).contains(&total), "{total}");
}

#[tokio::test(flavor = "multi_thread")]
async fn partners_are_exempt() {
    let app = behind_proxy(&["--rate-limit-exempt=203.0.113.0/28,2001:db8:5::/48"]).await;
    for partner in ["203.0.113.9", "::ffff:203.0.113.9", "2001:db8:5:1::1"] {
        assert_eq!(admitted(&app, partner).await, 10, "{partner}");
    }
    let start = Instant::now();
    let total = admitted(&app, "203.0.113.16").await;
    assert!((3..=most(start)).contains(&total), "{total}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_pixels_are_pixels() {
    let app = behind_proxy(&["--rate-limit-paths=/impression,/conversion"]).await;
    let conversion = "/conversion/212313.gif?transaction_id=1";
    for path in ["/impression/212313", "/impression/212313.gif", conversion] {
        let response = refusal(&app, path, "203.0.113.7").await;
        assert_eq!(response.headers()["adtrack-problem"], "rate_limited", "{path}");
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert_eq!(response.headers()[CONTENT_TYPE], "image/gif");
        assert!(response.bytes().await.unwrap().starts_with(b"GIF89a"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_click_leads_to_the_fallback_if_there_is_one() {
    let app = behind_proxy(&["--default-fallback-url=https://shop.example/sorry"]).await;
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
    let refused = loop {
        let request = client.get(format!("{}/click/212313", app.url));
        let response = request.header("x-forwarded-for", "203.0.113.7").send().await.unwrap();
        if response.headers().contains_key("adtrack-recorded") {
            break response;
        }
    };
    assert_eq!(refused.status(), 302);
    assert_eq!(refused.headers()[LOCATION], "https://shop.example/sorry");
    assert_eq!(refused.headers()["adtrack-recorded"], "false");
}

#[tokio::test(flavor = "multi_thread")]
async fn conversions_and_batches_are_limited_only_if_listed_and_health_never() {
    let all = "--rate-limit-paths=/event,/impression,/click,/conversion,/events";
    for (flags, is_listed) in [(&[][..], false), (&[all], true)] {
        let app = behind_proxy(flags).await;
        let client = "203.0.113.7";
        // All paths share one limit.
        refusal(&app, "/event/212313", client).await;
        let (mut conversions, mut batches) = (0, 0);
        for number in 0..10 {
            let path = format!("/conversion/212313?transaction_id={number}");
            let response = send(&app, Method::GET, &path, client).await;
            conversions += usize::from(response.status() == 429);
            let batch = app.client.post(format!("{}/events", app.url));
            let batch = batch.header("x-forwarded-for", client);
            let response = batch.json(&json!([{"programId": "212313"}])).send().await.unwrap();
            batches += usize::from(response.status() == 429);
            for path in ["/health/check", "/health/live", "/health/ready", "/adtrack.js"] {
                assert_eq!(send(&app, Method::GET, path, client).await.status(), 200, "{path}");
            }
        }
        assert_eq!(
            (conversions > 0, batches > 0),
            (is_listed, is_listed),
            "{conversions} {batches}"
        );
    }
}
