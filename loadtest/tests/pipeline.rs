//! A run against the whole pipeline: the report's figures of rows, core data and the tracker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use loadtest::report::Report;

const SCENARIO: &str = r#"
description = "every kind of request"

[[phase]]
kind = "constant"
rate = 200
duration = "4s"

[programs]
count = 20

[requests]
unknown = 0.05
disabled = 0.05
mismatching = 0.05

[core_data]
updates_per_second = 2

[verify]
drop_counted = true
"#;

#[test]
fn follows_accepted_events_and_core_data_updates() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("scenario.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .arg("run")
        .arg(&scenario)
        .arg("--report")
        .arg(folder.path().join("report"))
        .args(["--fail-if", "lost>0", "--fail-if", "doubled>0", "--fail-if", "stale>0"])
        .output()
        .unwrap();
    // 3: the machine is too busy to send on time; events are followed all the same.
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{:?}: {problem}", output.status);

    let report = Report::read(&folder.path().join("report.json")).unwrap();
    let figures = report.figures;
    assert_eq!((figures.due, figures.answered, figures.errors), (800, 800, 0));
    let truth = figures.truth.expect("the run read the table");
    // Without requests for unknown programs and with a wrong checksum.
    assert!((600..=800).contains(&truth.accepted), "{}", truth.accepted);
    assert_eq!((truth.stored, truth.lost, truth.doubled), (truth.accepted, 0, 0));
    assert!(truth.counted_rows_dropped && truth.answer_to_row.count == truth.accepted);

    let core_data = figures.core_data.expect("the run changed core data");
    assert!(core_data.followed > 0 && core_data.updates >= core_data.followed);
    assert_eq!((core_data.stale_answers, core_data.never_answered), (0, 0));
    let tracker = figures.tracker.expect("the run read the tracker's process");
    assert!(tracker.cpu_seconds > 0.0 && tracker.rss_anon_max_bytes > 0);
}

fn stack_folders(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_string_lossy().contains("/stack-")).collect()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up_at = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < give_up_at, "not within 60 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_next_run_removes_what_a_killed_one_left() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("scenario.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    let run = |duration: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.arg("run").arg(&scenario).args(["--duration", duration, "--report"]);
        command.arg(folder.path().join("report")).stdout(Stdio::null());
        command
    };
    let journal = |stack: &PathBuf| stack.join("stack/journal").exists();
    let mut killed = run("5m").spawn().unwrap();
    until("the tracker has a journal", || stack_folders(folder.path()).iter().any(journal));

    killed.kill().unwrap();
    killed.wait().unwrap();
    let [left] = stack_folders(folder.path()).try_into().unwrap();
    let lock = File::open(left.join("lock")).unwrap();
    until("its stack ended", || lock.try_lock().is_ok());
    lock.unlock().unwrap();
    let status = run("1s").status().unwrap();

    assert!(matches!(status.code(), Some(0 | 3)), "{status}");
    assert_eq!(stack_folders(folder.path()), Vec::<PathBuf>::new());
}
