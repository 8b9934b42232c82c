//! `GET /click/{programId}`: where it redirects to, and what it records.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use adtrack_proto::event::{EventType, TrackingEvent};
use adtrack_proto::program::Update;
use reqwest::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::helpers::{Setup, TestApp, store};

const FALLBACK: &str = "--default-fallback-url=https://default.example/";

/// A valid program with these members in addition to the required ones.
pub fn program_with(id: &str, members: &Value) -> Update {
    let mut json = json!({"programId": id, "programName": "n", "checksum": "1", "customerId": 77,
        "customerName": "c", "valid": true, "version": "0.1"});
    for (member, value) in members.as_object().unwrap() {
        json[member] = value.clone();
    }
    Update::from_json(json.to_string().as_bytes()).unwrap()
}

async fn send(app: &TestApp, method: Method, url: &str) -> Response {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    client.build().unwrap().request(method, url).send().await.unwrap_or_else(|error| {
        panic!("{url}: {error}; the tracker is at {}", app.url);
    })
}

async fn click(app: &TestApp, path: &str) -> Response {
    send(app, Method::GET, &format!("{}/click/{path}", app.url)).await
}

fn location(response: &Response) -> &str {
    assert_eq!(response.status(), 302);
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    response.headers()[LOCATION].to_str().unwrap()
}

