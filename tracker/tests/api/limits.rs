//! What a client may cost: URLs, headers, time, connections; and what it is told.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::helpers::{Setup, TestApp};

const REQUEST: &str = "GET /event/212313 HTTP/1.1\r\nhost: t.example\r\n\r\n";

fn connect(app: &TestApp) -> TcpStream {
    let stream = TcpStream::connect(app.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// The rest of what the server sends before it ends the connection.
fn until_the_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection has not ended: {error}"),
    }
    String::from_utf8(bytes).unwrap()
}

/// One answer on a connection that stays open.
fn answer(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 4_096];
    let length = stream.read(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn long_urls_and_headers_are_refused_as_problems() {
    let app = Setup::default().start().await;
    let (status, body) = app.ask(&format!("/event/212313?{}", "&".repeat(8_193))).await;
    assert_eq!((status, &body["code"]), (414, &json!("uri_too_long")));
    assert_eq!(app.ask(&format!("/event/212313?{}", "&".repeat(8_192))).await.0, 200);

    for (length, expected) in [(32_000, 200), (33_000, 431)] {
        let request = app.client.get(format!("{}/event/212313", app.url));
        let response = request.header("cookie", "c".repeat(length)).send().await.unwrap();
        assert_eq!(response.status(), expected, "{length}");
        if expected == 431 {
            let body: serde_json::Value = response.json().await.unwrap();
            assert_eq!(body["code"], "headers_too_large");
        }
    }
}

/// What actix-http ends before a handler sees it has no body.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_beyond_the_parser_is_refused_without_a_body() {
    let app = Setup::default().start().await;
    let many: String = (0..97).map(|n| format!("h{n}: v\r\n")).collect();
    let long = "x".repeat(70_000);
    for (request, status) in [
        (format!("GET /event/212313 HTTP/1.1\r\nhost: t\r\n{many}\r\n"), "431"),
        (format!("GET /event/212313?{long} HTTP/1.1\r\nhost: t\r\n\r\n"), "400"),
        ("GET /event/212313 HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("GET /event/\x01 HTTP/1.1\r\nhost: t\r\n\r\n".to_owned(), "400"),
        ("<script>alert(1)</script>\r\n\r\n".to_owned(), "400"),
    ] {
        let mut stream = connect(&app);
        stream.write_all(request.as_bytes()).unwrap();
        let answer = until_the_end(&mut stream);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:.40} {answer}");
        assert!(answer.contains("content-length: 0"), "{answer}");
    }
    assert_eq!(app.ask("/event/212313").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_client_sent_is_in_a_refusal() {
    let app = Setup::default().start().await;
    for path in [
        "/event/<script>alert(1)</script>",
        "/event/212313?<script>=1&<script>=2",
        "/event/212313?checksum=<script>",
        "/event/unknown-script",
        "/script",
    ] {
        let response = app.get(path).await;
        assert!(response.status().is_client_error(), "{path}");
        let headers = format!("{:?}", response.headers());
        let body = response.text().await.unwrap();
        assert!(!body.contains("script") && !headers.contains("script"), "{body}");
    }
}

#[test]
fn what_is_no_http_is_not_logged() {
    let folder = tempfile::tempdir().unwrap();
    let mut tracker = Command::new(env!("CARGO_BIN_EXE_tracker"))
        .args(["--listen-addr=127.0.0.1:0", "--management-addr=127.0.0.1:0"])
        .args(["--journal-max-bytes=131072", "--redis-url=redis://127.0.0.1:1"])
        .arg(format!("--journal-dir={}", folder.path().display()))
        .env_clear()
        .envs([("AWS_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "true")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(tracker.stdout.take().unwrap()).lines().map(Result::unwrap);
    let serves = log.find(|line| line.contains("the tracker serves")).unwrap();
    let serves: serde_json::Value = serde_json::from_str(&serves).unwrap();
    for request in ["<script>\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /\x1b[31m HTTP/1.1\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(serves["public"].as_str().unwrap()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        assert!(until_the_end(&mut stream).starts_with("HTTP/1.1 400"), "{request}");
    }
    tracker.kill().unwrap();
    tracker.wait().unwrap();
    let lines: Vec<_> = log.filter(|line| line.contains("actix_http")).collect();
    assert!(lines.is_empty(), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_come_in_ends_its_connection() {
    let app = Setup::flags(&["--request-timeout-seconds=1"]).start().await;
    let chunked = REQUEST.replace("\r\n\r\n", "\r\ntransfer-encoding: chunked\r\n\r\n");
    let head = "GET /event/212313 HTTP/1.1\r\nhost: t";
    let chunks = "1\r\na\r\n".repeat(6);
    for (whole, part) in [
        // A head on a new connection; one on a connection that was good; a body that nobody reads.
        ("", head),
        (REQUEST, head),
        (&chunked, &chunks),
    ] {
        let mut stream = connect(&app);
        if !whole.is_empty() {
            stream.write_all(whole.as_bytes()).unwrap();
            let answer = answer(&mut stream);
            assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        }
        // A byte now and then does not prolong it.
        for byte in part.bytes() {
            if stream.write_all(&[byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(150));
        }
        let answer = until_the_end(&mut stream);
        let is_told = answer.is_empty() || answer.starts_with("HTTP/1.1 408");
        assert!(is_told, "{whole} {part}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_is_told_408() {
    let app = Setup::flags(&["--request-timeout-seconds=1"]).start().await;
    let mut stream = connect(&app);
    stream.write_all(b"GET /event/212313 HTTP/1.1\r\nhost: t").unwrap();
    let answer = until_the_end(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_waits_between_requests_is_left_open() {
    let app = Setup::flags(&["--request-timeout-seconds=1"]).start().await;
    let mut stream = connect(&app);
    // Before the first request, and between requests, longer than a request may take.
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(2_500));
        stream.write_all(REQUEST.as_bytes()).unwrap();
        let answer = answer(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // Neither does a connection end that is busy all the time.
    for _ in 0..40 {
        stream.write_all(REQUEST.as_bytes()).unwrap();
        assert!(answer(&mut stream).starts_with("HTTP/1.1 200"));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_bound_wait() {
    // The helper that waited for the tracker keeps one of them.
    let app = Setup::flags(&["--workers=1", "--max-connections=2"]).start().await;
    let mut held = connect(&app);
    held.write_all(REQUEST.as_bytes()).unwrap();
    assert!(answer(&mut held).starts_with("HTTP/1.1 200"));

    let mut waiting = connect(&app);
    waiting.write_all(REQUEST.as_bytes()).unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let error = waiting.read(&mut [0; 1]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");

    drop(held);
    waiting.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert!(answer(&mut waiting).starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_requests_and_takes_no_answer_is_cut_off() {
    let app = Setup::flags(&["--request-timeout-seconds=1"]).start().await;
    let requests = REQUEST.repeat(1_000);
    let mut stream = connect(&app);
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    // The kernel holds a few megabytes of answers; what is asked for here would take 200.
    let error = (0..1_000).find_map(|_| stream.write_all(requests.as_bytes()).err());
    let kind = error.expect("a thousand requests a thousand times").kind();
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind}");
    assert_eq!(app.ask("/event/212313").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_many_requests_at_once_and_takes_the_answers_gets_them_all() {
    let app = Setup::default().start().await;
    let mut stream = connect(&app);
    let mut reading = BufReader::new(stream.try_clone().unwrap());
    let sending = std::thread::spawn(move || {
        (0..20).for_each(|_| stream.write_all(REQUEST.repeat(1_000).as_bytes()).unwrap());
    });
    let mut answers = 0;
    let mut line = String::new();
    while answers < 20_000 {
        line.clear();
        assert_ne!(reading.read_line(&mut line).unwrap(), 0, "ended after {answers}");
        answers += usize::from(line.contains("HTTP/1.1 200 OK"));
    }
    sending.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_takes_end_the_connection() {
    let app = Setup::flags(&["--request-timeout-seconds=1"]).start().await;
    let document = app.get("/openapi.yaml").await.text().await.unwrap().len();
    let request = "GET /openapi.yaml HTTP/1.1\r\nhost: t.example\r\n\r\n";
    // Fewer requests than the dispatcher holds, with more answers than the kernel does.
    let requests = request.repeat(2_000);
    assert!(requests.len() < 1 << 17);
    let mut stream = connect(&app);
    stream.write_all(requests.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_secs(5));
    let taken = until_the_end(&mut stream).len();
    assert!(taken < 2_000 * document, "{taken}");
}
