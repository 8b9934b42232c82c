//! The program as a CI pipeline calls it: flags, exit statuses, files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use loadtest::report::Report;

/// Starts a server that accepts every request at once.
fn start_server() -> SocketAddr {
    start_server_with("200 OK")
}

/// Starts a server that responds to every request at once, with `status`.
fn start_server_with(status: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {
                    let response = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
                    if stream.write_all(response.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn loadtest() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    for variable in ["TABLE_NAME", "CORE_DATA_STREAM", "MANAGEMENT_URL"] {
        command.env_remove(variable);
    }
    // Without these, the SDK would look for a region and credentials on the network.
    command.env("AWS_REGION", "us-east-1").env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

fn scenario(folder: &Path) -> String {
    let path = folder.join("mine.toml");
    let text = "description = \"d\"\n[[phase]]\nkind = \"constant\"\nrate = 50\nduration = \"1s\"\n[programs]\nids = [\"p\"]\n";
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn run(folder: &Path, url: &str, flags: &[&str]) -> Output {
    loadtest()
        .args(["run", &scenario(folder), "--url", url])
        .arg("--report")
        .arg(folder.join("report"))
        .args(flags)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn threshold_decides_the_exit_status() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://{}", start_server());
    let kept = run(folder.path(), &url, &["--fail-if", "errors>50%"]);
    // 3: the machine is too busy to send on time.
    assert!(matches!(kept.status.code(), Some(0 | 3)), "{}", stderr(&kept));
    let output = String::from_utf8(kept.stdout).unwrap();
    assert!(
        output.contains("report.html") && output.contains("--fail-if 'errors>50%': 0.0000 %"),
        "{output}"
    );
    let report = Report::read(&folder.path().join("report.json")).unwrap();
    assert_eq!((report.figures.due, report.figures.answered), (50, 50));
    assert!(report.figures.truth.is_none(), "the run did not read a table");
    assert!(folder.path().join("report.html").exists());

    let crossed = run(folder.path(), &url, &["--fail-if", "lost>0"]);
    assert!(matches!(crossed.status.code(), Some(2 | 3)), "not measured: {}", stderr(&crossed));
}

#[test]
fn a_run_whose_requests_are_all_refused_is_not_valid() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://{}", start_server_with("404 Not Found"));
    let refused = run(folder.path(), &url, &[]);
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
    let output = String::from_utf8(refused.stdout).unwrap();
    assert!(output.contains("none of 50 requests got a good response"), "{output}");
}

#[test]
fn a_target_that_cannot_be_reached_fails_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plain = start_server();
    for (url, expected) in [
        (format!("http://{unused}"), "nothing listens at"),
        (format!("https://{plain}"), "use http://"),
    ] {
        let started_at = std::time::Instant::now();
        let output = run(folder.path(), &url, &[]);
        let errors = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(expected) && errors.lines().count() == 1, "{errors}");
        assert!(started_at.elapsed() < std::time::Duration::from_secs(5));
    }
}

#[test]
fn exits_with_64_and_one_line_on_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://{}", start_server());
    for (url, flags, expected) in [
        ("http://192.0.2.1", &[][..], "say --i-own-this-host"),
        (&url, &["--fail-if", "p99"], "such as p99>5ms"),
        (&url, &["--rate=-5"], "RATE"),
        (&url, &["--cold-start"], "cold_start needs MANAGEMENT_URL in the environment"),
        (&url, &["--drop-counted"], "drop_counted deletes rows"),
    ] {
        let output = run(folder.path(), url, flags);
        let errors = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{flags:?}: {errors}");
        assert!(errors.contains(expected) && errors.lines().count() == 1, "{flags:?}: {errors}");
    }
    let output = loadtest().args(["run", "quick", "--url", &url]).output().unwrap();
    assert!(stderr(&output).contains("needs CORE_DATA_STREAM"), "{}", stderr(&output));
}

#[test]
fn interrupted_run_writes_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = loadtest()
        .args(["run", &scenario(folder.path()), "--url", &format!("http://{}", start_server())])
        .args(["--duration", "5m", "--report"])
        .arg(folder.path().join("report"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut first = [0; 10];
    output.read_exact(&mut first).unwrap();
    // The first output means that the run is about to start.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4), "{rest}");
    let report = Report::read(&folder.path().join("report.json")).unwrap();
    assert!(report.run.interrupted && report.figures.due > 0);
}

#[test]
fn lists_and_shows_built_in_scenarios() {
    let list = loadtest().arg("scenarios").output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert_eq!(list.lines().count(), 4, "{list}");
    let shown = loadtest().args(["scenario", "show", "spike"]).output().unwrap();
    assert!(String::from_utf8(shown.stdout).unwrap().contains("peak = 20000"));
    let unknown = loadtest().args(["scenario", "show", "nothing"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(64));
}
