//! The command-line tools when nobody reads what they print, or it cannot be written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn tool(name: &str) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_local-stack")).with_file_name(name);
    assert!(binary.is_file(), "{}: build it first", binary.display());
    let mut command = Command::new(binary);
    command.env("AWS_REGION", "us-east-1").env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// Commands that print and need no server, each with its tool.
fn commands(folder: &Path) -> Vec<(&'static str, Vec<String>)> {
    let spill = format!("file://{}/spill", folder.display());
    let journal = folder.join("journal");
    std::fs::create_dir_all(&journal).unwrap();
    let programs = folder.join("programs.jsonl");
    std::fs::write(&programs, r#"{"programId":"a","deleted":true}"#).unwrap();
    let keys = folder.join("keys");
    std::fs::write(&keys, format!("k={}\n", "a".repeat(44))).unwrap();
    let (programs, keys) = (programs.display().to_string(), keys.display().to_string());
    let base = "https://t.example";
    let owned = |arguments: &[&str]| arguments.iter().map(|one| (*one).to_owned()).collect();
    let mut commands = vec![
        ("redrive", owned(&["--spill-url", &spill])),
        ("redrive", owned(&["journal", journal.to_str().unwrap()])),
        ("core-data", owned(&["publish", &programs, "--dry-run"])),
        ("loadtest", owned(&["scenarios"])),
        ("loadtest", owned(&["scenario", "show", "quick"])),
        (
            "sign-link",
            owned(&[
                "--key-file",
                &keys,
                "--key-id",
                "k",
                "--program",
                "1",
                "--expires-in",
                "1d",
                "--base-url",
                base,
                "--url",
                base,
            ]),
        ),
    ];
    let all = ["redrive", "core-data", "loadtest", "sign-link", "local-stack", "tracker"];
    commands.extend(all.map(|tool| (tool, owned(&["--help"]))));
    commands
}

fn run(tool_name: &str, arguments: &[String], stdout: impl Into<Stdio>) -> Output {
    tool(tool_name).args(arguments).stdout(stdout).stderr(Stdio::piped()).output().unwrap()
}

/// A pipe that its reader has closed.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full_disk() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

#[test]
fn a_closed_pipe_ends_the_output_and_not_the_work() {
    let folder = tempfile::tempdir().unwrap();
    for (tool, arguments) in commands(folder.path()) {
        let output = run(tool, &arguments, closed_pipe());
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), errors.as_str()), (Some(0), ""), "{tool} {arguments:?}");
    }
}

#[test]
fn lost_output_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    for (tool, arguments) in commands(folder.path()) {
        let output = run(tool, &arguments, full_disk());
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(74), "{tool} {arguments:?}: {errors}");
        let is_one_line = errors.lines().count() == 1;
        assert!(
            is_one_line && errors.contains("standard output: No space left"),
            "{tool}: {errors}"
        );
    }
}

#[test]
fn errors_that_nobody_reads_change_no_status() {
    for (name, arguments) in
        [("redrive", "--spill-url=ftp://x"), ("core-data", "publish"), ("loadtest", "scenario")]
    {
        let read = tool(name).arg(arguments).output().unwrap();
        for errors in [closed_pipe(), full_disk().into()] {
            let unread = tool(name).arg(arguments).stderr(errors).output().unwrap();
            assert_eq!(unread.status.code(), read.status.code(), "{name} {arguments}");
        }
        assert_eq!(read.status.code(), Some(64), "{name} {arguments}");
    }
}

#[test]
fn redrive_moves_every_object_though_its_output_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let spill = folder.path().join("spill/2026-01-02");
    std::fs::create_dir_all(&spill).unwrap();
    // Empty objects: there is nothing to send.
    let names: Vec<PathBuf> = (0..3).map(|n| spill.join(format!("{n}.events"))).collect();
    names.iter().for_each(|name| std::fs::write(name, b"adtrkEV1").unwrap());

    let url = format!("--spill-url=file://{}/spill", folder.path().display());
    let output = run("redrive", &[url], closed_pipe());

    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(names.iter().all(|name| !name.exists()));
}
