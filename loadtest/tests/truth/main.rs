//! The harness' figures against the log of a server that knows the truth.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use loadtest::recorder::{Failure, percentile};

mod journeys;
mod reference;
mod tls;

use reference::harness::{NONE, Outcome, endpoint, run, scenario};
use reference::{Act, Logged, Reference, Request, ok, response};

const MS: u64 = 1_000_000;
/// By how much a busy machine may delay what the harness sees.
const SLACK_MS: u64 = 400;

fn at_once(bytes: Vec<u8>) -> Act {
    Act::Send(Duration::ZERO, vec![bytes])
}

/// The value that `percent` of all do not exceed, in nanoseconds.
fn true_percentile(mut values: Vec<u64>, percent: f64) -> u64 {
    values.sort_unstable();
    let rank = ((percent / 100.0 * values.len() as f64).ceil() as usize).max(1);
    values[rank - 1]
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

/// Checks that latencies from sending are those of the server's log: not shorter, and longer only by what the machine
/// adds.
fn assert_latencies(case: &str, outcome: &Outcome, log: &[Logged]) {
    let took: Vec<u64> = log.iter().filter_map(Logged::took).map(nanoseconds).collect();
    for percent in [0.0, 50.0, 90.0, 99.0, 100.0] {
        let truth = true_percentile(took.clone(), percent);
        let reported = percentile(&outcome.totals.from_sending, percent);
        // Histograms are exact to 0.1 %.
        assert!(reported as f64 >= truth as f64 * 0.998, "{case}: p{percent} {reported} < {truth}");
        assert!(reported <= truth + SLACK_MS * MS, "{case}: p{percent} {reported} > {truth}");
    }
}

/// Every way to end a response and a connection that is valid HTTP: all requests get it, and no failure is counted.
#[test]
fn understands_every_valid_response() {
    let body = "0123456789";
    let chunked =
        "transfer-encoding: chunked\r\n\r\n4;x=\"y\"\r\n0123\r\n6\r\n456789\r\n0\r\nx-t: 1\r\n\r\n";
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let mut cases: Vec<(String, u16, Act)> = Vec::new();
    for connection in
        ["", "Connection: close\r\n", "Connection: foo, close\r\n", "Connection: keep-alive\r\n"]
    {
        let closes = connection.contains("close");
        let mut add = |name: &str, status, bytes: Vec<u8>| {
            let act = if closes { Act::SendAndClose(bytes) } else { at_once(bytes) };
            cases.push((format!("{name}, {connection:?}"), status, act));
        };
        add("length", 200, response(200, connection, body));
        add("chunks", 200, format!("HTTP/1.1 200 OK\r\n{connection}{chunked}").into_bytes());
        add(
            "interim",
            200,
            [early.as_bytes(), b"HTTP/1.1 100 Continue\r\n\r\n", &response(200, connection, body)]
                .concat(),
        );
        add("no content", 204, format!("HTTP/1.1 204 No Content\r\n{connection}\r\n").into_bytes());
        add(
            "not modified",
            304,
            format!("HTTP/1.1 304 Not Modified\r\n{connection}content-length: 99\r\n\r\n")
                .into_bytes(),
        );
    }
    let until_closed = format!("HTTP/1.1 200 OK\r\n\r\n{body}").into_bytes();
    cases.push(("until closed".to_owned(), 200, Act::SendAndClose(until_closed)));
    let old = b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec();
    cases.push(("HTTP/1.0".to_owned(), 200, Act::SendAndClose(old)));
    let whole = response(200, "", body);
    let pieces = whole.chunks(9).map(<[u8]>::to_vec).collect();
    cases.push(("in pieces".to_owned(), 200, Act::Send(Duration::ZERO, pieces)));

    let threads: Vec<_> = cases
        .into_iter()
        .map(|(case, status, act)| {
            std::thread::spawn(move || {
                let server = Reference::start(move |_| act.clone());
                let expect = format!("expect = [{status}]");
                let outcome =
                    run(&[server.address], None, &scenario(60, "500ms", &endpoint("/e", &expect)));
                assert_eq!(outcome.failures(), NONE, "{case}");
                assert_eq!((outcome.status(status), server.log().len()), (30, 30), "{case}");
                assert!(server.log().iter().all(|logged| logged.path == "/e"), "{case}");
                assert_latencies(&case, &outcome, &server.log());
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Every way to fail: each request of the log counts as this kind of failure, and as nothing else.
#[test]
fn counts_what_the_server_did_by_kind() {
    let cut = |bytes: &[u8], at: usize| Act::SendAndClose(bytes[..at].to_vec());
    let whole = response(200, "", "0123456789");
    let chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n0123\r\n".to_vec();
    let cases = [
        ("closes before", "/e", Act::Close, Failure::Reset),
        ("closes in the head", "/e", cut(&whole, 20), Failure::Reset),
        ("closes in the body", "/e", cut(&whole, whole.len() - 3), Failure::Reset),
        ("closes between chunks", "/e", Act::SendAndClose(chunks), Failure::Reset),
        (
            "closes after 100",
            "/e",
            Act::SendAndClose(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
            Failure::Reset,
        ),
        ("resets", "/reset", Act::Close, Failure::Reset),
        ("ignores", "/e", Act::Ignore, Failure::Timeout),
        ("sends half and stops", "/e", at_once(whole[..20].to_vec()), Failure::Timeout),
        (
            "is no HTTP server",
            "/e",
            at_once(b"220 smtp.example ESMTP\r\n".to_vec()),
            Failure::Malformed,
        ),
        (
            "sends a bad chunk",
            "/e",
            at_once(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec()),
            Failure::Malformed,
        ),
        ("refuses", "/e", at_once(response(503, "", "")), Failure::Status),
    ];
    let threads = cases.map(|(case, path, act, failure)| {
        std::thread::spawn(move || {
            let server = Reference::start(move |_| act.clone());
            let timeout = format!("[requests]\ntimeout = \"400ms\"\n{}", endpoint(path, ""));
            let outcome = run(&[server.address], None, &scenario(60, "500ms", &timeout));
            assert_eq!(outcome.failures(), [(failure.name(), 30)], "{case}");
            assert_eq!((server.log().len(), outcome.totals.sent), (30, 30), "{case}");
            let in_slices: u64 = outcome.slices.iter().map(|s| s.failures[failure.index()]).sum();
            assert_eq!(in_slices, 30, "{case}");
            let is_known = failure == Failure::Status;
            assert_eq!(outcome.totals.open_events, if is_known { 0 } else { 30 }, "{case}");
        })
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn reports_the_delays_of_the_log() {
    type Delay = fn(usize) -> u64;
    let delays: [(&str, Delay); 5] = [
        ("none", |_| 0),
        ("constant", |_| 30),
        ("one in ten", |number| if number % 10 == 0 { 300 } else { 5 }),
        ("growing", |number| number as u64),
        ("random", |number| fastrand::Rng::with_seed(number as u64).u64(0..200)),
    ];
    let threads = delays.map(|(case, delay)| {
        std::thread::spawn(move || {
            let server = Reference::start(move |request| {
                Act::Send(
                    Duration::from_millis(delay(request.number)),
                    vec![response(200, "", "{}")],
                )
            });
            let outcome = run(&[server.address], None, &scenario(100, "1s", ""));
            assert_eq!((outcome.status(200), outcome.failures()), (100, vec![]), "{case}");
            assert_latencies(case, &outcome, &server.log());
        })
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// A stall: every request that was due in it has waited for its end, also those that there was no room to send.
/// Without them, the percentiles of a harness with little room would be those of the calm before and after.
#[test]
fn a_stall_shows_in_every_request_that_was_due_whatever_the_room() {
    let threads = [(1_000, 0), (1_000, 8), (600, 40), (300, 1)].map(|(stall_ms, room)| {
        std::thread::spawn(move || {
            let case = format!("stall of {stall_ms} ms, room {room}");
            let (from, until) = (500, 500 + stall_ms);
            let server = Reference::start(move |request| {
                let is_in_it = (from..until).contains(&request.at.as_millis());
                let end = Duration::from_millis(u64::try_from(until).unwrap());
                if is_in_it { Act::SendAt(end, response(200, "", "{}")) } else { ok() }
            });
            let room = if room == 0 {
                String::new()
            } else {
                format!("[requests]\nmax_in_flight = {room}\n")
            };
            let outcome = run(&[server.address], None, &scenario(200, "2s", &room));
            let totals = &outcome.totals;
            let overflow = totals.failures(Failure::Overflow);
            assert_eq!((totals.due, totals.sent), (400, server.log().len() as u64), "{case}");
            assert_eq!(totals.sent + overflow, 400, "{case}");
            assert_eq!(totals.latency.len(), 400, "{case}: a request without a latency");
            assert_eq!(overflow, totals.unsent_latencies, "{case}");
            let sent: u64 = outcome.slices.iter().map(|slice| slice.sent).sum();
            assert_eq!(sent, totals.sent, "{case}");
            if room.is_empty() {
                assert_eq!(overflow, 0, "{case}: the default room is enough");
            }
            // The truth: a request due at t within the stall takes until its end.
            let stall_end = u64::try_from(until).unwrap() * MS;
            let due = (0..400).map(|number: u64| number * 5 * MS);
            let truth: Vec<u64> = due
                .map(|at| if at >= 500 * MS && at < stall_end { stall_end - at } else { 0 })
                .collect();
            for percent in [50.0, 75.0, 90.0, 95.0, 99.0] {
                let (truth, reported) =
                    (true_percentile(truth.clone(), percent), percentile(&totals.latency, percent));
                let slack = SLACK_MS * MS;
                assert!(reported + 20 * MS >= truth, "{case}: p{percent} {reported} < {truth}");
                assert!(reported <= truth + slack, "{case}: p{percent} {reported} > {truth}");
            }
        })
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Requests that are due before the warm-up ends are sent, but not in the run's latencies.
#[test]
fn leaves_the_warm_up_out() {
    let server = Reference::start(|request| {
        let slow = request.at < Duration::from_millis(400);
        Act::Send(Duration::from_millis(if slow { 300 } else { 0 }), vec![response(200, "", "{}")])
    });
    let outcome =
        run(&[server.address], None, &scenario(100, "1s", "[harness]\nwarm_up = \"500ms\"\n"));
    assert_eq!((outcome.status(200), outcome.totals.latency.len()), (100, 50));
    assert!(percentile(&outcome.totals.latency, 90.0) < 250 * MS);
}

fn unused(ip: &str) -> SocketAddr {
    TcpListener::bind((ip.parse::<IpAddr>().unwrap(), 0)).unwrap().local_addr().unwrap()
}

/// `localhost` is often `::1` and `127.0.0.1`, and a server listens at one of them.
#[test]
fn goes_to_the_addresses_at_which_the_server_listens() {
    let v4 = Reference::start(|_| ok());
    let v6 = Reference::start_at("::1".parse().unwrap(), Duration::ZERO, |_| ok());
    // A host that never responds to a SYN, as behind a firewall: documentation addresses have no route here, or one
    // that leads nowhere.
    let silent: SocketAddr = "192.0.2.1:9".parse().unwrap();
    let dead = (unused("127.0.0.1"), unused("::1"));
    for (case, addresses) in [
        ("v6 is dead", vec![dead.1, v4.address]),
        ("v4 is dead", vec![dead.0, v6.address]),
        ("both live", vec![v6.address, v4.address]),
        ("one is silent", vec![silent, v4.address]),
        ("the last of three", vec![dead.0, dead.1, v6.address]),
    ] {
        for connections in ["keep-alive", "new"] {
            let requests = format!("[requests]\nconnections = \"{connections}\"\n");
            let outcome = run(&addresses, None, &scenario(40, "500ms", &requests));
            assert_eq!(
                (outcome.status(200), outcome.failures()),
                (20, vec![]),
                "{case}, {connections}"
            );
        }
    }
    assert!(v6.log().iter().all(|logged| logged.address == v6.address));
    let refused = run(&[dead.0, dead.1], None, &scenario(40, "500ms", ""));
    assert_eq!(refused.failures(), [("refused", 20)]);
    assert_eq!((refused.totals.open_events, refused.totals.sent), (0, 20));
}

/// A server that accepts slowly, and one that never does: the kernel completes the connection, nobody responds.
#[test]
fn a_slow_accept_is_the_servers_latency() {
    let slow = Reference::start_at([127, 0, 0, 1].into(), Duration::from_millis(40), |_| ok());
    let outcome =
        run(&[slow.address], None, &scenario(50, "400ms", "[requests]\nconnections = \"new\"\n"));
    assert_eq!((outcome.status(200), outcome.failures()), (20, vec![]));
    // 20 accepts of 40 ms for requests that are 20 ms apart: the last one waits for about 400 ms.
    assert!(percentile(&outcome.totals.latency, 100.0) > 300 * MS);
    let half_open = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = half_open.local_addr().unwrap();
    let outcome =
        run(&[address], None, &scenario(40, "500ms", "[requests]\ntimeout = \"300ms\"\n"));
    assert_eq!(outcome.failures(), [("timeout", 20)]);
    assert_eq!(outcome.totals.latency.len(), 20);
}

#[test]
fn counts_statuses_as_the_log_has_them() {
    for seed in 0..5 {
        let statuses = [200_u16, 302, 404, 429, 503];
        let drawn = move |number: usize| {
            let mut random = fastrand::Rng::with_seed(seed * 1_000 + number as u64);
            statuses[random.usize(..statuses.len())]
        };
        let server = Reference::start(move |request: &Request<'_>| {
            at_once(response(drawn(request.number), "", ""))
        });
        let outcome = run(
            &[server.address],
            None,
            &scenario(200, "500ms", &endpoint("/e", "expect = [200, 302]")),
        );
        let truth = |wanted: u16| (0..100).filter(|number| drawn(*number) == wanted).count() as u64;
        for status in statuses {
            assert_eq!(outcome.status(status), truth(status), "seed {seed}, status {status}");
            let of_status: u64 = outcome
                .totals
                .latencies()
                .filter(|(_, s, _)| *s == status)
                .map(|(.., times)| times.len())
                .sum();
            assert_eq!(of_status, truth(status), "latencies by status");
        }
        let bad = truth(404) + truth(429) + truth(503);
        assert_eq!(outcome.failures(), [("status", bad)]);
    }
}

fn id(number: usize) -> String {
    uuid::Uuid::from_u128((7 << 76) | (number as u128 + 1)).to_string()
}

/// Wherever an id is, each accepted event is followed or counted as one that cannot be followed.
#[test]
fn follows_ids_in_body_header_and_location() {
    type Respond = fn(usize) -> Vec<u8>;
    struct Case {
        name: &'static str,
        endpoint: &'static str,
        respond: Respond,
        /// Accepted, identified and unidentified events of a request.
        truth: (u64, u64, u64),
    }
    let case = |name, endpoint, truth, respond| Case { name, endpoint, respond, truth };
    let batch = "method = \"POST\"\nbody = '{\"programId\":\"p\"}'\nbatch = 3\nexpect = [200, 207]";
    let cases = [
        case("body", "", (1, 1, 0), |n| {
            response(200, "", &format!(r#"{{"messageId":"{}"}}"#, id(n)))
        }),
        case("pixel", "", (1, 1, 0), |n| {
            response(200, &format!("Adtrack-Event-Id: {}\r\n", id(n)), "GIF89a")
        }),
        case("redirect", "expect = [302]", (1, 1, 0), |n| {
            let page = format!("Location: https://shop.example/p?click_id={}\r\n", id(n));
            response(302, &page, "")
        }),
        case("redirect with both", "expect = [302]", (1, 1, 0), |n| {
            let other = id(n + 1_000_000);
            response(302, &format!("Location: /p?c={other}\r\nadtrack-event-id: {}\r\n", id(n)), "")
        }),
        case("chunked body", "", (1, 1, 0), |n| {
            let (first, second) =
                (format!("{{\"messageId\":\"{}", &id(n)[..9]), format!("{}\"}}", &id(n)[9..]));
            let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
            format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}{}0\r\n\r\n",
                chunk(&first),
                chunk(&second)
            )
            .into_bytes()
        }),
        case("no id", "", (1, 0, 1), |_| response(200, "", "{}")),
        case("not recorded", "expect = [302]", (0, 0, 0), |_| {
            response(302, "Adtrack-Recorded: false\r\nLocation: /x\r\n", "")
        }),
        case("ended, but recorded", "expect = [410]", (1, 1, 0), |n| {
            response(410, &format!("Adtrack-Event-Id: {}\r\n", id(n)), "")
        }),
        case("refused", "expect = [404]", (0, 0, 0), |_| response(404, "", "{}")),
        case("batch with a refusal", batch, (2, 2, 0), |n| {
            let result = |n| format!(r#"{{"messageId":"{}","valid":true}}"#, id(n));
            let results = format!("{},{},{{\"problem\":{{}}}}", result(2 * n), result(2 * n + 1));
            response(207, "", &format!(r#"{{"accepted":2,"refused":1,"results":[{results}]}}"#))
        }),
    ];
    for Case { name, endpoint: rest, respond, truth } in cases {
        let server = Reference::start(move |request| at_once(respond(request.number)));
        let outcome = run(&[server.address], None, &scenario(50, "400ms", &endpoint("/e", rest)));
        let totals = &outcome.totals;
        assert_eq!(outcome.failures(), NONE, "{name}");
        let (accepted, identified, unidentified) = truth;
        assert_eq!(
            (totals.accepted_events, totals.unidentified_events),
            (20 * accepted, 20 * unidentified),
            "{name}"
        );
        let mut followed: Vec<u128> = outcome.accepted.iter().map(|event| event.id).collect();
        followed.sort_unstable();
        let all = 0..usize::try_from(20 * identified).unwrap();
        let expected: Vec<u128> =
            all.map(|n| uuid::Uuid::parse_str(&id(n)).unwrap().as_u128()).collect();
        assert_eq!(followed, expected, "{name}");
    }
}