fn click_id(response: &Response) -> &str {
    response.headers()["adtrack-event-id"].to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_to_the_landing_page_and_records_the_click() {
    let app = Setup::default().start().await;
    let landing = "https://shop.example/{sub}?c={click_id}&p={program_id}&u={customer_id}\
        &i={impression_id}&n={none}#{sub}";
    store(&app.redis, &program_with("p", &json!({"landingUrl": landing}))).await;
    let impression = "019b7ca9-8c88-7707-8707-070707070707";
    let path = format!("p?sub=a%26b%2F..&impression_id={impression}&at_event_id=e-1&checksum=1");
    let response = click(&app, &path).await;
    let id = click_id(&response).to_owned();
    assert_eq!(
        location(&response),
        format!("https://shop.example/a%26b%2F..?c={id}&p=p&u=77&i={impression}&n=#a%26b%2F..")
    );
    assert_eq!(response.text().await.unwrap(), "");
    let event = &app.wait_for_events(1).await[0];
    assert_eq!(event.event_type, i32::from(EventType::Click));
    assert_eq!((&event.message_id, &*event.client_event_id), (&id, "e-1"));
    assert_eq!((&*event.impression_id, event.is_valid), (impression, true));
    assert_eq!(event.parameters, BTreeMap::from([("sub".to_owned(), "a&b/..".to_owned())]));
    assert_eq!(event.traffic_flags, ["no_user_agent"]);

    // A landing page without macros; HEAD responds as GET does and records nothing.
    let head = send(&app, Method::HEAD, &format!("{}/click/212313?x=1", app.url)).await;
    assert!(location(&head).starts_with("https://shop.example/p/2?click_id="), "{head:?}");
    assert!(!head.headers().contains_key("adtrack-event-id"), "no event is recorded");
    let get = click(&app, "212313?x=1").await;
    let expected = format!("https://shop.example/p/2?click_id={}", click_id(&get));
    assert_eq!(location(&get), expected);
    let events = app.wait_for_events(2).await;
    assert_eq!(events.len(), 2, "only those of the GETs");
    assert_eq!(events[1].message_id, click_id(&get));
    assert_eq!(app.metric(r#"adtrack_requests_total{answer="accepted"}"#).await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_clicks_on_programs_that_do_not_run() {
    let app = Setup::flags(&[FALLBACK]).start().await;
    for (id, reason) in [
        ("disabled", "program_disabled"),
        ("not-started", "program_not_started"),
        ("ended", "program_ended"),
    ] {
        assert_eq!(location(&click(&app, id).await), "https://shop.example/", "{reason}");
    }
    store(&app.redis, &program_with("pageless-ended", &json!({"valid": false}))).await;
    store(&app.redis, &program_with("pageless", &json!({}))).await;
    let gone = click(&app, "pageless-ended").await;
    assert_eq!(
        (gone.status().as_u16(), &gone.headers()[CACHE_CONTROL]),
        (410, &"no-store".parse().unwrap())
    );
    assert_eq!(gone.headers()[CONTENT_TYPE], "application/problem+json");
    let gone_id = click_id(&gone).to_owned();
    assert_eq!(gone.json::<Value>().await.unwrap()["code"], "program_not_valid");
    // It is recorded, so it lacks the header that says otherwise.
    let pageless = click(&app, "pageless").await;
    assert_eq!(location(&pageless), "https://default.example/");
    assert!(!pageless.headers().contains_key("adtrack-recorded"));
    let events = app.wait_for_events(5).await;
    let gone = events.iter().find(|event| event.message_id == gone_id).unwrap();
    assert_eq!((gone.is_valid, &*gone.invalid_reason), (false, "program_disabled"));
    assert_eq!(events.iter().filter(|event| event.is_valid).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_and_flags_parameters_beyond_the_limits() {
    let app = Setup::default().start().await;
    let query = |count: usize, bytes: usize| {
        (0..count).map(|n| format!("p{n}={}", "x".repeat(bytes))).collect::<Vec<_>>().join("&")
    };
    // Too many; too long; a query that is too long.
    let (many, long, all) = (query(30, 1), query(1, 600), query(30, 2_000));
    for query in [&*many, &*long, &*all, "a=1&a=2", "impression_id=no-uuid", "at_other=1"] {
        assert_eq!(click(&app, &format!("212313?{query}")).await.status(), 302, "{query}");
    }
    let events = app.wait_for_events(6).await;
    for event in &events {
        assert_eq!(event.traffic_flags, ["no_user_agent", "parameters_cut"]);
        assert_eq!(event.impression_id, "");
    }
    let with = |count: usize, bytes: usize| {
        let has_lengths =
            |event: &&TrackingEvent| event.parameters.values().all(|value| value.len() == bytes);
        let mut matching = events.iter().filter(|event| event.parameters.len() == count);
        matching.any(|event| has_lengths(&event))
    };
    // 34,600 bytes hold 17 whole parameters of 2,005 bytes, with separators.
    assert!(with(20, 1) && with(1, 512) && with(17, 512));
}

#[tokio::test(flavor = "multi_thread")]
async fn honours_objections_and_rejects_urls_after_cut_parameters() {
    let app = Setup::flags(&["--cookie-max-age-days=1"]).start().await;
    let many: String = (0..20).map(|n| format!("p{n}=1&")).collect();
    let long = format!("z={}&", "z".repeat(34_600));
    let mut seen = 0;
    for before in [&*many, &*long, "gdpr=0&"] {
        let objects = click(&app, &format!("212313?{before}gdpr=1")).await;
        assert_eq!(objects.status(), 302, "{before}");
        assert!(!objects.headers().contains_key("set-cookie"), "{before}");
        seen += 1;
        let event = app.wait_for_events(seen).await.remove(seen - 1);
        assert!(event.visitor_id.is_empty() && event.parameters.is_empty(), "{before}");
        for wrong in ["url=https://evil.example/", "checksum=wrong"] {
            let rejected = click(&app, &format!("212313?{before}{wrong}")).await;
            assert_eq!(rejected.status(), 400, "{before} {wrong}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_unrecorded_clicks_to_the_default_fallback() {
    let app = Setup::flags(&[FALLBACK]).start().await;
    for path in ["unknown", "unknown?url=https://evil.example/", "a%20b", "", "212313/x"] {
        for method in [Method::GET, Method::HEAD] {
            let response = send(&app, method, &format!("{}/click/{path}", app.url)).await;
            assert_eq!(location(&response), "https://default.example/", "{path}");
            assert_eq!(response.headers()["adtrack-recorded"], "false");
            assert!(!response.headers().contains_key("adtrack-event-id"));
        }
    }
    assert_eq!(app.metric(r#"adtrack_requests_total{answer="program_not_found"}"#).await, 4.0);
    // An error in the link itself is shown, for its author to see.
    for (path, code) in [
        ("212313?checksum=wrong", "parameter_mismatch"),
        ("212313?customerId=1", "parameter_mismatch"),
        ("212313?url=https://evil.example/", "url_not_allowed"),
    ] {
        let response = click(&app, path).await;
        assert_eq!(response.status(), 400, "{path}");
        assert!(!response.headers().contains_key(LOCATION));
        assert_eq!(response.json::<Value>().await.unwrap()["code"], code);
    }
    let post = send(&app, Method::POST, &format!("{}/click/212313", app.url)).await;
    assert_eq!(
        (post.status().as_u16(), &post.headers()[ALLOW]),
        (405, &"GET, HEAD".parse().unwrap())
    );

    let empty = Setup { samples: false, ..Setup::flags(&[FALLBACK]) }.start().await;
    let response = click(&empty, "212313").await;
    assert_eq!(location(&response), "https://default.example/");
    let unavailable = r#"adtrack_requests_total{answer="core_data_unavailable"}"#;
    assert_eq!(empty.metric(unavailable).await, 1.0);

    let flags = ["--journal-max-bytes=131072", "--event-stream=absent", FALLBACK];
    let full = Setup::flags(&flags).start().await;
    let mut accepted = 0;
    let response = loop {
        let response = click(&full, "212313").await;
        if response.headers().contains_key("adtrack-recorded") {
            break response;
        }
        accepted += 1;
        assert!(accepted < 1_000, "a journal of 131,072 bytes never fills");
    };
    assert_eq!(location(&response), "https://default.example/");
    assert!(full.metric(r#"adtrack_requests_total{answer="overloaded"}"#).await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_the_problem_without_a_default_fallback() {
    let app = Setup::default().start().await;
    store(&app.redis, &program_with("pageless", &json!({}))).await;
    for (path, status, code) in [
        ("unknown", 404, "program_not_found"),
        ("a%20b", 400, "invalid_program_id"),
        ("", 400, "invalid_program_id"),
    ] {
        let response = click(&app, path).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.json::<Value>().await.unwrap()["code"], code);
    }
    let pageless = click(&app, "pageless").await;
    assert_eq!(pageless.status(), 204);
    let id = click_id(&pageless).to_owned();
    assert_eq!(app.wait_for_events(1).await[0].message_id, id);
}

fn sign_link(key_file: &str, flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sign-link"))
        .args(["--key-file", key_file, "--program", "212313"])
        .args(flags)
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn follows_a_signed_link_while_its_key_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, keys: &[(&str, char)]| {
        let path = folder.path().join(name);
        // Each secret has 33 bytes.
        let lines = keys.iter().map(|(id, c)| format!("{id}={}\n", c.to_string().repeat(44)));
        std::fs::write(&path, lines.collect::<String>()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (old, both, new) = (
        file("old", &[("2025", 'a')]),
        file("both", &[("2025", 'a'), ("2026", 'b')]),
        file("new", &[("2026", 'b')]),
    );
    let sign = |file: &str, key: &str, base: &str| {
        let page = "https://partner.example/p?c={click_id}&x={x}";
        let flags = ["--key-id", key, "--base-url", base, "--url", page, "--expires-in", "1h"];
        let output = sign_link(file, &flags);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let by_file = |file: &str| format!("--link-keys-file={file}");
    let inline = format!("--link-keys={}", std::fs::read_to_string(&both).unwrap());
    for (flag, followed) in
        [(by_file(&old), [true, false]), (inline, [true, true]), (by_file(&new), [false, true])]
    {
        let app = Setup::flags(&[&flag]).start().await;
        let links = [sign(&old, "2025", &app.url), sign(&both, "2026", &app.url)];
        for (link, followed) in links.iter().zip(followed) {
            // Networks append parameters of their own.
            let response = send(&app, Method::GET, &format!("{link}&x=1&network=n")).await;
            if followed {
                let id = click_id(&response);
                let expected = format!("https://partner.example/p?c={id}&x=1");
                assert_eq!(location(&response), expected);
            } else {
                assert_eq!(response.status(), 400);
            }
            for (part, other) in [("/212313?", "/212314?"), ("partner", "evil"), ("sig=", "sig=x")]
            {
                let forged = link.replace(part, other);
                assert_ne!(&forged, link);
                assert_eq!(send(&app, Method::GET, &forged).await.status(), 400, "{forged}");
            }
        }
    }
}

#[test]
fn sign_link_refuses_links_that_the_tracker_would_reject() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, format!("k={}", "a".repeat(44))).unwrap();
    let valid = [
        ("--key-id", "k"),
        ("--url", "https://partner.example/"),
        ("--base-url", "https://track.example"),
        ("--expires", "2100-01-01T00:00:00Z"),
    ];
    for (flag, value, problem) in [
        ("--key-id", "other", "no such id"),
        ("--url", "https://user@partner.example/", "user information"),
        ("--url", "https://partner\u{3002}example/", "browsers read as `partner.example`"),
        ("--url", "https://{x}/", "outside path"),
        ("--base-url", "track.example", "not a URL"),
        ("--base-url", "https://track.example/?a=b", "without query"),
        ("--expires", "2020-01-01T00:00:00Z", "in the future"),
        ("--expires", "3000-01-01T00:00:00Z", "at most 100 years"),
        ("", "", ""),
    ] {
        let flags = valid.map(|(name, valid)| [name, if name == flag { value } else { valid }]);
        let output = sign_link(keys.to_str().unwrap(), &flags.concat());
        let errors = String::from_utf8(output.stderr).unwrap();
        let status = if flag.is_empty() { 0 } else { 64 };
        assert_eq!(output.status.code(), Some(status), "{flag} {value}: {errors}");
        assert!(errors.contains(problem) && !errors.contains("aaaa"), "{errors}");
    }
}
