//! The journal's files under a running tracker, a real process: removed, shortened, locked, damaged.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adtrack_proto::samples;
use local_stack::RedisServer;
use local_stack::aws::{self, EmbeddedServer};
use local_stack::ports::Port;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::helpers::{store, stream_events, until};

const STREAM: &str = "later";

/// What a tracker needs, and the folder of its journal.
struct Surroundings {
    redis: RedisServer,
    kinesis: EmbeddedServer,
    folder: TempDir,
}

impl Surroundings {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let redis = RedisServer::start(Port::Any, &folder.path().join("redis")).await.unwrap();
        for update in samples::updates() {
            store(&redis, &update).await;
        }
        Self { redis, kinesis: aws::kinesis(Port::Any).await.unwrap(), folder }
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    fn rings(&self) -> Vec<PathBuf> {
        ["0000.ring", "0001.ring"].map(|name| self.journal().join(name)).into()
    }

    fn damaged(&self) -> impl Iterator<Item = PathBuf> {
        let files = std::fs::read_dir(self.journal()).unwrap().map(|file| file.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|extension| extension == "damaged"))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs([
            ("AWS_ENDPOINT_URL_KINESIS", self.kinesis.url.as_str()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("EVENT_STREAM", STREAM),
        ]);
        command
    }

    fn tracker_command(&self) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_tracker"));
        command
            .args(["--listen-addr=127.0.0.1:0", "--management-addr=127.0.0.1:0", "--workers=2"])
            .args(["--linger-ms=5", "--journal-max-bytes=8388608"])
            .args(["--shutdown-grace-seconds=2", "--shutdown-delay-seconds=0"])
            .arg(format!("--redis-url={}", self.redis.url()))
            .arg(format!("--journal-dir={}", self.journal().display()));
        command
    }

    fn redrive(&self) -> Output {
        let mut command = self.command(env!("CARGO_BIN_EXE_redrive"));
        command.arg("journal").arg(self.journal()).output().unwrap()
    }

    async fn create_stream(&self) {
        let client = aws_sdk_kinesis::Client::new(&aws::sdk_config(&self.kinesis.url).await);
        aws::create_stream(&client, STREAM, 1).await.unwrap();
    }

    async fn delivered(&self) -> HashSet<String> {
        let events = stream_events(&self.kinesis, STREAM).await;
        events.into_iter().map(|event| event.message_id).collect()
    }

    async fn until_delivered(&self, accepted: &HashSet<String>) {
        until("all accepted events are on the stream", async || {
            self.delivered().await.is_superset(accepted)
        })
        .await;
    }
}

/// A tracker that runs as a process of its own.
struct Process {
    child: Child,
    public: String,
    management: String,
    log: Arc<Mutex<Vec<String>>>,
    client: reqwest::Client,
}

