//! The load generator against servers of known behaviour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loadtest::engine::{self, Accepted, Addresses, Job, Merger};
use loadtest::recorder::{Failure, Slice, Totals, percentile};
use loadtest::request::Traffic;
use loadtest::scenario::Scenario;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
const MILLISECOND: u64 = 1_000_000;

/// How a server reacts to a request.
type Behaviour = dyn Fn(&str, &mut TcpStream) + Send + Sync;

/// Starts a server with a thread per connection.
fn serve(behaviour: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let behaviour: Arc<Behaviour> = Arc::new(behaviour);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let behaviour = Arc::clone(&behaviour);
            std::thread::spawn(move || serve_connection(stream, &*behaviour));
        }
    });
    address
}

fn serve_connection(mut stream: TcpStream, behaviour: &Behaviour) {
    stream.set_nodelay(true).unwrap();
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(bytes) = stream.read(&mut buffer) {
        if bytes == 0 {
            return;
        }
        read.extend_from_slice(&buffer[..bytes]);
        while let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let request: Vec<u8> = read.drain(..end + 4).collect();
            behaviour(&String::from_utf8_lossy(&request), &mut stream);
        }
    }
}

struct Outcome {
    totals: Totals,
    slices: Vec<Slice>,
    accepted: Vec<Accepted>,
    took: Duration,
}

fn scenario(rate: u32, seconds: u32, rest: &str) -> Scenario {
    let phase = format!(
        "description = \"t\"\n[[phase]]\nkind = \"constant\"\nrate = {rate}\nduration = \"{seconds}s\"\n"
    );
    Scenario::parse(&format!("{phase}{rest}"), "test").unwrap()
}

fn run(address: SocketAddr, scenario: &Scenario, workers: usize) -> Outcome {
    let job = Job {
        traffic: Traffic::new(scenario, &address.to_string(), "mark"),
        schedule: scenario.schedule(1),
        seed: 1,
        addresses: Addresses::new(vec![address]),
        tls: None,
        keep_alive: scenario.requests.connections == loadtest::scenario::Connections::KeepAlive,
        timeout: scenario.requests.timeout.0,
        max_in_flight: scenario.room(10_000),
        warm_up: Duration::ZERO,
        workers,
        slice: Duration::from_millis(500),
        follow: true,
    };
    let (running, mut streams) = engine::start(job).unwrap();
    let started_at = running.start.instant;
    let mut merger = Merger::new(workers);
    let mut slices = Vec::new();
    while let Some(slice) = streams.slices.blocking_recv() {
        slices.extend(merger.add(slice));
    }
    let took = started_at.elapsed();
    slices.extend(merger.rest());
    let mut accepted = Vec::new();
    while let Some(events) = streams.accepted.blocking_recv() {
        accepted.extend(events);
    }
    Outcome { totals: running.finish().unwrap(), slices, accepted, took }
}

#[test]
fn reports_a_constant_latency() {
    let address = serve(|_, stream| {
        std::thread::sleep(Duration::from_millis(20));
        stream.write_all(OK).unwrap();
    });
    let outcome = run(address, &scenario(200, 2, ""), 1);
    let totals = &outcome.totals;
    assert_eq!(totals.latency.len(), 400);
    assert_eq!(totals.all_failures(), 0);
    let median = percentile(&totals.latency, 50.0);
    assert!((20 * MILLISECOND..60 * MILLISECOND).contains(&median), "{median}");
    assert!(percentile(&totals.latency, 0.0) >= 19 * MILLISECOND);
    assert_eq!(outcome.slices.iter().map(|slice| slice.sent).sum::<u64>(), 400);
    assert_eq!(outcome.slices.iter().map(|slice| slice.expected_responses).sum::<u64>(), 400);
}

/// Coordinated omission: a closed loop would send nothing during the stall, and report one slow
/// request. Half of all requests are due during the stall, so half of all latencies must show it.
#[test]
fn stall_shows_in_the_latency_of_every_request_that_was_due() {
    let first_request_at = Arc::new(Mutex::new(None::<Instant>));
    let address = serve(move |_, stream| {
        // The server does not respond from 1 s to 2 s after the first request.
        let first = *first_request_at.lock().unwrap().get_or_insert_with(Instant::now);
        let since = first.elapsed();
        let stall = Duration::from_secs(1)..Duration::from_secs(2);
        if stall.contains(&since) {
            std::thread::sleep(stall.end - since);
        }
        stream.write_all(OK).unwrap();
    });
    let outcome = run(address, &scenario(100, 2, ""), 1);
    let latency = &outcome.totals.latency;
    assert_eq!(latency.len(), 200);
    // The waits are spread evenly over 0 to 1 s, for half of the requests.
    let at = |percent| percentile(latency, percent) as f64 / 1e9;
    assert!(at(45.0) < 0.2, "{}", at(45.0));
    assert!((0.3..0.7).contains(&at(75.0)), "{}", at(75.0));
    assert!((0.7..1.2).contains(&at(95.0)), "{}", at(95.0));
    assert!((0.9..1.5).contains(&at(99.0)), "{}", at(99.0));
    assert!((0.9..1.5).contains(&at(100.0)), "{}", at(100.0));
    // The requests were sent during the stall.
    assert!(percentile(&outcome.totals.lag, 99.0) < 300 * MILLISECOND);
}

