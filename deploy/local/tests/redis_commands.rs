//! Holds `deploy/checks/model/redis-commands.json` true: what each program sends to Redis, which is what
//! the templates let its user do.
//!
//! Each program gets a user of its own that may do nothing. Whatever Redis refuses stands in its log
//! (`ACL LOG`), with the user; it is granted, and the program tries again. In the end each user may do
//! exactly what its program sends, and that has to be the list.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod helpers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_kinesis::primitives::Blob;
use helpers::{client, get_event, run_alone, start_stack};
use local_stack::ports::Port;
use local_stack::stack::CORE_DATA_STREAM;
use local_stack::{RedisServer, Stack};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

const LIST: &str = "../checks/model/redis-commands.json";
/// How long all of it may take; a command that is refused costs its program a retry.
const PATIENCE: Duration = Duration::from_secs(120);
/// After which nothing new is expected: longer than any interval at which a program looks at Redis.
const QUIET: Duration = Duration::from_secs(15);

/// What a program sends.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    commands: BTreeSet<String>,
    /// Patterns of keys as access strings have them: `~` for all, `%R~` for reads alone.
    keys: BTreeSet<String>,
    channels: BTreeSet<String>,
}

/// By the user's name, which is the program's.
type ByUser = BTreeMap<String, Sent>;