impl Process {
    async fn start(surroundings: &Surroundings) -> Self {
        let mut child = surroundings.tracker_command().stdout(Stdio::piped()).spawn().unwrap();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let sink = Arc::clone(&log);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| sink.lock().unwrap().push(line));
        });
        let mut serves = Value::Null;
        until("it serves", async || {
            let log = log.lock().unwrap();
            let line = log.iter().find(|line| line.contains("the tracker serves"));
            serves = line.map_or(Value::Null, |line| serde_json::from_str(line).unwrap());
            !serves.is_null()
        })
        .await;
        let url = |name: &str| format!("http://{}", serves[name].as_str().unwrap());
        let (public, management) = (url("public"), url("management"));
        let process = Self { child, public, management, log, client: reqwest::Client::new() };
        until("it is healthy", async || {
            let url = format!("{}/health/check", process.public);
            process.client.get(url).send().await.is_ok_and(|response| response.status() == 200)
        })
        .await;
        process
    }

    /// The id of an event that was accepted.
    async fn send(&self) -> Option<String> {
        let url = format!("{}/event/212313", self.public);
        let response = self.client.get(url).send().await.unwrap();
        let body: Value = response.json().await.unwrap();
        Some(body["messageId"].as_str()?.to_owned())
    }

    async fn send_many(&self, count: usize) -> HashSet<String> {
        let mut accepted = HashSet::new();
        for _ in 0..count {
            accepted.extend(self.send().await);
        }
        accepted
    }

    async fn metric(&self, name: &str) -> f64 {
        let url = format!("{}/metrics", self.management);
        let text = self.client.get(url).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    async fn problems(&self) -> Vec<Value> {
        let url = format!("{}/health/ready", self.management);
        let body: Value = self.client.get(url).send().await.unwrap().json().await.unwrap();
        body["reasons"].as_array().cloned().unwrap_or_default()
    }

    async fn until_lost_files(&self, count: f64) {
        until("it has noticed", async || self.metric("adtrack_journal_lost_files").await >= count)
            .await;
    }

    fn logs(&self, text: &str) -> bool {
        self.log.lock().unwrap().iter().any(|line| line.contains(text))
    }

    fn log_line(&self, text: &str) -> Option<String> {
        self.log.lock().unwrap().iter().find(|line| line.contains(text)).cloned()
    }

    fn log_lines(&self, text: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(process, signal).unwrap();
    }

    fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn survives_the_removal_of_its_folder_under_load() {
    let surroundings = Surroundings::start().await;
    let mut tracker = Process::start(&surroundings).await;
    let mut accepted = tracker.send_many(200).await;
    std::fs::remove_dir_all(surroundings.journal()).unwrap();
    let mut restored = false;
    while !restored {
        accepted.extend(tracker.send_many(50).await);
        assert!(tracker.is_alive());
        restored = surroundings.rings().iter().all(|ring| ring.exists());
    }
    tracker.until_lost_files(2.0).await;
    assert!(tracker.problems().await.contains(&json!("journal_files_lost")));
    assert!(tracker.logs("a file of the journal is lost"));
    accepted.extend(tracker.send_many(50).await);
    assert!(accepted.len() >= 300, "it goes on taking events: {}", accepted.len());

    // Nothing is delivered yet, and the process is gone: all is in the files that it has restored.
    tracker.kill();
    let tracker = Process::start(&surroundings).await;
    assert_eq!(
        tracker.metric("adtrack_journal_replayed_events_total").await,
        accepted.len() as f64
    );
    surroundings.create_stream().await;
    surroundings.until_delivered(&accepted).await;
    assert!(!tracker.problems().await.contains(&json!("journal_files_lost")));
}

#[tokio::test(flavor = "multi_thread")]
async fn survives_shortened_files_under_load() {
    let surroundings = Surroundings::start().await;
    surroundings.create_stream().await;
    let mut tracker = Process::start(&surroundings).await;
    let stop = AtomicBool::new(false);
    let (accepted, after) = tokio::join!(
        async {
            let mut accepted = HashSet::new();
            while !stop.load(Ordering::Relaxed) {
                accepted.extend(tracker.send().await);
            }
            accepted
        },
        async {
            for (round, bytes) in [0, 4_096, 100_000, 0].into_iter().enumerate() {
                for ring in surroundings.rings() {
                    File::options().write(true).open(ring).unwrap().set_len(bytes).unwrap();
                }
                tracker.until_lost_files(2.0 * (round + 1) as f64).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            stop.store(true, Ordering::Relaxed);
            tracker.send_many(50).await
        }
    );
    assert!(tracker.is_alive());
    assert!(tracker.problems().await.contains(&json!("journal_files_lost")));
    assert_eq!(after.len(), 50);
    surroundings.until_delivered(&after).await;
    // What had not been delivered when it was cut off is gone, and known to be.
    let delivered = surroundings.delivered().await;
    let lost = accepted.difference(&delivered).count();
    let damaged = tracker.metric("adtrack_journal_damaged_total").await;
    assert!(lost == 0 || damaged > 0.0, "{lost} of {}", accepted.len());
    for ring in surroundings.rings() {
        assert_eq!(std::fs::metadata(ring).unwrap().len(), 4_194_304);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_a_second_tracker_out_if_the_lock_is_removed() {
    let surroundings = Surroundings::start().await;
    let tracker = Process::start(&surroundings).await;
    let accepted = tracker.send_many(20).await;
    for _ in 0..2 {
        let _ = std::fs::remove_file(surroundings.journal().join("lock"));
        let output = surroundings.tracker_command().output().unwrap();
        let text = format!("{output:?}");
        assert!(!output.status.success() && text.contains("another tracker uses it"), "{text}");
    }
    let output = surroundings.redrive();
    assert!(String::from_utf8_lossy(&output.stdout).contains("a tracker uses it"), "{output:?}");
    surroundings.create_stream().await;
    surroundings.until_delivered(&accepted).await;
}

fn zero_first_page(ring: &Path) {
    let mut bytes = std::fs::read(ring).unwrap();
    bytes[..4_096].fill(0);
    std::fs::write(ring, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_with_damaged_files_and_redrive_saves_their_events() {
    let surroundings = Surroundings::start().await;
    let tracker = Process::start(&surroundings).await;
    let accepted = tracker.send_many(347).await;
    assert_eq!(accepted.len(), 347);
    tracker.kill();

    // The first page alone: nothing is missing.
    surroundings.rings().iter().for_each(|ring| zero_first_page(ring));
    let tracker = Process::start(&surroundings).await;
    assert_eq!(tracker.metric("adtrack_journal_replayed_events_total").await, 347.0);
    tracker.kill();

    // All that tells a ring from another file: the header, its copy, and the place of every record.
    for ring in surroundings.rings() {
        let bytes = std::fs::read(&ring).unwrap();
        std::fs::write(&ring, [&[0; 8_192], &bytes[4_096..bytes.len() - 4_096]].concat()).unwrap();
    }
    let tracker = Process::start(&surroundings).await;
    assert_eq!(tracker.metric("adtrack_journal_replayed_events_total").await, 0.0);
    until("it counts them", async || tracker.metric("adtrack_journal_lost_files").await == 2.0)
        .await;
    assert!(tracker.problems().await.contains(&json!("journal_files_damaged")));
    assert!(tracker.logs("0000.ring.damaged"));
    let more = tracker.send_many(5).await;
    assert_eq!(more.len(), 5);

    surroundings.create_stream().await;
    for _ in 0..2 {
        let output = surroundings.redrive();
        // A ring that nobody has used: nothing is recognized in it, so it is kept.
        let status = i32::from(surroundings.damaged().next().is_some());
        assert_eq!(output.status.code(), Some(status), "{output:?}");
    }
    assert!(surroundings.delivered().await.is_superset(&accepted));
    surroundings.damaged().for_each(|file| std::fs::remove_file(file).unwrap());
    until("nothing is damaged any longer", async || {
        !tracker.problems().await.contains(&json!("journal_files_damaged"))
    })
    .await;
    surroundings.until_delivered(&more).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redrive_delivers_the_journal_of_a_tracker_that_is_gone() {
    let surroundings = Surroundings::start().await;
    let tracker = Process::start(&surroundings).await;
    let accepted = tracker.send_many(100).await;
    tracker.kill();
    assert_eq!(surroundings.redrive().status.code(), Some(1), "there is no such stream");
    surroundings.create_stream().await;
    for expected in ["100 events", " 0 events"] {
        let output = surroundings.redrive();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(expected), "{output:?}");
    }
    assert_eq!(surroundings.delivered().await, accepted);
}

/// Puts something else in the place of a ring's file.
type Replace = fn(&Path);

#[tokio::test(flavor = "multi_thread")]
async fn starts_whatever_has_the_name_of_a_ring() {
    let surroundings = Surroundings::start().await;
    let tracker = Process::start(&surroundings).await;
    let mut accepted = tracker.send_many(100).await;
    tracker.kill();
    let cases: [(&str, Replace, &str); 8] = [
        ("0002.ring", |path| std::fs::create_dir_all(path.join("folder")).unwrap(), "regular file"),
        ("0002.ring", |path| symlink("nowhere", path).unwrap(), "No such file"),
        ("0002.ring", |path| symlink(path, path).unwrap(), "symbolic links"),
        ("0002.ring", |path| symlink("/dev/zero", path).unwrap(), "regular file"),
        ("0002.ring", |path| drop(UnixListener::bind(path).unwrap()), "regular file"),
        ("0002.new", |path| std::fs::create_dir_all(path).unwrap(), "regular file"),
        ("0002.ring", |path| link_to_first(path, |from, to| std::fs::hard_link(from, to)), "another name"),
        // Before the file that it leads to.
        ("000.ring", |path| link_to_first(path, |from, to| symlink(from, to)), "another name"),
    ];
    for (number, (name, replace, problem)) in (1..).zip(cases) {
        replace(&surroundings.journal().join(name));
        let tracker = Process::start(&surroundings).await;
        let set_aside = tracker.log_line("it is set aside").expect("it is said");
        assert!(set_aside.contains(problem), "{set_aside}");
        assert_eq!(surroundings.damaged().count(), number, "none is overwritten");
        assert!(tracker.problems().await.contains(&json!("journal_files_damaged")));
        accepted.extend(tracker.send_many(5).await);
        tracker.kill();
    }
    let tracker = Process::start(&surroundings).await;
    assert_eq!(tracker.metric("adtrack_journal_replayed_events_total").await, 140.0);
    surroundings.create_stream().await;
    surroundings.until_delivered(&accepted).await;
    let output = surroundings.redrive();
    assert_eq!(output.status.code(), Some(1), "what is no file is kept: {output:?}");
}

fn link_to_first(path: &Path, link: fn(&Path, &Path) -> std::io::Result<()>) {
    link(&path.with_file_name("0000.ring"), path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_the_copy_of_a_ring_aside() {
    let surroundings = Surroundings::start().await;
    let tracker = Process::start(&surroundings).await;
    let [first, second] = <[PathBuf; 2]>::try_from(surroundings.rings()).unwrap();
    let mut accepted = tracker.send_many(50).await;
    std::fs::copy(&first, surroundings.journal().join("earlier")).unwrap();
    accepted.extend(tracker.send_many(50).await);
    tracker.kill();
    // Over the other ring, whose events are saved first.
    let saved = surroundings.journal().join("0007.ring");
    std::fs::rename(&second, &saved).unwrap();
    std::fs::copy(&first, &second).unwrap();
    std::fs::rename(surroundings.journal().join("earlier"), first.with_file_name("0003.ring")).unwrap();
    let tracker = Process::start(&surroundings).await;
    assert_eq!(surroundings.damaged().count(), 2);
    assert!(tracker.log_line("is a copy of").is_some());
    assert_eq!(tracker.metric("adtrack_journal_replayed_events_total").await, 100.0);
    surroundings.create_stream().await;
    surroundings.until_delivered(&accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn says_what_is_in_the_place_of_the_lock() {
    let surroundings = Surroundings::start().await;
    let lock = surroundings.journal().join("lock");
    let cases: [Replace; 2] =
        [|path| std::fs::create_dir_all(path).unwrap(), |path| drop(UnixListener::bind(path).unwrap())];
    for replace in cases {
        replace(&lock);
        let output = surroundings.tracker_command().output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("/lock") && text.contains("is not a regular file; remove it"), "{text}");
        let _ = std::fs::remove_dir(&lock).or_else(|_| std::fs::remove_file(&lock));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn takes_its_place_back_from_another_file() {
    let surroundings = Surroundings::start().await;
    let mut tracker = Process::start(&surroundings).await;
    let accepted = tracker.send_many(50).await;
    for (number, ring) in surroundings.rings().into_iter().enumerate() {
        let other = surroundings.folder.path().join("other");
        std::fs::write(&other, "other").unwrap();
        std::fs::rename(&other, &ring).unwrap();
        tracker.until_lost_files((number + 1) as f64).await;
        until("it is restored", async || {
            std::fs::metadata(&ring).is_ok_and(|file| file.len() == 4_194_304)
        })
        .await;
    }
    assert_eq!(surroundings.damaged().count(), 2);
    assert!(tracker.is_alive());
    tracker.kill();
    let tracker = Process::start(&surroundings).await;
    assert_eq!(tracker.metric("adtrack_journal_replayed_events_total").await, 50.0);
    surroundings.create_stream().await;
    surroundings.until_delivered(&accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_drain_it_or_are_ignored() {
    let surroundings = Surroundings::start().await;
    let mut waiting = 0;
    for signal in [Signal::QUIT, Signal::TERM, Signal::HUP, Signal::INT] {
        let mut tracker = Process::start(&surroundings).await;
        for ignored in [Signal::USR1, Signal::USR2, Signal::ALARM, Signal::XFSZ, Signal::PROF] {
            let before = tracker.log_lines("ignored a signal");
            for _ in 0..3 {
                tracker.signal(ignored);
            }
            until("it is said", async || tracker.log_lines("ignored a signal") == before + 1).await;
        }
        waiting += tracker.send_many(10).await.len();
        tracker.signal(signal);
        let status = tracker.child.wait().unwrap();
        assert!(status.success(), "{signal:?}: {status}");
        let name = format!("SIG{}", ["QUIT", "TERM", "HUP", "INT"][(waiting / 10) - 1]);
        let requested = tracker.log_line("shutdown requested").unwrap();
        assert!(requested.contains(&name), "{requested}");
        // Nothing follows on what is left.
        until("the log is complete", async || {
            let log = tracker.log.lock().unwrap();
            let last: Value = serde_json::from_str(log.last().unwrap()).unwrap();
            last["events"] == waiting
                && last["folder"] == surroundings.journal().to_str().unwrap()
                && last["message"].as_str().unwrap().starts_with("not drained in time")
        })
        .await;
    }
}
