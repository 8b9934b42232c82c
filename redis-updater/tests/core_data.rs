//! The command `core-data`, run as a data team runs it: real Redis, embedded Kinesis, the function
//! behind an event-source mapping.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adtrack_proto::Version;
use aws_sdk_kinesis::types::ShardIteratorType;
use local_stack::RedisServer;
use local_stack::aws::{self, EmbeddedServer};
use local_stack::faults::{Fault, FaultProxy};
use local_stack::lambda::{EventSourceMapping, Function, FunctionSettings, MappingSettings};
use local_stack::ports::Port;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

const STREAM: &str = "adtrack-core-data";

struct Local {
    redis: RedisServer,
    kinesis: EmbeddedServer,
    faults: FaultProxy,
    function: Arc<Function>,
    _mapping: EventSourceMapping,
    folder: TempDir,
}

impl Local {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let redis = RedisServer::start(Port::Any, &folder.path().join("redis")).await.unwrap();
        let kinesis = aws::kinesis(Port::Any).await.unwrap();
        let faults = FaultProxy::start(&kinesis.url).await.unwrap();
        let client = aws_sdk_kinesis::Client::new(&aws::sdk_config(&kinesis.url).await);
        aws::create_stream(&client, STREAM, 2).await.unwrap();
        let failed = format!("file://{}", folder.path().join("failed").display());
        let function = Function::new(FunctionSettings {
            name: "redis-updater".into(),
            binary: env!("CARGO_BIN_EXE_redis-updater").into(),
            environment: vec![
                ("REDIS_URL".into(), redis.url()),
                ("FAILED_RECORDS_URL".into(), failed),
            ],
            timeout: Duration::from_secs(30),
            concurrency: 2,
            log_folder: folder.path().join("logs"),
        });
        let settings = MappingSettings {
            stream: STREAM.into(),
            batch_size: 1_000,
            batching_window: Duration::ZERO,
            maximum_retry_attempts: None,
            maximum_record_age: Duration::from_secs(3_600),
            bisect_on_error: true,
            on_failure_folder: folder.path().join("on-failure"),
        };
        let mapping = EventSourceMapping::start(client, Arc::clone(&function), settings);
        Self { redis, kinesis, faults, function, _mapping: mapping, folder }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_core-data"));
        command
            .args(arguments)
            .env_clear()
            .env("AWS_REGION", aws::REGION)
            .env("AWS_ACCESS_KEY_ID", aws::DUMMY_CREDENTIAL)
            .env("AWS_SECRET_ACCESS_KEY", aws::DUMMY_CREDENTIAL)
            .env("AWS_ENDPOINT_URL_KINESIS", &self.faults.url)
            .env("REDIS_URL", self.redis.url())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().await.unwrap())
    }

    async fn publish(&self, path: &Path) -> Ran {
        self.run(&["publish", path.to_str().unwrap()]).await
    }

    /// Everything on the stream, shard by shard: sequence number and record.
    async fn on_stream(&self) -> Vec<(String, Value)> {
        let client = aws_sdk_kinesis::Client::new(&aws::sdk_config(&self.kinesis.url).await);
        let shards = client.list_shards().stream_name(STREAM).send().await.unwrap();
        let mut all = Vec::new();
        for shard in shards.shards.unwrap() {
            let start = client.get_shard_iterator().stream_name(STREAM).shard_id(shard.shard_id);
            let start = start.shard_iterator_type(ShardIteratorType::TrimHorizon);
            let mut iterator = start.send().await.unwrap().shard_iterator;
            while let Some(current) = iterator {
                let read = client.get_records().shard_iterator(current).send().await.unwrap();
                iterator = read.next_shard_iterator.filter(|_| !read.records.is_empty());
                for record in read.records {
                    let json: Value = serde_json::from_slice(record.data.as_ref()).unwrap();
                    assert_eq!(record.partition_key.as_deref(), json["programId"].as_str());
                    all.push((record.sequence_number, json));
                }
            }
        }
        all
    }

    /// The programs' names on the stream, in its order, by program. `-` is a deletion.
    async fn names_on_stream(&self) -> BTreeMap<String, Vec<String>> {
        let mut names = BTreeMap::<String, Vec<String>>::new();
        for (_, json) in self.on_stream().await {
            let id = json["programId"].as_str().unwrap().to_owned();
            let name = json["programName"].as_str().unwrap_or("-").to_owned();
            names.entry(id).or_default().push(name);
        }
        names
    }

    /// How many programs Redis holds with the version of their last record on the stream.
    async fn programs_with_the_last_version(&self) -> (usize, usize) {
        let mut last = HashMap::<String, Version>::new();
        for (sequence_number, json) in self.on_stream().await {
            let id = json["programId"].as_str().unwrap().to_owned();
            let version = Version::new(0, &sequence_number).unwrap();
            let newest = last.entry(id).or_insert_with(|| version.clone());
            if version > *newest {
                *newest = version;
            }
        }
        let mut connection = self.redis.connection().await.unwrap();
        let mut right = 0;
        let all: Vec<_> = last.iter().collect();
        for chunk in all.chunks(500) {
            let mut pipeline = redis::pipe();
            for (id, _) in chunk {
                pipeline.cmd("HGET").arg(format!("program:{{{id}}}")).arg("version");
            }
            let held: Vec<Option<String>> = pipeline.query_async(&mut connection).await.unwrap();
            let expected = chunk.iter().map(|(_, version)| Some(version.to_string()));
            right += expected.zip(held).filter(|(expected, held)| expected == held).count();
        }
        (right, last.len())
    }

    async fn stop(self) {
        self.function.stop().await;
        self.redis.stop().await;
    }
}

