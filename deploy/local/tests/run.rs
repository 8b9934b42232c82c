//! The program that `make run` runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

struct Running {
    child: Child,
    /// What it printed since it was ready.
    later_output: Arc<Mutex<String>>,
    output: String,
    env_file: PathBuf,
    environment: HashMap<String, String>,
}

/// A test that fails leaves nothing running.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// Starts it with its files in `folder` and its ports from `first` on.
fn start(folder: &Path, first: u16) -> Running {
    let env_file = folder.join("stack.env");
    start_with(&["--env-file", env_file.to_str().unwrap()], &folder.join("run"), first)
}

fn start_with(arguments: &[&str], folder: &Path, first: u16) -> Running {
    start_command(Command::new(env!("CARGO_BIN_EXE_local-stack")).args(arguments), folder, first)
}

/// Starts a command that passes further arguments on to `local-stack`.
fn start_command(command: &mut Command, folder: &Path, first: u16) -> Running {
    let port = |part: u16| (first + 20 * part).to_string();
    let mut child = command
        .arg("--folder")
        .arg(folder)
        .args(["--tracker-port", &port(0), "--management-port", &port(1)])
        .args(["--kinesis-port", &port(2), "--dynamodb-port", &port(3)])
        .args(["--redis-port", &port(4)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = String::new();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    while !output.contains("Ctrl-C stops everything.") {
        let read = reader.read_line(&mut output).unwrap();
        assert!(read > 0, "the stack ended early: {output}");
    }
    // Whatever it says from now on must not block it.
    let later_output = Arc::<Mutex<String>>::default();
    let later = Arc::clone(&later_output);
    std::thread::spawn(move || {
        for line in reader.lines().map_while(Result::ok) {
            let mut later = later.lock().unwrap();
            later.push_str(&line);
            later.push('\n');
        }
    });
    let line = output.lines().find_map(|line| line.trim().strip_prefix(". "));
    let env_file = PathBuf::from(line.expect("the output names the file to source"));
    let environment = std::fs::read_to_string(&env_file)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Running { child, later_output, output, env_file, environment }
}

/// Names of the processes whose environment or command line contains `folder`.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            ["cmdline", "environ"].iter().any(|file| {
                std::fs::read(entry.path().join(file))
                    .is_ok_and(|text| String::from_utf8_lossy(&text).contains(folder))
            })
        })
        .map(|entry| std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default())
        .collect()
}

