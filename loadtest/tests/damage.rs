//! Rows that are dropped, doubled or altered on their way to the table: the harness finds each of them, whatever the
//! endpoint that the event came by.
//!
//! The long form runs with `make prove`, which sets `ADTRACK_PROVE`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use loadtest::report::{Report, Truth};
use local_stack::damage::{Fate, RowDamage};
use local_stack::{Stack, StackOptions};
use tempfile::TempDir;

const SCENARIO: &str = r#"
description = "every kind of endpoint"

[[phase]]
kind = "constant"
rate = 100
duration = "2s"

[programs]
ids = ["212312", "212313", "212314"]

[[endpoint]]
name = "event"
path = "/event/{programId}?transaction_id={random}"

[[endpoint]]
name = "impression"
path = "/impression/{programId}.gif"

[[endpoint]]
name = "click"
path = "/click/{programId}?impression_id={impression.id}"
expect = [302]
after = "impression"
probability = 0.9
delay = "100ms"

[[endpoint]]
name = "conversion"
path = "/conversion/{programId}?click_id={click.id}&transaction_id={visitor}&amount=19.90&currency=EUR"
after = "click"
probability = 0.9
delay = "100ms"

[[endpoint]]
name = "refund"
method = "POST"
path = "/conversion/{programId}"
content_type = "application/x-www-form-urlencoded"
body = "transaction_id={random}&status=refunded&amount=5&currency=EUR"

[[endpoint]]
name = "batch"
method = "POST"
path = "/events"
content_type = "application/json"
batch = 3
body = '{"programId":"{programId}","eventType":"conversion","transactionId":"{random}","amount":"2.5","currency":"EUR"}'

[verify]
settle = "4s"
"#;

async fn start(functions: bool) -> (Stack, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_loadtest")).parent().unwrap();
    let options =
        StackOptions { faults: true, functions, ..StackOptions::new(binaries, folder.path()) };
    let stack = Stack::start(&options).await.unwrap();
    stack.load_samples().await.unwrap();
    (stack, folder)
}

/// Runs the scenario against the stack; returns what the harness found.
async fn run(stack: &Stack, folder: &Path, name: &str) -> Truth {
    let (scenario, report) = (folder.join("scenario.toml"), folder.join(name));
    std::fs::write(&scenario, SCENARIO).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command
        .args(["run", "--no-preload", "--url", stack.tracker_url(), "--report"])
        .arg(&report)
        .arg(&scenario)
        .envs(stack.environment.iter().cloned())
        .stdout(Stdio::null());
    let status = tokio::task::spawn_blocking(move || command.status()).await.unwrap().unwrap();
    // 3: the machine is too busy to send on time; events are followed all the same.
    assert!(matches!(status.code(), Some(0 | 3)), "{status}");
    Report::read(&report.with_extension("json")).unwrap().figures.truth.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn finds_what_was_dropped_doubled_or_altered() {
    let seeds = if std::env::var_os("ADTRACK_PROVE").is_some() { 50 } else { 2 };
    let (stack, folder) = start(true).await;
    let proxy = &stack.faults.as_ref().unwrap().dynamodb;
    for seed in 0..seeds {
        proxy.set_damage(Some(RowDamage::new(seed, 5)));
        let truth = run(&stack, folder.path(), &format!("seed-{seed}")).await;
        let damage = proxy.set_damage(None).unwrap();

        let did = [Fate::Dropped, Fate::Doubled, Fate::Altered].map(|fate| damage.count(fate));
        let found = [truth.lost, truth.doubled, truth.altered].map(|count| count as usize);
        assert_eq!(found, did, "seed {seed}: {truth:?}");
        assert!(did.iter().all(|count| *count > 5), "seed {seed}: {did:?}");
        assert_eq!(truth.stored + truth.lost, truth.accepted, "seed {seed}");
    }
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_lost_while_no_function_runs() {
    let (stack, folder) = start(false).await;

    let truth = run(&stack, folder.path(), "stopped").await;

    assert!(truth.accepted > 300, "{truth:?}");
    assert_eq!((truth.stored, truth.lost), (0, truth.accepted));
    assert_eq!((truth.unidentified, truth.open), (0, 0));
    tokio::time::timeout(Duration::from_secs(60), stack.stop()).await.unwrap();
}
