//! What the process that runs the tracker can run out of: a reader of its log, file handles.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod helpers;

use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use helpers::events::{Traffic, check, start_in};
use helpers::{client, long_or_short, until};
use local_stack::faults::Fault;
use local_stack::ports::{self, Port};
use local_stack::process::Signal;
use local_stack::stack::CORE_DATA_STREAM;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::ioctl_fionread;
use rustix::pipe::fcntl_setpipe_size;
use serde_json::{Value, json};

/// A pipe that nobody reads: once it is full, a `write` to it blocks.
fn unread_pipe(path: &Path) -> std::fs::File {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let pipe = std::fs::File::options().read(true).write(true).open(path).unwrap();
    fcntl_setpipe_size(&pipe, 4_096).unwrap();
    pipe
}

#[tokio::test(flavor = "multi_thread")]
async fn works_as_ever_while_nobody_reads_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = unread_pipe(&folder.path().join("logs/tracker.log"));
    let mut stack = start_in(folder.path(), &[("RUST_LOG", "debug")]).await;
    let traffic = Traffic::start(&stack, 300);

    for _ in 0..20 {
        stack.faults.as_ref().unwrap().kinesis.set(&[(Fault::ServerError, 1.0)]);
        for kind in ["normal", "pubsub"] {
            let kill = ["CLIENT", "KILL", "TYPE", kind];
            stack.redis.command::<u32>(&kill).await.unwrap();
        }
        let blip = Duration::from_millis(long_or_short(1_500, 150));
        tokio::time::sleep(blip).await;
        stack.faults.as_ref().unwrap().kinesis.set(&[]);
        tokio::time::sleep(blip).await;
    }

    let sent = traffic.end().await;
    check(&stack, &sent).await;
    assert!(ioctl_fionread(&pipe).unwrap() > 3_500, "the pipe is full");
    let update = json!({"programId": "212313", "programName": "renamed", "checksum": "124",
        "customerId": 9124, "customerName": "Customer2", "valid": true});
    let record = stack.kinesis().await.put_record().stream_name(CORE_DATA_STREAM);
    let data = Blob::new(update.to_string());
    record.partition_key("212313").data(data).send().await.unwrap();
    let url = format!("{}/event/212313", stack.tracker_url());
    until("the update is applied", async || {
        let event: Value = reqwest::get(&url).await.unwrap().json().await.unwrap();
        event["programName"] == "renamed"
    })
    .await;
    let ready = format!("{}/health/ready", stack.management_url());
    assert_eq!(reqwest::get(ready).await.unwrap().status(), 200);

    let tracker = stack.tracker().unwrap();
    tracker.signal(Signal::TERM);
    let status = tokio::time::timeout(Duration::from_secs(28), tracker.wait()).await.unwrap();
    assert!(status.unwrap().success());
    stack.stop().await;
}

async fn free_address() -> String {
    let listener = ports::listen("a tracker", Port::Any).await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_file_handles_for_itself_under_many_silent_connections() {
    let folder = tempfile::tempdir().unwrap();
    let stack = start_in(folder.path(), &[]).await;
    let (public, management) = (free_address().await, free_address().await);
    let tracker = Path::new(env!("CARGO_BIN_EXE_local-stack")).with_file_name("tracker");
    let mut tracker = tokio::process::Command::new("prlimit")
        .arg("--nofile=512:512")
        .arg(tracker)
        .envs(stack.environment.iter().cloned())
        .env("LISTEN_ADDR", &public)
        .env("MANAGEMENT_ADDR", &management)
        .env("JOURNAL_DIR", folder.path().join("second-journal"))
        .env("JOURNAL_MAX_BYTES", "8388608")
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let get = async |client: &reqwest::Client, url: String| {
        client.get(url).send().await.map_or(0, |response| response.status().as_u16())
    };
    let early = client();
    until("it serves", async || get(&early, format!("http://{public}/event/212313")).await == 200)
        .await;

    let silent: Vec<_> = (0..600).map(|_| TcpStream::connect(&public).unwrap()).collect();
    until("health checks are served", async || {
        get(&client(), format!("http://{public}/health/check")).await == 200
    })
    .await;
    let kill = ["CLIENT", "KILL", "TYPE", "normal"];
    stack.redis.command::<u32>(&kill).await.unwrap();
    assert_eq!(get(&early, format!("http://{public}/event/212313")).await, 200);
    until("Redis and Kinesis are reached", async || {
        let metrics = client().get(format!("http://{management}/metrics")).send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        ["adtrack_redis_connected 1", "adtrack_events_delivered_total 2"]
            .iter()
            .all(|sample| metrics.lines().any(|line| line == *sample))
    })
    .await;

    drop(silent);
    tracker.kill().await.unwrap();
    stack.stop().await;
}