fn listed() -> ByUser {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(LIST);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The pattern of the list that covers `key`; the key itself, for reads and writes, where none does.
fn pattern_of(key: &str, patterns: &BTreeSet<String>) -> String {
    let covers = |pattern: &&String| {
        let name = pattern.trim_start_matches("%R").trim_start_matches('~');
        name.strip_suffix('*').map_or(key == name, |prefix| key.starts_with(prefix))
    };
    patterns.iter().find(covers).cloned().unwrap_or_else(|| format!("~{key}"))
}

/// The list without the commands that this server does not have: Redis 7.0 does not know
/// `CLIENT SETINFO`, which the client sends and whose failure it ignores.
async fn known_to(redis: &RedisServer, mut listed: ByUser) -> ByUser {
    let commands: BTreeSet<_> = listed.values().flat_map(|sent| sent.commands.clone()).collect();
    for command in commands {
        let found: Vec<Option<redis::Value>> =
            redis.command(&["COMMAND", "INFO", &command]).await.unwrap();
        if found.iter().all(Option::is_none) {
            listed.values_mut().for_each(|sent| {
                sent.commands.remove(&command);
            });
        }
    }
    listed
}

/// Grants whatever was refused since the server started; returns it all.
async fn grant(redis: &RedisServer, listed: &ByUser, recorded: &Mutex<ByUser>) {
    let log: Vec<HashMap<String, String>> = redis.command(&["ACL", "LOG", "1000"]).await.unwrap();
    for entry in log {
        let (user, object) = (&entry["username"], &entry["object"]);
        let Some(expected) = listed.get(user) else { continue };
        let right = {
            let mut recorded = recorded.lock().unwrap();
            let sent = recorded.entry(user.clone()).or_default();
            match entry["reason"].as_str() {
                "command" => sent.commands.insert(object.clone()).then(|| format!("+{object}")),
                "key" => {
                    let pattern = pattern_of(object, &expected.keys);
                    sent.keys.insert(pattern.clone()).then_some(pattern)
                }
                "channel" => sent.channels.insert(object.clone()).then(|| format!("&{object}")),
                other => panic!("{user} is refused {object}: {other}"),
            }
        };
        if let Some(right) = right {
            let _: () = redis.command(&["ACL", "SETUSER", user, &right]).await.unwrap();
        }
    }
}

async fn publish(stack: &Stack, core_data: &Value) {
    let put = stack.kinesis().await.put_record().stream_name(CORE_DATA_STREAM);
    put.partition_key("k").data(Blob::new(core_data.to_string())).send().await.unwrap();
}

async fn feed(stack: &Stack, number: u64) {
    let program = json!({"programId": format!("p{number}"), "programName": "n", "checksum": "1",
        "customerId": 1, "customerName": "c", "valid": true});
    publish(stack, &program).await;
}

/// Runs `core-data` with `arguments` until it succeeds; each time it learns one command more.
async fn core_data(url: &str, arguments: &[&str]) {
    until(&format!("core-data {arguments:?} succeeds"), async || {
        let status = core_data_command(url, arguments).status().await.unwrap();
        // 1: what Redis holds differs.
        matches!(status.code(), Some(0 | 1))
    })
    .await;
}

fn core_data_command(url: &str, arguments: &[&str]) -> Command {
    let folder = Path::new(env!("CARGO_BIN_EXE_local-stack")).parent().unwrap();
    let mut command = Command::new(folder.join("core-data"));
    command.args(arguments).env("REDIS_URL", url).stdout(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true);
    command
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < give_up, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn until_known(stack: &Stack, number: u64) {
    let client = client();
    let known = (200, "n".to_owned());
    until(&format!("p{number} is known"), async || {
        get_event(&client, stack.tracker_url(), number).await == known
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_program_sends_what_is_listed() {
    let _alone = run_alone().await;
    let own = tempfile::tempdir().unwrap();
    let redis = Arc::new(RedisServer::start(Port::Any, &own.path().join("primary")).await.unwrap());
    let port = redis.address().port().to_string();
    // redis-updater waits for a replica if there is one.
    let _replica = RedisServer::start_with(
        Port::Any,
        &own.path().join("replica"),
        &["--replicaof", "127.0.0.1", &port],
    )
    .await
    .unwrap();
    let listed = known_to(&redis, listed()).await;
    for user in listed.keys() {
        let words =
            ["ACL", "SETUSER", user, "on", ">secret", "resetkeys", "resetchannels", "-@all"];
        let _: () = redis.command(&words).await.unwrap();
    }
    let recorded = Arc::<Mutex<ByUser>>::default();
    let recorder = tokio::spawn({
        let (redis, listed, recorded) = (Arc::clone(&redis), listed.clone(), Arc::clone(&recorded));
        async move {
            loop {
                grant(&redis, &listed, &recorded).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let url = |user: &str| format!("redis://{user}:secret@127.0.0.1:{port}");
    let tracker = url("tracker");
    let settings =
        [("REDIS_URL", tracker.as_str()), ("SAMPLE_PROGRAMS", "false"), ("WARM_UP_SECONDS", "5")];
    let (mut stack, _folder) = start_stack(&[("REDIS_URL", url("redis-updater"))], &settings).await;

    // An operator marks an empty Redis as loaded, so that programs are counted.
    let operator = url("core-data");
    core_data(&operator, &["mark-loaded", "--count=0", "--allow-empty"]).await;
    feed(&stack, 1).await;
    until_known(&stack, 1).await;
    // A program that nobody asked for yet is read; a lost subscription is made again and verified.
    feed(&stack, 2).await;
    until_known(&stack, 2).await;
    let _: u64 = redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
    feed(&stack, 3).await;
    until_known(&stack, 3).await;
    // A deletion leaves a tombstone that expires, without the other members; a program that comes back no longer
    // expires. A foreign key is deleted.
    publish(&stack, &json!({"programId": "p3", "deleted": true})).await;
    until("p3 is gone", async || get_event(&client(), stack.tracker_url(), 3).await.0 == 404).await;
    feed(&stack, 3).await;
    until_known(&stack, 3).await;
    let _: () = redis.command(&["SET", "program:{p4}", "text"]).await.unwrap();
    feed(&stack, 4).await;
    until_known(&stack, 4).await;
    // A start warms up.
    stack.kill_tracker().await;
    stack.start_tracker_again().await.unwrap();
    until_known(&stack, 1).await;
    // An operator.
    let programs = own.path().join("programs.jsonl");
    std::fs::write(&programs, r#"{"programId": "p1", "deleted": true}"#).unwrap();
    core_data(&operator, &["get", "p1"]).await;
    // For a missing program, it checks whether there is a mark.
    core_data(&operator, &["get", "missing"]).await;
    core_data(&operator, &["verify", programs.to_str().unwrap()]).await;
    let _watching = core_data_command(&operator, &["watch"]).spawn().unwrap();
    let (mut last, mut since) = (recorded.lock().unwrap().clone(), Instant::now());
    until("nothing new is sent", async || {
        let now = recorded.lock().unwrap().clone();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > QUIET
    })
    .await;
    recorder.abort();

    assert_eq!(last, listed, "what is sent, and {LIST}");
    stack.stop().await;
}
