//! Limits on clients: URLs, headers, time and connections; and the responses beyond them.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::helpers::{self, Setup, TestApp};

const REQUEST: &str = "GET /event/212313 HTTP/1.1\r\nhost: t.example\r\n\r\n";

fn connect(app: &TestApp) -> TcpStream {
    let stream = TcpStream::connect(app.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Reads until the server closes the connection.
fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the server has not closed the connection: {error}"),
    }
    String::from_utf8(bytes).unwrap()
}

/// Reads one response on a connection that stays open.
fn read_response(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 4_096];
    let length = stream.read(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_long_queries_and_refuses_long_headers_with_a_problem() {
    let app = Setup::default().start().await;
    for (length, is_cut) in [(34_600, false), (34_601, true)] {
        let response = app.get(&format!("/event/212313?{}", "&".repeat(length))).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().contains_key("adtrack-repaired"), is_cut, "{length}");
    }

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

/// actix-http refuses these before a handler sees them.
#[tokio::test(flavor = "multi_thread")]
async fn refuses_unparsable_requests_with_a_problem() {
    let app = Setup::default().start().await;
    let many: String = (0..97).map(|n| format!("h{n}: v\r\n")).collect();
    let long = "x".repeat(70_000);
    for (request, status, code) in [
        (
            format!("GET /event/212313 HTTP/1.1\r\nhost: t\r\n{many}\r\n"),
            "431",
            "headers_too_large",
        ),
        (format!("GET /event/212313?{long} HTTP/1.1\r\nhost: t\r\n\r\n"), "414", "uri_too_long"),
        ("GET /event/212313 HTTP/1.1\r\n\r\n".to_owned(), "400", "malformed_request"),
        ("GET /event/\x01 HTTP/1.1\r\nhost: t\r\n\r\n".to_owned(), "400", "malformed_request"),
        ("<script>alert(1)</script>\r\n\r\n".to_owned(), "400", "malformed_request"),
    ] {
        let mut stream = connect(&app);
        stream.write_all(request.as_bytes()).unwrap();
        let response = read_to_end(&mut stream);
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{request:.40} {response}");
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        assert_eq!(serde_json::from_str::<Value>(body).unwrap()["code"], code, "{response}");
    }
    assert_eq!(app.get_json("/event/212313").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_repeat_nothing_that_a_page_could_interpret() {
    let app = Setup::default().start().await;
    for path in [
        "/event/<script>alert(1)</script>",
        "/conversion/212313?amount=<script>&currency=EUR",
        "/conversion/212313?currency=%22%3E%3Cscript%3E",
        "/event/212313?checksum=<script>alert(1)</script>",
        "/event/unknown-script",
        "/script",
    ] {
        let response = app.get(path).await;
        assert!(response.status().is_client_error(), "{path}");
        let headers = format!("{:?}", response.headers());
        let body = response.text().await.unwrap();
        assert!(!body.contains('<') && !headers.contains("script"), "{body}");
    }
}

#[test]
fn does_not_log_invalid_http() {
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
        assert!(read_to_end(&mut stream).starts_with("HTTP/1.1 400"), "{request}");
    }
    tracker.kill().unwrap();
    tracker.wait().unwrap();
    let lines: Vec<_> = log.filter(|line| line.contains("actix_http")).collect();
    assert!(lines.is_empty(), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn closes_connections_whose_request_does_not_arrive_in_time() {
    let app = Setup::flags(&["--request-timeout-seconds=1"]).start().await;
    let chunked = REQUEST.replace("\r\n\r\n", "\r\ntransfer-encoding: chunked\r\n\r\n");
    let head = "GET /event/212313 HTTP/1.1\r\nhost: t";
    let chunks = "1\r\na\r\n".repeat(6);
    for (whole, part) in [
        // A head on a new connection; a head after a good request; a body that no handler reads.
        ("", head),
        (REQUEST, head),
        (&chunked, &chunks),
    ] {
        let mut stream = connect(&app);
        if !whole.is_empty() {
            stream.write_all(whole.as_bytes()).unwrap();
            let response = read_response(&mut stream);
            assert!(response.starts_with("HTTP/1.1 "), "{response}");
        }
        // A byte now and then does not extend the deadline.
        for byte in part.bytes() {
            if stream.write_all(&[byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(150));
        }
        let response = read_to_end(&mut stream);
        let is_expected = response.is_empty() || response.starts_with("HTTP/1.1 408");
        assert!(is_expected, "{whole} {part}: {response}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_client_gets_408() {
    let app = Setup::flags(&["--request-timeout-seconds=1"]).start().await;
    let mut stream = connect(&app);
    stream.write_all(b"GET /event/212313 HTTP/1.1\r\nhost: t").unwrap();
    let response = read_to_end(&mut stream);
    assert!(response.starts_with("HTTP/1.1 408"), "{response}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_idle_and_busy_connections_open() {
    let app = Setup::flags(&["--request-timeout-seconds=1"]).start().await;
    let mut stream = connect(&app);
    // Before the first request, and between requests, longer than a request may take.
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(2_500));
        stream.write_all(REQUEST.as_bytes()).unwrap();
        let response = read_response(&mut stream);
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    }
    // A connection that is always busy stays open, too.
    for _ in 0..40 {
        stream.write_all(REQUEST.as_bytes()).unwrap();
        assert!(read_response(&mut stream).starts_with("HTTP/1.1 200"));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnects_a_client_that_sends_requests_and_reads_nothing() {
    let app = Setup::flags(&["--request-timeout-seconds=1"]).start().await;
    let requests = REQUEST.repeat(1_000);
    let mut stream = connect(&app);
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    // The kernel buffers a few megabytes of responses; these requests would cause 200.
    let error = (0..1_000).find_map(|_| stream.write_all(requests.as_bytes()).err());
    let kind = error.expect("a thousand requests a thousand times").kind();
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind}");
    assert_eq!(app.get_json("/event/212313").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelining_client_that_reads_gets_every_response() {
    let app = Setup::default().start().await;
    let mut stream = connect(&app);
    let mut reading = BufReader::new(stream.try_clone().unwrap());
    let sending = std::thread::spawn(move || {
        (0..20).for_each(|_| stream.write_all(REQUEST.repeat(1_000).as_bytes()).unwrap());
    });
    let mut responses = 0;
    let mut line = String::new();
    while responses < 20_000 {
        line.clear();
        assert_ne!(reading.read_line(&mut line).unwrap(), 0, "closed after {responses}");
        responses += usize::from(line.contains("HTTP/1.1 200 OK"));
    }
    sending.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnects_a_client_that_does_not_read_its_responses() {
    let app = Setup::flags(&["--request-timeout-seconds=1"]).start().await;
    let document = app.get("/openapi.yaml").await.text().await.unwrap().len();
    let request = "GET /openapi.yaml HTTP/1.1\r\nhost: t.example\r\n\r\n";
    // Fewer requests than the dispatcher buffers, but more bytes of responses than the kernel does.
    let requests = request.repeat(2_000);
    assert!(requests.len() < 1 << 17);
    let mut stream = connect(&app);
    stream.write_all(requests.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_secs(5));
    let received = read_to_end(&mut stream).len();
    assert!(received < 2_000 * document, "{received}");
}

fn request_on_new_connection(app: &TestApp, request: &str) -> String {
    let mut stream = connect(app);
    stream.write_all(request.as_bytes()).unwrap();
    read_response(&mut stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_only_health_checks_beyond_the_limit_on_connections() {
    let app = Setup::flags(&["--max-connections=4"]).start().await;
    let silent: Vec<_> = (0..4).map(|_| connect(&app)).collect();
    let health = "GET /health/check HTTP/1.1\r\nhost: t.example\r\n\r\n";
    helpers::until("the limit is reached", async || {
        request_on_new_connection(&app, REQUEST).starts_with("HTTP/1.1 503")
    })
    .await;

    let response = request_on_new_connection(&app, REQUEST);
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("application/problem+json") && head.contains("retry-after"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(length.parse(), Ok(body.len()));
    assert_eq!(serde_json::from_str::<Value>(body).unwrap()["code"], "overloaded");
    assert!(request_on_new_connection(&app, health).starts_with("HTTP/1.1 200"));

    // A silent one beyond the limit does not last.
    let mut beyond = connect(&app);
    assert_eq!(read_to_end(&mut beyond), "");

    drop(silent);
    helpers::until("there is room again", async || {
        request_on_new_connection(&app, REQUEST).starts_with("HTTP/1.1 200")
    })
    .await;
}
