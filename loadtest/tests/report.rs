//! The report: built from measurements, written to files, read back and compared.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use std::time::Duration;

use loadtest::compare::compare;
use loadtest::core_data::Changes;
use loadtest::recorder::{Failure, Latency, Slice, Totals};
use loadtest::report::{
    Machine, Material, Report, Run, ScenarioInfo, build, csv, file, junit, markdown, render,
    summary,
};
use loadtest::request::Traffic;
use loadtest::sample::Sample;
use loadtest::scenario::Scenario;

const RATE: u64 = 100;
const SECONDS: u64 = 20;

fn scenario() -> Scenario {
    let toml = format!(
        "description = \"<b>&\"\n[[phase]]\nkind = \"constant\"\nrate = {RATE}\nduration = \"{SECONDS}s\"\n"
    );
    Scenario::parse(&toml, "test").unwrap()
}

/// The report of a run whose responses took `latency_ms` and a little more.
fn report(latency_ms: u64, interrupted: bool, missing_in_time: u64) -> Report {
    let scenario = scenario();
    let kinds = Traffic::new(&scenario, "h", "m").kinds;
    let mut totals = Totals::new(kinds.len());
    let mut slices = Vec::new();
    for index in 0..SECONDS {
        let mut slice = Slice::new(index);
        for number in 0..RATE {
            let latency = latency_ms * 1_000_000 + (number + index % 3) * 10_000;
            totals.due += 1;
            totals.sent += 1;
            totals.record_response(0, 200, true);
            totals
                .record_latency(&Latency { kind: 0, status: 200, from_intended: latency }, latency);
            slice.latency.saturating_record(latency);
            for times in [&mut totals.lag, &mut slice.lag] {
                times.saturating_record(20_000);
            }
            slice.due += 1;
            slice.sent += 1;
            slice.expected_responses += 1;
        }
        slice.due -= missing_in_time.min(RATE);
        slice.sent -= missing_in_time.min(RATE);
        slices.push(slice);
    }
    totals.due += 1;
    totals.sent += 1;
    totals.record_failure(0, Failure::Timeout);
    slices[5].failures[Failure::Timeout.index()] = 1;
    let sample = |at: u64| Sample {
        at_seconds: at as f64,
        tracker_cpu: Some(Duration::from_millis(at * 100)),
        rss_anon_bytes: Some(20 << 20),
        journal_bytes: Some(5_000 * at),
        ..Sample::default()
    };
    build(Material {
        run: Run {
            id: "0123abcd".into(),
            started_at: "2026-01-01T00:00:00Z".into(),
            scheduled_seconds: SECONDS as f64,
            seconds: SECONDS as f64,
            interrupted,
            target: "http://127.0.0.1:1".into(),
            loadtest_version: "0".into(),
            build: "release".into(),
            seed: 1,
            threads: 1,
            max_in_flight: 64,
            warm_up_seconds: 0.0,
            phase_ends_seconds: Vec::new(),
        },
        machine: Machine {
            cores: 2,
            processor: "p".into(),
            memory_bytes: 1 << 30,
            kernel: "k".into(),
        },
        scenario: ScenarioInfo {
            name: "test".into(),
            description: scenario.description.clone(),
            toml: "a = \"<script>\"".into(),
            overrides: vec!["--rate".into()],
        },
        schedule: scenario.schedule(1),
        slice: Duration::from_secs(1),
        accepted_lag: Duration::from_millis(1),
        kinds,
        totals,
        slices,
        findings: None,
        counted_rows_dropped: false,
        changes: Changes::default(),
        samples: (0..=SECONDS).map(sample).collect(),
        thresholds: vec!["p99>5ms".parse().unwrap(), "lost>0".parse().unwrap()],
    })
}