#[test]
fn requests_beyond_max_in_flight_fail_without_delaying_others() {
    let address = serve(|_, stream| {
        std::thread::sleep(Duration::from_millis(1_000));
        let _ = stream.write_all(OK);
    });
    let outcome = run(address, &scenario(100, 2, "[requests]\nmax_in_flight = 10\n"), 1);
    let totals = &outcome.totals;
    assert_eq!(totals.due, 200);
    let overflow = totals.failures(Failure::Overflow);
    assert_eq!(overflow, totals.unsent_latencies);
    assert_eq!((totals.sent + overflow, totals.latency.len()), (200, 200));
    assert!((150..=190).contains(&overflow), "{overflow}");
    assert!(outcome.slices.iter().all(|slice| slice.in_flight <= 10));
    assert!(outcome.took < Duration::from_secs(10), "{:?}", outcome.took);
}

#[test]
fn counts_failures_by_kind() {
    let address = serve(|request, stream| {
        let path = request.split(' ').nth(1).unwrap();
        let _ = match path {
            "/reset" => {
                stream.write_all(&OK[..20]).unwrap();
                stream.shutdown(std::net::Shutdown::Both)
            }
            "/malformed" => stream.write_all(b"220 smtp.example ESMTP\r\n"),
            "/timeout" => Ok(()),
            "/status" => {
                stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
            }
            _ => stream.write_all(OK),
        };
    });
    for (name, failure) in [
        ("reset", Failure::Reset),
        ("malformed", Failure::Malformed),
        ("timeout", Failure::Timeout),
        ("status", Failure::Status),
    ] {
        let endpoint = format!(
            "[requests]\ntimeout = \"300ms\"\n[[endpoint]]\nname = \"{name}\"\npath = \"/{name}\"\n"
        );
        let outcome = run(address, &scenario(50, 1, &endpoint), 1);
        let counts = Failure::ALL.map(|failure| outcome.totals.failures(failure));
        for candidate in Failure::ALL {
            let expected = if candidate == failure { 50 } else { 0 };
            assert_eq!(outcome.totals.failures(candidate), expected, "{name}: {counts:?}");
        }
        let in_slices: u64 =
            outcome.slices.iter().map(|slice| slice.failures[failure.index()]).sum();
        assert_eq!(in_slices, 50);
        let unknown = if name == "status" { 0 } else { 50 };
        assert_eq!(outcome.totals.open_events, unknown, "{name}");
    }
}

#[test]
fn counts_refused_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let outcome = run(address, &scenario(50, 1, ""), 1);
    assert_eq!(outcome.totals.failures(Failure::Refused), 50);
    assert_eq!(outcome.totals.open_events, 0);
}

#[test]
fn accepts_expected_statuses_and_reports_message_ids() {
    const ID: &str = "01a1fd87-81ac-7202-b10a-070d1de87f87";
    let address = serve(|request, stream| {
        let body = format!(r#"{{"messageId":"{ID}"}}"#);
        let (status, body) = if request.contains("unknown-") {
            ("404 Not Found", String::new())
        } else if request.contains("checksum=mismatch") {
            ("400 Bad Request", String::new())
        } else {
            ("200 OK", body)
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(head.as_bytes()).unwrap();
    });
    let mix = "[requests]\nunknown = 0.2\nmismatching = 0.2\ndisabled = 0.2\n";
    let outcome = run(address, &scenario(500, 1, mix), 2);
    assert_eq!(outcome.totals.all_failures(), 0);
    let by_status = |wanted| -> u64 {
        outcome.totals.statuses().filter(|(_, status, _)| *status == wanted).map(|(.., n)| n).sum()
    };
    assert_eq!(by_status(200) + by_status(404) + by_status(400), 500);
    assert!(by_status(404) > 50 && by_status(400) > 50, "{}", by_status(404));
    assert_eq!(outcome.accepted.len() as u64, by_status(200));
    assert_eq!(outcome.totals.accepted_events, by_status(200));
    assert_eq!(outcome.totals.unidentified_events, 0);
    let id = 0x01a1_fd87_81ac_7202_b10a_070d_1de8_7f87_u128;
    assert!(outcome.accepted.iter().all(|accepted| accepted.id == id));
}

#[test]
fn opens_a_connection_per_request_if_configured() {
    let connections = Arc::new(Mutex::new(std::collections::HashSet::new()));
    let seen = Arc::clone(&connections);
    let address = serve(move |request, stream| {
        assert!(request.contains("Connection: close\r\n"), "{request}");
        seen.lock().unwrap().insert(stream.peer_addr().unwrap());
        stream.write_all(OK).unwrap();
    });
    let outcome = run(address, &scenario(50, 1, "[requests]\nconnections = \"new\"\n"), 1);
    assert_eq!(outcome.totals.all_failures(), 0);
    assert_eq!(connections.lock().unwrap().len(), 50);
}

#[test]
fn stopped_run_waits_for_requests_in_flight() {
    let address = serve(|_, stream| {
        std::thread::sleep(Duration::from_millis(300));
        stream.write_all(OK).unwrap();
    });
    let scenario = scenario(100, 60, "");
    let job = Job {
        traffic: Traffic::new(&scenario, "x", "mark"),
        schedule: scenario.schedule(1),
        seed: 1,
        addresses: Addresses::new(vec![address]),
        tls: None,
        keep_alive: true,
        timeout: Duration::from_secs(5),
        max_in_flight: 100,
        warm_up: Duration::ZERO,
        workers: 2,
        slice: Duration::from_secs(1),
        follow: false,
    };
    let (running, mut streams) = engine::start(job).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    running.stopper()();
    while streams.slices.blocking_recv().is_some() {}
    let totals = running.finish().unwrap();
    assert!((10..1_000).contains(&totals.due), "{}", totals.due);
    assert_eq!(totals.latency.len(), totals.due, "every request that was sent has a response");
}
