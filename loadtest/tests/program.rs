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

/// The server never responds, so that every request needs a connection of its own.
#[test]
fn its_own_limits_are_not_blamed_on_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    std::thread::spawn(move || {
        // The check before the run gets a response.
        let mut kept = Vec::new();
        for mut stream in silent.incoming().flatten() {
            if kept.is_empty() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                let _ = stream.shutdown(std::net::Shutdown::Write);
            }
            kept.push(stream);
        }
    });
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_loadtest"), "run"])
        .args([&scenario(folder.path()), "--url", &format!("http://{address}")])
        .args([
            "--rate",
            "200",
            "--timeout",
            "2s",
            "--max-in-flight",
            "500",
            "--no-verify",
            "--report",
        ])
        .arg(folder.path().join("report"))
        .env("AWS_REGION", "us-east-1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}{}", stderr(&output));
    assert!(text.contains("INVALID") && text.contains("no file handle is left"), "{text}");
    let report = Report::read(&folder.path().join("report.json")).unwrap();
    assert!(report.figures.errors_by_kind["harness"] > 50, "{:?}", report.figures.errors_by_kind);
    assert_eq!(report.figures.sent + report.figures.errors_by_kind["harness"], report.figures.due);
}

#[test]
fn reports_keep_their_names_and_runs_their_seeds_apart() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://{}", start_server());
    let report = |name: &str, flags: &[&str]| {
        let path = folder.path().join(name);
        let mut command = loadtest();
        command.args(["run", &scenario(folder.path()), "--url", &url, "--report"]).arg(&path);
        let output = command.args(flags).output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 3)), "{}", stderr(&output));
        Report::read(&folder.path().join(format!("{name}.json"))).unwrap()
    };
    let junit = folder.path().join("junit.xml");
    let first = report("v1.1", &["--junit", junit.to_str().unwrap()]);
    let second = report("v1.2", &[]);
    assert_ne!((&first.run.id, first.run.seed), (&second.run.id, second.run.seed));
    assert_eq!(report("v1.3", &["--seed", "7"]).run.seed, 7);
    assert!(std::fs::read_to_string(junit).unwrap().contains("<testsuite name=\"loadtest mine\""));

    let paths = ["v1.1.json", "v1.2.json"].map(|name| folder.path().join(name));
    let compare = |condition: &str| {
        loadtest().arg("compare").args(&paths).args(["--fail-if", condition]).output().unwrap()
    };
    assert!(matches!(compare("errors>5%").status.code(), Some(0 | 3)));
    let crossed = compare("lost>0%");
    assert!(matches!(crossed.status.code(), Some(2 | 3)), "not measured: {}", stderr(&crossed));
    assert_eq!(compare("p99>5").status.code(), Some(64));
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
        (&url, &["--rate=-5"], "--rate"),
        (&url, &["--cold-start"], "cold_start needs MANAGEMENT_URL in the environment"),
        (&url, &["--drop-counted"], "drop_counted deletes rows"),
        (&url, &["--fail-if", "clicks.p99>5ms"], "it has event"),
        (&url, &["--threads=8", "--max-in-flight=4"], "--threads 8 needs --max-in-flight 8"),
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
    assert_eq!(list.lines().count(), 5, "{list}");
    let shown = loadtest().args(["scenario", "show", "spike"]).output().unwrap();
    assert!(String::from_utf8(shown.stdout).unwrap().contains("peak = 20000"));
    let unknown = loadtest().args(["scenario", "show", "nothing"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(64));
}

/// A server that takes 5 ms for each request, one after the other: 200/s at most.
#[test]
fn finds_the_capacity_of_a_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let one_at_a_time = std::sync::Arc::new(std::sync::Mutex::new(()));
        for mut stream in listener.incoming().flatten() {
            let lock = std::sync::Arc::clone(&one_at_a_time);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {
                    let guard = lock.lock().unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    drop(guard);
                    let response = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                    if stream.write_all(response).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let output = loadtest()
        .args(["capacity", &scenario(folder.path()), "--url", &format!("http://{address}")])
        .args([
            "--until",
            "p90>300ms",
            "--from",
            "20",
            "--tolerance",
            "0.5",
            "--duration",
            "3s",
            "--report",
        ])
        .arg(folder.path().join("capacity"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    // 3: the machine is too busy to send on time.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{text}{}", stderr(&output));
    if output.status.code() == Some(0) {
        let (_, rate) = text.split_once("highest rate that holds: ").unwrap();
        let rate: f64 = rate.split('/').next().unwrap().parse().unwrap();
        assert!((20.0..=320.0).contains(&rate), "{text}");
        assert!(text.contains("breaks p90>300ms"), "{text}");
    }
    let usage = loadtest().args(["capacity", "quick"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(64));
}
