//! `core-data mark-loaded` and `repair`.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::local::{Local, deleted, program};

async fn mark(local: &Local) -> Option<String> {
    local.redis.command(&["GET", "adtrack:loaded"]).await.unwrap()
}

async fn until_mark(local: &Local, expected: &str) {
    let give_up_at = Instant::now() + Duration::from_secs(20);
    while mark(local).await.as_deref() != Some(expected) {
        assert!(Instant::now() < give_up_at, "{:?}, expected {expected}", mark(local).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_prints_the_command_that_marks_redis_as_loaded() {
    let local = Local::start().await;
    let lines =
        [program("a", "1"), program("b", "1"), program("a", "2"), deleted("b"), deleted("c")];
    let published = local.publish(&local.file("lines", &lines.join("\n"))).await;
    assert!(published.out.ends_with(": core-data mark-loaded --count 1\n"), "{published:?}");
    assert_eq!(mark(&local).await, None, "a publish may be of a part");
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mark_may_be_set_before_the_programs_arrive() {
    let local = Local::start().await;
    let early = local.run(&["mark-loaded", "--count", "300"]).await;
    assert_eq!(early.status, Some(0), "{early:?}");
    assert!(early.out.contains("adtrack:loaded is 300"), "{early:?}");
    assert!(early.err.contains("Redis holds 0 so far, far fewer than 300"), "{early:?}");
    let programs: Vec<_> = (0..300).map(|n| program(&format!("p{n}"), "n")).collect();
    let file = local.file("programs", &programs.join("\n"));
    assert_eq!(local.publish(&file).await.status, Some(0));
    let verified = local.run(&["verify", file.to_str().unwrap(), "--wait", "20"]).await;
    assert_eq!(verified.status, Some(0), "{verified:?}");
    assert_eq!(mark(&local).await.as_deref(), Some("300"), "none is counted twice");
    let more = [program("one-more", "n"), program("another", "n"), deleted("p7")];
    assert_eq!(local.publish(&local.file("more", &more.join("\n"))).await.status, Some(0));
    until_mark(&local, "301").await;
    for (count, expected) in [
        (&[][..], "--count is required and not set"),
        (&["--count=-1"], "--count=\"-1\": expected an integer from 0 to 9999999999"),
        (&["--count=x"], "--count=\"x\": expected an integer from 0 to 9999999999"),
        (&["--count=10000000000"], "expected an integer from 0 to 9999999999"),
        (&["--count=0"], "add --allow-empty"),
    ] {
        let usage = local.run(&[&["mark-loaded"][..], count].concat()).await;
        assert_eq!((usage.status, usage.err.lines().count()), (Some(64), 1), "{usage:?}");
        assert!(usage.err.contains(expected), "{usage:?}");
    }
    assert_eq!(mark(&local).await.as_deref(), Some("301"));
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_replaces_a_version_that_blocks_updates() {
    let local = Local::start().await;
    let file = local.file("programs", &[program("p", "old"), program("p", "true")].join("\n"));
    let file = file.to_str().unwrap();
    let forged = [
        "HSET",
        "program:{p}",
        "programId",
        "p",
        "programName",
        "forged",
        "checksum",
        "1",
        "customerId",
        "1",
        "customerName",
        "c",
        "valid",
        "true",
        "version",
        "1.999",
    ];
    let _: u64 = local.redis.command(&forged).await.unwrap();
    assert_eq!(local.run(&["publish", file]).await.status, Some(0));
    let stuck = local.run(&["verify", file, "--wait", "2"]).await;
    assert_eq!(stuck.status, Some(1), "{stuck:?}");

    let got: Value = serde_json::from_str(&local.run(&["get", "p"]).await.out).unwrap();
    let version = got["version"].as_str().unwrap();
    let repaired = local.run(&["repair", file, "--program", "p", "--replaces", version]).await;
    assert_eq!(repaired.status, Some(0), "{repaired:?}");
    assert!(repaired.out.contains("us-east-1: p is published in place of version 1.999"));
    let verified = local.run(&["verify", file, "--wait", "20"]).await;
    assert_eq!(verified.status, Some(0), "{verified:?}");

    let missing = local.run(&["repair", file, "--program", "q", "--replaces", "1.9"]).await;
    assert_eq!(missing.status, Some(65), "{missing:?}");
    let usage = local.run(&["repair", file, "--program", "p", "--replaces", "x"]).await;
    assert_eq!((usage.status, usage.err.lines().count()), (Some(64), 1), "{usage:?}");
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn get_reports_the_hash_of_another_program() {
    let local = Local::start().await;
    let file = local.file("one", &program("p", "n"));
    assert_eq!(local.publish(&file).await.status, Some(0));
    let file = file.to_str().unwrap();
    assert_eq!(local.run(&["verify", file, "--wait", "20"]).await.status, Some(0));
    let _: bool = local.redis.command(&["COPY", "program:{p}", "program:{q}"]).await.unwrap();
    let got = local.run(&["get", "q"]).await;
    assert_eq!(got.status, Some(65), "{got:?}");
    assert!(got.err.contains("it names another program, p"), "{got:?}");
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uses_the_node_that_responds() {
    let local = Local::start().await;
    let closed = local_stack::ports::free("nobody", local_stack::ports::Port::Any).await.unwrap();
    let url = format!("redis://{closed},{}", local.redis.address());
    let output = local
        .command(&["mark-loaded", "--count=0", "--allow-empty"])
        .env("REDIS_URL", &url)
        .output();
    assert!(output.await.unwrap().status.success());
    assert_eq!(mark(&local).await.as_deref(), Some("0"));
    local.stop().await;
}
