//! Every event with a 2xx response becomes a row, even if the tracker, Kinesis or DynamoDB fails.
//!
//! The long form runs with `make prove`, which sets `ADTRACK_PROVE`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod helpers;

use std::path::Path;
use std::time::{Duration, Instant};

use helpers::events::{Parameters, Traffic, check, gauge, start};
use helpers::long_or_short;
use local_stack::Stack;
use local_stack::faults::Fault;
use local_stack::process::Signal;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn loses_nothing_if_killed_at_random_times() {
    let (mut stack, _folder) = start(&[]).await;
    let traffic = Traffic::start(&stack, 300);
    for _ in 0..long_or_short(50, 4) {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(50..700))).await;
        stack.kill_tracker().await;
        stack.start_tracker_again().await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let sent = traffic.end().await;
    assert!(sent.accepted.len() > 100, "{}", sent.accepted.len());
    check(&stack, &sent).await;
    stack.stop().await;
}

/// Anonymous memory of the tracker in KiB, and its CPU time in clock ticks.
fn usage(stack: &mut Stack) -> (u64, u64) {
    let id = stack.tracker().unwrap().id().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let anonymous = line.trim().split(' ').next().unwrap().parse().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (anonymous, fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn loses_nothing_in_a_kinesis_outage() {
    outage(500, Vec::new()).await;
}

/// Unacknowledged events are bounded in bytes, not only in number.
#[tokio::test(flavor = "multi_thread")]
async fn uses_no_more_memory_in_an_outage_with_the_largest_events() {
    let value = "x".repeat(512);
    outage(100, (0..19).map(|number| (format!("p{number}"), value.clone())).collect()).await;
}

async fn outage(rate: u32, padding: Parameters) {
    let (mut stack, _folder) = start(&[]).await;
    let traffic = Traffic::start_padded(&stack, rate, padding);
    let around = [
        (Fault::Partial(0.3), 0.3),
        (Fault::SilentSuccess, 0.1),
        (Fault::Reset, 0.1),
        (Fault::Throttled, 0.1),
        (Fault::Latency(Duration::from_millis(300)), 0.2),
    ];
    let outage = [(Fault::BlackHole, 0.3), (Fault::ServerError, 0.4), (Fault::Partial(1.0), 0.3)];
    let edge = Duration::from_secs(long_or_short(10, 2));
    tokio::time::sleep(edge).await;
    let (anonymous, before) = usage(&mut stack);
    tokio::time::sleep(edge).await;
    let per_second = |ticks: u64, time: Duration| ticks as f64 / time.as_secs_f64();
    let healthy = per_second(usage(&mut stack).1 - before, edge);
    for (faults, time) in [
        (&around[..], edge),
        (&outage[..], Duration::from_secs(long_or_short(60, 5))),
        (&around[..], edge),
    ] {
        stack.faults.as_ref().unwrap().kinesis.set(faults);
        let before = usage(&mut stack).1;
        tokio::time::sleep(time).await;
        let (now, after) = usage(&mut stack);
        println!(
            "{:?}…: RssAnon {:+} KiB, CPU {:.1} ticks/s ({healthy:.1} without faults)",
            faults[0].0,
            now.cast_signed() - anonymous.cast_signed(),
            per_second(after - before, time),
        );
        assert!(now < anonymous + 20 * 1024, "RssAnon grew from {anonymous} to {now} KiB");
    }
    let backlog = gauge(&stack, "adtrack_journal_bytes").await;
    stack.faults.as_ref().unwrap().kinesis.set(&[]);
    let recovery = Instant::now();
    while gauge(&stack, "adtrack_journal_oldest_seconds").await > 1.0 {
        assert!(recovery.elapsed() < Duration::from_secs(60), "the journal does not drain");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let drained = recovery.elapsed().as_secs_f64();
    let sent = traffic.end().await;
    assert!(!sent.accepted.is_empty());
    check(&stack, &sent).await;
    println!(
        "{backlog} bytes in the journal reached the stream {drained:.1} s after the end of the faults, \
         and the table after {:.1} s",
        recovery.elapsed().as_secs_f64()
    );
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loses_nothing_in_dynamodb_faults() {
    let (stack, _folder) = start(&[]).await;
    let traffic = Traffic::start(&stack, 300);
    let faults = &stack.faults.as_ref().unwrap().dynamodb;
    for (fault, seconds) in [
        (Fault::ServerError, 1),
        (Fault::Throttled, 1),
        (Fault::Reset, 1),
        (Fault::SilentSuccess, long_or_short(10, 2)),
    ] {
        faults.set(&[(fault, 0.5)]);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
    faults.set(&[]);
    let sent = traffic.end().await;
    check(&stack, &sent).await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_events_and_recovers_if_kinesis_errors_fill_the_journal() {
    fill_journal(Fault::ServerError).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_events_and_recovers_if_kinesis_silence_fills_the_journal() {
    fill_journal(Fault::BlackHole).await;
}

async fn fill_journal(fault: Fault) {
    let (stack, _folder) = start(&[("JOURNAL_MAX_BYTES", "262144")]).await;
    let faults = &stack.faults.as_ref().unwrap().kinesis;
    let traffic = Traffic::start(&stack, 500);
    tokio::time::sleep(Duration::from_millis(500)).await;
    faults.set(&[(fault, 1.0)]);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |url: String| client.get(url).send().await.unwrap();
    let health = || get(format!("{}/health/check", stack.tracker_url()));
    let full_since = Instant::now();
    while traffic.count(503) < 200
        || full_since.elapsed() < Duration::from_secs(long_or_short(30, 3))
    {
        assert_eq!(health().await.status(), 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(full_since.elapsed() < Duration::from_secs(60), "never full");
    }
    let ready = get(format!("{}/health/ready", stack.management_url())).await;
    assert_eq!(ready.status(), 503);
    let reasons = ready.text().await.unwrap();
    assert!(reasons.contains("journal_nearly_full"), "{reasons}");
    // Larger than the events that are refused, so it cannot fit into space that is left.
    let large = "x".repeat(500);
    let refused = get(format!("{}/event/212313?n={large}", stack.tracker_url())).await;
    assert_eq!(
        (refused.status().as_u16(), refused.headers()["retry-after"].as_bytes()),
        (503, &b"1"[..])
    );
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "overloaded");
    faults.set(&[]);
    let accepted_before = traffic.count(200);
    let recovered_at = Instant::now();
    while traffic.count(200) < accepted_before + 10 {
        assert!(recovered_at.elapsed() < Duration::from_secs(20), "does not accept events again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!(
        "{fault:?}: accepts events again {:.2} s after Kinesis recovered",
        recovered_at.elapsed().as_secs_f64()
    );
    let statuses = traffic.statuses.lock().unwrap().clone();
    assert!(statuses.keys().all(|status| [200, 503].contains(status)), "{statuses:?}");
    let sent = traffic.end().await;
    check(&stack, &sent).await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spills_on_sigterm_in_an_outage_for_redrive_to_store() {
    let spill = tempfile::tempdir().unwrap();
    let url = format!("file://{}", spill.path().display());
    let settings = [("SPILL_URL", url.as_str()), ("SHUTDOWN_GRACE_SECONDS", "4")];
    let (mut stack, _folder) = start(&settings).await;
    let traffic = Traffic::start(&stack, 300);
    stack.faults.as_ref().unwrap().kinesis.set(&[(Fault::BlackHole, 1.0)]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let tracker = stack.tracker().unwrap();
    tracker.signal(Signal::TERM);
    let sent = traffic.end().await;
    assert!(stack.tracker().unwrap().wait().await.unwrap().success());
    assert!(sent.accepted.len() > 100, "{}", sent.accepted.len());
    let redrive = Path::new(env!("CARGO_BIN_EXE_local-stack")).with_file_name("redrive");
    for keep in [Some("--keep"), None] {
        let status = tokio::process::Command::new(&redrive)
            .args(["--spill-url", &url])
            .args(keep)
            .envs(stack.environment.iter().cloned())
            .status()
            .await
            .unwrap();
        assert!(status.success());
    }
    check(&stack, &sent).await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exits_at_once_on_second_sigterm_with_an_intact_journal() {
    let (mut stack, _folder) = start(&[]).await;
    let traffic = Traffic::start(&stack, 300);
    stack.faults.as_ref().unwrap().kinesis.set(&[(Fault::BlackHole, 1.0)]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sent = traffic.end().await;
    let tracker = stack.tracker().unwrap();
    let signalled_at = Instant::now();
    tracker.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(tracker.exit_status().is_none(), "it drains");
    tracker.signal(Signal::TERM);
    tracker.wait().await.unwrap();
    assert!(signalled_at.elapsed() < Duration::from_secs(10), "not after its grace of 25 s");
    stack.faults.as_ref().unwrap().kinesis.set(&[]);
    stack.start_tracker_again().await.unwrap();
    check(&stack, &sent).await;
    stack.stop().await;
}