#[test]
fn computes_figures_from_the_measurements() {
    let report = report(4, false, 0);
    let figures = &report.figures;
    assert_eq!((figures.due, figures.scheduled, figures.answered), (2_001, 2_000, 2_000));
    assert_eq!(figures.errors_by_kind["timeout"], 1);
    assert!((4_980.0..5_030.0).contains(&figures.latency.p99_us), "{}", figures.latency.p99_us);
    assert!((figures.tracker.as_ref().unwrap().cpu_seconds - 2.0).abs() < 1e-9);
    assert!((report.slices[3].tracker_cpu.unwrap() - 0.1).abs() < 1e-9);
    assert_eq!(report.slices[5].errors["timeout"], 1);
    assert!(report.verdict.valid);
    assert_eq!(report.thresholds.iter().map(|row| row.failed).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn marks_a_run_behind_its_schedule_as_invalid() {
    let late = report(4, false, 2);
    assert!(!late.verdict.valid, "98 of 100 in time");
    assert!(summary(&late).contains("INVALID"), "{}", summary(&late));
    assert!(render(&late).contains("these figures are not the target"));
    assert!(summary(&report(4, true, 0)).contains("interrupted"));
}

#[test]
fn writes_what_ci_systems_read() {
    let report = report(4, false, 0);
    let junit = junit(&report);
    assert!(junit.contains("tests=\"4\" failures=\"2\""), "{junit}");
    assert!(junit.contains("name=\"--fail-if p99&gt;5ms\"/>"), "{junit}");
    assert!(
        junit.contains("name=\"--fail-if lost&gt;0\"><failure message=\"not measured\"/>"),
        "{junit}"
    );
    assert!(
        junit
            .contains("<failure message=\"1 of 2001 requests that were sent failed: timeout 1\"/>"),
        "{junit}"
    );
    let markdown = markdown(&report);
    assert!(markdown.contains("- ❌ --fail-if lost>0: not measured"), "{markdown}");
    assert!(markdown.contains("| latency | 2,000 |"), "{markdown}");
    let csv = csv(&report);
    let columns = |line: &str| line.split(',').count();
    assert_eq!(csv.lines().count(), 1 + usize::try_from(SECONDS).unwrap());
    assert!(csv.lines().all(|line| columns(line) == columns(csv.lines().next().unwrap())));
}

#[test]
fn reads_its_own_json_and_rejects_other_versions() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("v1.2");
    let report = report(4, false, 0);
    report.write(&base).unwrap();
    assert_eq!(Report::read(&folder.path().join("v1.2.json")).unwrap(), report);
    assert!(file(&base, "html").exists());
    for (text, expected) in [
        ("{\"version\": 99}", "it has version 99; this program reads version 2"),
        ("{}", "not a report"),
        ("nothing", "expected"),
    ] {
        let path = folder.path().join("other.json");
        std::fs::write(&path, text).unwrap();
        let error = Report::read(&path).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("other.json"), "{error}");
    }
}

#[test]
fn page_loads_nothing_and_escapes_foreign_text() {
    let html = render(&report(4, false, 0));
    for loading in ["src=", "href=", "url(", "@import", "<script", "<link", "<iframe"] {
        assert!(!html.contains(loading), "{loading}");
    }
    // The only URL in it is the target's.
    assert_eq!(html.matches("http").count(), html.matches("http://127.0.0.1:1").count());
    assert!(html.contains("&lt;b&gt;&amp;") && html.contains("a = &quot;&lt;script&gt;&quot;"));
    for chart in ["Latency", "Latency by percentile", "Requests per second", "Errors by kind"] {
        assert!(html.contains(&format!("<figcaption>{chart}</figcaption>")), "{chart}");
    }
}

#[test]
fn compares_two_runs_with_their_noise() {
    let (a, b) = (report(4, false, 0), report(5, false, 0));
    let line = |text: &str, name: &str| {
        text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned()
    };
    let conditions = ["p99>5%".parse().unwrap(), "p99>50%".parse().unwrap()];
    let different = compare(&a, &b, &conditions);
    let p50 = line(&different.text, "latency p50");
    assert!(p50.contains("+22.") && p50.contains("differs"), "{p50}");
    assert_eq!(different.crossed, ["p99>5%"]);
    let same = compare(&a, &a, &conditions);
    assert!(line(&same.text, "latency p50").contains("within noise"), "{}", same.text);
    assert!(!same.text.contains("Warning:") && same.both_valid, "{}", same.text);
    assert!(same.crossed.is_empty());
    let late = compare(&a, &report(4, false, 2), &conditions);
    assert!(late.text.contains("Warning: a run is invalid") && !late.both_valid);
    let unmeasured = compare(&a, &a, &["lost>0%".parse().unwrap()]);
    assert_eq!(unmeasured.crossed, ["lost>0%"], "no run read the table");
}