#[derive(Debug)]
struct Ran {
    status: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn program(id: &str, name: &str) -> String {
    json!({"programId": id, "programName": name, "checksum": "1", "customerId": "1",
        "customerName": "c", "valid": true})
    .to_string()
}

fn deleted(id: &str) -> String {
    json!({"programId": id, "deleted": true}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_format_end_in_redis_with_the_right_versions() {
    let local = Local::start().await;
    let lines = [
        program("a", "a1"),
        program("b", "b1"),
        deleted("gone"),
        program("a", "a2"),
        program("gone", "back"),
        deleted("b"),
    ];
    let lines = local.file("lines", &lines.join("\n"));
    let published = local.publish(&lines).await;
    assert_eq!(published.status, Some(0), "{published:?}");
    assert!(
        published.out.contains("6 records: 4 programs, 2 deletions, 0 skipped"),
        "{published:?}"
    );
    assert!(published.out.contains("us-east-1: 6 records in "), "{published:?}");
    let verified = local.run(&["verify", lines.to_str().unwrap(), "--wait", "20"]).await;
    assert_eq!(verified.status, Some(0), "{verified:?}");
    assert!(verified.out.ends_with("3 programs compared, 0 differ\n"), "{verified:?}");

    let table = "programId,programName,checksum,customerId,customerName,valid,allowedHosts\n\
                 t,\"in a\ntable\",1,1,c,true,a.example b.example\n";
    let table = local.file("table.csv", table);
    assert_eq!(local.publish(&table).await.status, Some(0));
    let array = format!("[{},\n{}]", program("x", "x"), program("a", "a3"));
    let mut child = local.command(&["publish", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(array.as_bytes()).await.unwrap();
    assert!(child.wait().await.unwrap().success());
    let array = local.file("array.json", &array);
    for file in [&table, &array] {
        let verified = local.run(&["verify", file.to_str().unwrap(), "--wait", "20"]).await;
        assert_eq!(verified.status, Some(0), "{verified:?}");
    }
    assert_eq!(local.programs_with_the_last_version().await, (5, 5));
    let names = local.names_on_stream().await;
    assert_eq!(names["a"], ["a1", "a2", "a3"]);
    assert_eq!(
        (&names["b"][..], &names["gone"][..]),
        (&["b1", "-"].map(String::from)[..], &["-", "back"].map(String::from)[..])
    );
    let sent = local.on_stream().await;
    let (_, sent) = sent.iter().find(|(_, json)| json["programId"] == "x").unwrap();
    assert_eq!(sent["customerId"], 1, "canonical: a number, whatever the file had");
    local.stop().await;
}

/// 3,000 records of 700 programs, so that many wait for one of their own.
fn many_records() -> (String, BTreeMap<String, Vec<String>>) {
    let mut names = BTreeMap::<String, Vec<String>>::new();
    let records: Vec<String> = (0..3_000)
        .map(|number| {
            let (id, name) = (format!("p{}", fastrand_like(number) % 700), format!("n{number}"));
            let record = program(&id, &name);
            names.entry(id).or_default().push(name);
            record
        })
        .collect();
    (records.join("\n"), names)
}

/// The same on every run.
fn fastrand_like(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_fail_go_again_and_a_programs_order_holds() {
    let local = Local::start().await;
    local.faults.set(&[
        (Fault::Partial(0.3), 0.8),
        (Fault::Throttled, 0.1),
        (Fault::ServerError, 0.1),
    ]);
    let (records, names) = many_records();
    let file = local.file("many", &records);
    let published = local.publish(&file).await;
    assert_eq!(published.status, Some(0), "{published:?}");
    assert!(published.out.contains("3,000 records in "), "{published:?}");
    assert!(!published.out.contains(" 0 retries"), "{published:?}");
    // None of these faults takes a record and says that it does not.
    assert_eq!(local.names_on_stream().await, names);
    let verified = local.run(&["verify", file.to_str().unwrap(), "--wait", "30"]).await;
    assert_eq!(verified.status, Some(0), "{verified:?}");
    assert_eq!(local.programs_with_the_last_version().await, (names.len(), names.len()));
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_doubles_a_record_and_disorders_none() {
    let local = Local::start().await;
    local.faults.set(&[(Fault::Reset, 0.4)]);
    let (records, names) = many_records();
    let published = local.publish(&local.file("many", &records)).await;
    assert_eq!(published.status, Some(0), "{published:?}");
    let mut on_stream = local.names_on_stream().await;
    on_stream.values_mut().for_each(Vec::dedup);
    assert_eq!(on_stream, names);
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_file_with_an_error_is_sent_unless_it_is_to_be_skipped() {
    let local = Local::start().await;
    let lines = [program("a", "a"), program("b b", "b"), "{".into(), program("c", "c")];
    let file = local.file("bad", &lines.join("\n"));
    let path = file.to_str().unwrap();
    let refused = local.publish(&file).await;
    assert_eq!((refused.status, refused.out.as_str()), (Some(65), ""), "{refused:?}");
    let errors: Vec<&str> = refused.err.lines().collect();
    let column = lines[1].find("\"b b\"").unwrap() + 1;
    assert!(errors[0].starts_with(&format!("{path}:2:{column}: member `programId`")), "{errors:?}");
    assert!(errors[1].starts_with(&format!("{path}:3:1: EOF")), "{errors:?}");
    assert!(errors[2].contains("2 errors: nothing is done"), "{errors:?}");
    assert_eq!(errors.len(), 3);
    let dry = local.run(&["publish", path, "--skip-invalid", "--dry-run"]).await;
    assert_eq!(dry.status, Some(0), "{dry:?}");
    assert!(dry.out.contains("2 records: 2 programs, 0 deletions, 2 skipped"), "{dry:?}");
    assert!(local.on_stream().await.is_empty());

    let skipped = local.run(&["publish", path, "--skip-invalid"]).await;
    assert_eq!(skipped.status, Some(0), "{skipped:?}");
    assert_eq!(skipped.err.lines().count(), 2, "{skipped:?}");
    assert_eq!(local.names_on_stream().await.len(), 2);

    let many = local.file("many-errors", &"{\n".repeat(150));
    let refused = local.run(&["publish", many.to_str().unwrap()]).await;
    assert_eq!((refused.status, refused.err.lines().count()), (Some(65), 102), "{refused:?}");
    assert!(refused.err.contains("\nand 50 more\n"), "{refused:?}");
    let none_left = local.run(&["publish", many.to_str().unwrap(), "--skip-invalid"]).await;
    assert_eq!(none_left.status, Some(65));
    let broken = local.file("broken.json", &format!("[{},", program("d", "d")));
    let refused = local.run(&["publish", broken.to_str().unwrap(), "--skip-invalid"]).await;
    assert_eq!(refused.status, Some(65), "{refused:?}");
    let misspelt = local.file("misspelt", &deleted("d").replace('}', ",\"landingURL\":1}"));
    let warned = local.run(&["publish", misspelt.to_str().unwrap(), "--dry-run"]).await;
    assert_eq!(warned.status, Some(0));
    assert!(warned.err.contains("warning: \"landingURL\" is no member"), "{warned:?}");
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_succeed_ends_it_with_a_message() {
    let local = Local::start().await;
    let file = local.file("one", &program("a", "a"));
    let path = file.to_str().unwrap();
    let absent = local.run(&["publish", path, "--stream", "no-such-stream"]).await;
    assert_eq!(absent.status, Some(69), "{absent:?}");
    assert!(absent.err.contains("0 of 1 records are sent"), "{absent:?}");
    assert!(absent.err.contains("ResourceNotFoundException") && absent.err.contains("harmless"));

    let anonymous = local
        .command(&["publish", path])
        .env_remove("AWS_ACCESS_KEY_ID")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output();
    let anonymous = Ran::from(anonymous.await.unwrap());
    assert_eq!(anonymous.status, Some(69), "{anonymous:?}");
    assert!(anonymous.err.contains("credentials"), "{anonymous:?}");
    let dry = local.command(&["publish", path, "--dry-run"]).env_clear().output().await.unwrap();
    assert_eq!(dry.status.code(), Some(0));

    let nowhere = local
        .command(&["publish", path])
        .env_remove("AWS_REGION")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output();
    let nowhere = Ran::from(nowhere.await.unwrap());
    assert_eq!((nowhere.status, nowhere.err.lines().count()), (Some(64), 1), "{nowhere:?}");
    for (arguments, named) in [
        (&["publish"][..], "FILE"),
        (&[], "subcommand"),
        (&["get", "a b"], "PROGRAM_ID"),
        (&["verify", path, "--wait", "x"], "WAIT"),
        (&["publish", path, "--format", "xml"], "FORMAT"),
    ] {
        let usage = local.run(arguments).await;
        assert_eq!((usage.status, usage.err.lines().count()), (Some(64), 1), "{usage:?}");
        assert!(usage.err.contains(named), "{usage:?}");
    }
    let missing = local.run(&["publish", "/no/such/file"]).await;
    assert_eq!(missing.status, Some(66), "{missing:?}");
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_region_named_gets_every_record_once() {
    let local = Local::start().await;
    let file = local.file("one", &program("a", "a"));
    let regions = ["--region", "eu-west-1", "--region", "us-east-1", "--region", "eu-west-1"];
    let published = local.run(&[&["publish", file.to_str().unwrap()], &regions[..]].concat()).await;
    assert_eq!(published.status, Some(0), "{published:?}");
    let lines: Vec<&str> = published.out.lines().skip(1).collect();
    assert!(lines[0].starts_with("eu-west-1: 1 records") && lines[1].starts_with("us-east-1: 1 "));
    // The stand-in is one stream for all regions.
    assert_eq!(local.names_on_stream().await["a"], ["a", "a"]);
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_finishes_what_is_in_flight_and_says_how_far_it_got() {
    let local = Local::start().await;
    local.faults.set(&[(Fault::Latency(Duration::from_millis(700)), 1.0)]);
    let records: Vec<String> = (0..20_000).map(|n| program(&format!("p{n}"), "n")).collect();
    let file = local.file("many", &records.join("\n"));
    let mut child = local
        .command(&["publish", file.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    out.next_line().await.unwrap().expect("the file's counts");
    // The calls begin now; each takes 700 ms.
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    interrupt(&child);
    let region = out.next_line().await.unwrap().expect("the region's summary");
    let ended = Ran::from(child.wait_with_output().await.unwrap());
    assert_eq!(ended.status, Some(130), "{ended:?}");
    assert!(ended.err.contains("records are sent: interrupted"), "{ended:?}");
    let sent: usize = region
        .strip_prefix("us-east-1: ")
        .and_then(|rest| rest.split(' ').next())
        .unwrap()
        .replace(',', "")
        .parse()
        .unwrap();
    assert!(sent > 0 && sent < 20_000, "{region} {ended:?}");
    assert_eq!(local.on_stream().await.len(), sent);
    local.stop().await;
}

fn interrupt(child: &tokio::process::Child) {
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn get_shows_what_redis_holds() {
    let mut local = Local::start().await;
    let empty = local.run(&["get", "a"]).await;
    assert_eq!(empty.status, Some(1), "{empty:?}");
    assert!(empty.err.contains("no core data at all"), "{empty:?}");
    let file = local.file("two", &[program("a", "name"), deleted("b")].join("\n"));
    assert_eq!(local.publish(&file).await.status, Some(0));
    assert_eq!(
        local.run(&["verify", file.to_str().unwrap(), "--wait", "20"]).await.status,
        Some(0)
    );
    let versions: HashMap<String, String> = local
        .on_stream()
        .await
        .into_iter()
        .map(|(number, json)| (json["programId"].as_str().unwrap().into(), format!("0.{number}")))
        .collect();
    for (id, member, value) in [("a", "programName", json!("name")), ("b", "deleted", json!(true))]
    {
        let got = local.run(&["get", id]).await;
        assert_eq!(got.status, Some(0), "{got:?}");
        let json: Value = serde_json::from_str(&got.out).unwrap();
        assert_eq!((&json[member], &json["version"]), (&value, &json!(versions[id])), "{got:?}");
        assert_eq!(
            local
                .run(&["publish", "--dry-run", local.file("got", &got.out).to_str().unwrap()])
                .await
                .err,
            ""
        );
    }
    let unknown = local.run(&["get", "c"]).await;
    assert_eq!(unknown.status, Some(1), "{unknown:?}");
    assert!(unknown.err.contains("c is not there"), "{unknown:?}");
    local.redis.kill().await;
    let away = local.run(&["get", "a"]).await;
    assert_eq!((away.status, away.err.lines().count()), (Some(69), 1), "{away:?}");
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_lists_what_differs() {
    let local = Local::start().await;
    let held = [program("same", "x"), program("other", "x"), deleted("gone"), program("kept", "x")];
    let held = local.file("held", &held.join("\n"));
    assert_eq!(local.publish(&held).await.status, Some(0));
    assert_eq!(
        local.run(&["verify", held.to_str().unwrap(), "--wait", "20"]).await.status,
        Some(0)
    );
    let mut connection = local.redis.connection().await.unwrap();
    let _: () =
        redis::cmd("SET").arg("program:{odd}").arg(1).query_async(&mut connection).await.unwrap();
    let mut changed: Value = serde_json::from_str(&program("other", "y")).unwrap();
    changed["landingUrl"] = json!("https://h/");
    let wanted = [
        program("same", "an earlier one"),
        program("same", "x"),
        changed.to_string(),
        program("gone", "x"),
        deleted("kept"),
        deleted("never-there"),
        program("missing", "x"),
        program("odd", "x"),
    ];
    let wanted = local.file("wanted", &wanted.join("\n"));
    let verified = local.run(&["verify", wanted.to_str().unwrap()]).await;
    assert_eq!(verified.status, Some(1), "{verified:?}");
    let lines: Vec<&str> = verified.out.lines().skip(1).collect();
    assert_eq!(lines.len(), 6, "{lines:#?}");
    assert!(lines[0].starts_with("other: different (version 0."), "{lines:#?}");
    assert!(
        lines[0].ends_with(
            "): landingUrl: file \"https://h/\", Redis nothing; programName: file \"y\", Redis \"x\""
        ),
        "{lines:#?}"
    );
    assert!(lines[1].starts_with("gone: deleted in Redis (version 0."), "{lines:#?}");
    assert!(lines[2].starts_with("kept: deleted in the file, held in Redis"), "{lines:#?}");
    assert_eq!(lines[3], "missing: missing");
    assert!(lines[4].starts_with("odd: unreadable"), "{lines:#?}");
    assert_eq!(lines[5], "7 programs compared, 5 differ");
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_prints_what_is_pushed_and_comes_back_after_an_outage() {
    let mut local = Local::start().await;
    let spawn = |arguments: &[&str]| {
        let mut command = local.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut all = spawn(&["watch"]);
    let mut one = spawn(&["watch", "--program", "b"]);
    let mut errors = BufReader::new(all.stderr.take().unwrap()).lines();
    let mut errors_of_one = BufReader::new(one.stderr.take().unwrap()).lines();
    assert_eq!(errors.next_line().await.unwrap().unwrap(), "subscribed");
    assert_eq!(errors_of_one.next_line().await.unwrap().unwrap(), "subscribed");
    let mut pushed = BufReader::new(all.stdout.take().unwrap()).lines();
    let mut pushed_of_b = BufReader::new(one.stdout.take().unwrap()).lines();
    let file = local.file("two", &[program("a", "1"), program("b", "1")].join("\n"));
    assert_eq!(local.publish(&file).await.status, Some(0));
    let mut ids = Vec::new();
    for _ in 0..2 {
        let json: Value =
            serde_json::from_str(&pushed.next_line().await.unwrap().unwrap()).unwrap();
        assert!(json["version"].as_str().unwrap().starts_with("0."));
        ids.push(json["programId"].as_str().unwrap().to_owned());
    }
    ids.sort();
    assert_eq!(ids, ["a", "b"]);
    assert!(pushed_of_b.next_line().await.unwrap().unwrap().contains("\"programId\":\"b\""));

    local.redis.kill().await;
    let lost = errors.next_line().await.unwrap().unwrap();
    assert!(lost.starts_with("not subscribed: Redis at ") && lost.contains("is missed"), "{lost}");
    local.redis.start_again().await.unwrap();
    assert_eq!(errors.next_line().await.unwrap().unwrap(), "subscribed");
    assert_eq!(local.publish(&file).await.status, Some(0));
    assert!(pushed.next_line().await.unwrap().is_some());

    interrupt(&all);
    assert_eq!(all.wait().await.unwrap().code(), Some(0));
    // Nobody reads any more: it ends at the next message for it.
    while errors_of_one.next_line().await.unwrap().unwrap() != "subscribed" {}
    drop(pushed_of_b);
    let give_up = Instant::now() + Duration::from_secs(20);
    while one.try_wait().unwrap().is_none() {
        assert!(Instant::now() < give_up, "it goes on with a closed output");
        assert_eq!(local.publish(&file).await.status, Some(0));
    }
    assert_eq!(one.wait().await.unwrap().code(), Some(0));
    local.stop().await;
}

/// 200,000 programs with `ADTRACK_PROVE`, else a hundredth of them.
#[tokio::test(flavor = "multi_thread")]
async fn all_programs_of_a_large_file_are_in_redis_with_the_right_version() {
    let prove = std::env::var_os("ADTRACK_PROVE").is_some();
    let (count, wait) = if prove { (200_000, "300") } else { (2_000, "30") };
    let local = Local::start().await;
    let mut table = "programId,programName,checksum,customerId,customerName,valid,validFrom,landingUrl,allowedHosts\n".to_owned();
    for number in 0..count {
        table.push_str(&format!(
            "p-{number},Program {number},{},{},Customer {},true,2026-01-01T00:00:00Z,\
             https://shop.example/p/{number}?click={{click_id}},shop.example\n",
            fastrand_like(number),
            number % 1_000,
            number % 1_000,
        ));
    }
    let file = local.file("large.csv", &table);
    let begun = Instant::now();
    let published = local.publish(&file).await;
    let published_after = begun.elapsed();
    assert_eq!(published.status, Some(0), "{published:?}");
    let verified = local.run(&["verify", file.to_str().unwrap(), "--wait", wait]).await;
    let stored_after = begun.elapsed();
    let summary = verified.out.lines().last();
    assert_eq!(verified.status, Some(0), "{summary:?} {}", verified.err);
    let (right, programs) = local.programs_with_the_last_version().await;
    println!(
        "{}published after {:.1} s, checking the file included; all in Redis after {:.1} s; \
         {right} of {programs} programs have the version of their record",
        published.out,
        published_after.as_secs_f64(),
        stored_after.as_secs_f64()
    );
    assert_eq!((right, programs), (count as usize, count as usize));
    local.stop().await;
}