/// Waits until the stack's processes are gone: a killed process takes a moment to disappear.
fn until_gone(folder: &Path) {
    let give_up = Instant::now() + Duration::from_secs(5);
    while !processes_of(folder).is_empty() {
        assert!(Instant::now() < give_up, "{:?}", processes_of(folder));
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let give_up_at = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < give_up_at, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

fn end(mut running: Running, signal: Signal) -> Duration {
    let signalled_at = Instant::now();
    let pid = Pid::from_raw(i32::try_from(running.child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
    let status = running.child.wait().unwrap();
    assert!(status.success() || signal == Signal::KILL, "{status}");
    signalled_at.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn prints_addresses_and_cleans_up_at_the_end() {
    for (signal, first) in [(Signal::INT, 21_000), (Signal::TERM, 21_200)] {
        let folder = tempfile::tempdir().unwrap();
        let running = start(folder.path(), first);
        for name in [
            "REDIS_URL",
            "AWS_ENDPOINT_URL_KINESIS",
            "AWS_ENDPOINT_URL_DYNAMODB",
            "EVENT_STREAM",
            "CORE_DATA_STREAM",
            "TABLE_NAME",
            "FAILED_RECORDS_URL",
            "TRACKER_URL",
            "MANAGEMENT_URL",
            "AWS_REGION",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "BIN",
        ] {
            assert!(running.environment.contains_key(name), "{name}");
        }
        assert!(running.output.contains("curl -i $TRACKER_URL/event/212313"), "{}", running.output);
        let url = format!("{}/event/212313", running.environment["TRACKER_URL"]);
        assert_eq!(reqwest::get(&url).await.unwrap().status(), 200, "the samples are loaded");
        assert!(processes_of(folder.path()).len() >= 3, "{:?}", processes_of(folder.path()));

        assert!(end(running, signal) < Duration::from_secs(30));
        until_gone(folder.path());
        assert!(reqwest::get(&url).await.is_err());
        assert!(!folder.path().join("stack.env").exists());
    }
}

#[test]
fn each_stack_of_a_clone_has_its_own_file() {
    let target = tempfile::tempdir().unwrap();
    let binaries = target.path().join("bin");
    let real = Path::new(env!("CARGO_BIN_EXE_local-stack")).parent().unwrap();
    std::os::unix::fs::symlink(real, &binaries).unwrap();
    let start = |run: &str, first| {
        let arguments = ["--binaries", binaries.to_str().unwrap()];
        start_with(&arguments, &target.path().join(run), first)
    };

    let one = start("one", 25_000);
    let two = start("two", 25_200);
    let urls = [&one, &two].map(|stack| stack.environment["TRACKER_URL"].clone());
    let programs = Path::new(&two.environment["BIN"]);
    let (first, second) = (one.env_file.clone(), two.env_file.clone());
    let has_programs = programs.join("tracker").exists() && programs.join("loadtest").exists();
    end(one, Signal::TERM);
    let left = [first.exists(), second.exists()];
    let killed = start("three", 25_400);
    let third = killed.env_file.clone();
    end(killed, Signal::KILL);
    let four = start("four", 25_600);

    assert_eq!(first, target.path().join("local-stack.env"));
    assert_eq!(second, target.path().join("local-stack-2.env"));
    assert_ne!(urls[0], urls[1]);
    assert!(has_programs, "{}", programs.display());
    let demo = format!("make demo ENV_FILE={}", second.display());
    assert!(two.output.contains(&demo), "{}", two.output);
    assert_eq!(left, [false, true], "each stack removes only its own file");
    assert_eq!(third, first, "the name is free again");
    assert_eq!(four.env_file, first, "a killed stack's file is replaced");
    end(two, Signal::TERM);
    end(four, Signal::TERM);
    assert!(!first.exists() && !second.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn replaces_a_busy_port_and_reports_it() {
    let folder = tempfile::tempdir().unwrap();
    let busy: Vec<_> =
        (0..5).map(|part| TcpListener::bind(("127.0.0.1", 22_000 + 20 * part))).collect();
    let running = start(folder.path(), 22_000);
    for (port, part) in [(22_000, "the tracker"), (22_020, "its management"), (22_080, "Redis")] {
        let line = format!("Port {port} was busy: {part} took the next free one.");
        assert!(running.output.contains(&line), "{}", running.output);
    }
    drop(busy);
    end(running, Signal::TERM);
}

#[test]
fn children_end_when_the_stack_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), 23_000);
    end(running, Signal::KILL);
    until_gone(folder.path());
}

#[test]
fn names_a_missing_binary() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_local-stack"))
        .arg("--binaries")
        .arg(folder.path())
        .arg("--folder")
        .arg(folder.path().join("run"))
        .args(["--tracker-port", "24000", "--management-port", "24100", "--kinesis-port", "24200"])
        .args(["--dynamodb-port", "24300", "--redis-port", "24400"])
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("kinesis-consumer is not there; build it with"), "{errors}");
}

/// Id of the process that has this name, and `text` in its environment or command line.
fn process_of(text: &str, name: &str) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.find(|id| {
        let read = |file: &str| std::fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
        let has_text = |file| String::from_utf8_lossy(&read(file)).contains(text);
        read("comm").starts_with(name.as_bytes()) && (has_text("cmdline") || has_text("environ"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_a_killed_redis_and_starts_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), 26_000);
    let event = |id: &str| format!("{}/event/{id}", running.environment["TRACKER_URL"]);
    let status_of = async |id: &str| reqwest::get(event(id)).await.unwrap().status().as_u16();
    assert_eq!(status_of("212313").await, 200);
    let said = |text: &str| running.later_output.lock().unwrap().contains(text);

    // redis-server replaces its command line by its name and address.
    let address = running.environment["REDIS_URL"].strip_prefix("redis://").unwrap();
    kill(process_of(address, "redis-server").unwrap(), Signal::KILL);
    until("it says that Redis runs again", async || said("It runs again, empty.")).await;

    assert!(said("redis-server ended (signal: 9 (SIGKILL)); its log is "));
    assert_eq!(status_of("212313").await, 200, "from memory");
    until("others are unavailable", async || status_of("nobody").await == 503).await;
    let fill = format!("{}/cache/fill", running.environment["MANAGEMENT_URL"]);
    until("core data is there again", async || {
        let filled = reqwest::Client::new().post(&fill).send().await.unwrap();
        filled.status().is_success() && status_of("nobody").await == 404
    })
    .await;
    end(running, Signal::TERM);
    until_gone(folder.path());
}

#[test]
fn a_parent_that_starts_other_programs_does_not_stop_it() {
    let folder = tempfile::tempdir().unwrap();
    let env_file = folder.path().join("stack.env");
    let mut shell = Command::new("sh");
    // It starts programs as fast as it can, for as long as the stack runs.
    shell
        .args(["-c", r#""$0" "$@" & while kill -0 $! 2>/dev/null; do /bin/true; done"#])
        .arg(env!("CARGO_BIN_EXE_local-stack"))
        .args(["--stop-with-parent", "--env-file", env_file.to_str().unwrap()]);
    let running = start_command(&mut shell, &folder.path().join("run"), 27_000);
    let folder_name = folder.path().to_str().unwrap();
    let stack = process_of(folder_name, "local-stack").unwrap();

    std::thread::sleep(Duration::from_secs(15));

    assert!(env_file.exists(), "{}", running.later_output.lock().unwrap());
    assert_eq!(process_of(folder_name, "local-stack"), Some(stack));
    end(running, Signal::KILL);
    let give_up_at = Instant::now() + Duration::from_secs(30);
    while !processes_of(folder.path()).is_empty() {
        assert!(Instant::now() < give_up_at, "it ends with its parent");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_interrupted_make_stops_it() {
    let folder = tempfile::tempdir().unwrap();
    let makefile = folder.path().join("Makefile");
    std::fs::write(&makefile, "run:\n\t@exec $(STACK)\n").unwrap();
    let env_file = folder.path().join("stack.env");
    let port = |part: u16| (28_000 + 20 * part).to_string();
    let run = folder.path().join("run");
    let stack = [
        env!("CARGO_BIN_EXE_local-stack"),
        "--stop-with-parent --env-file",
        env_file.to_str().unwrap(),
        "--folder",
        run.to_str().unwrap(),
        &format!("--tracker-port {} --management-port {}", port(0), port(1)),
        &format!("--kinesis-port {} --dynamodb-port {}", port(2), port(3)),
        &format!("--redis-port {}", port(4)),
    ];
    // SIGINT is ignored in tests that run in the background of a shell.
    let mut make = Command::new("env")
        .args(["--default-signal=INT", "make", "-f"])
        .arg(&makefile)
        .arg(format!("STACK={}", stack.join(" ")))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let give_up_at = Instant::now() + Duration::from_secs(60);
    while !std::fs::read_to_string(&env_file).is_ok_and(|text| text.contains("MANAGEMENT_URL=")) {
        assert!(Instant::now() < give_up_at, "it is not ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    // A poll finds make as it usually is.
    std::thread::sleep(Duration::from_secs(2));

    kill(make.id(), Signal::INT);
    make.wait().unwrap();

    assert!(!env_file.exists());
    until_gone(folder.path());
}
