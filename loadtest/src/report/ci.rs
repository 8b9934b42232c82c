//! The report for CI systems: JUnit's XML, a summary in Markdown, the slices as CSV. Pure.

use std::fmt::Write;

use super::text::{count, events, measured};
use super::{Percentiles, Report, Verdict};

/// A check of a run, as a test case.
struct Check {
    name: String,
    /// Why it failed; `None` if it passed.
    failure: Option<String>,
}

fn checks(report: &Report) -> Vec<Check> {
    let Verdict { valid, reasons, as_expected, findings, .. } = &report.verdict;
    let check = |name: &str, ok: bool, why: &[String]| Check {
        name: name.to_owned(),
        failure: (!ok).then(|| why.join("; ")),
    };
    let mut checks = vec![
        check("the harness was faithful", *valid, reasons),
        check("the target did what the scenario expects", *as_expected, findings),
    ];
    checks.extend(report.thresholds.iter().map(|row| Check {
        name: format!("--fail-if {}", row.threshold),
        failure:
            row.failed.then(|| row.measured.clone().unwrap_or_else(|| "not measured".to_owned())),
    }));
    checks
}

/// Test results in JUnit's XML: one case for each part of the verdict and each threshold.
pub fn junit(report: &Report) -> String {
    let checks = checks(report);
    let failures = checks.iter().filter(|check| check.failure.is_some()).count();
    let (suite, seconds) =
        (escape(&format!("loadtest {}", report.scenario.name)), report.run.seconds);
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{suite}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" time=\"{seconds:.3}\" timestamp=\"{}\">\n",
        checks.len(),
        escape(&report.run.started_at)
    );
    for check in &checks {
        let name = escape(&check.name);
        // Writing into a String cannot fail.
        let _ = match &check.failure {
            None => writeln!(xml, "  <testcase classname=\"{suite}\" name=\"{name}\"/>"),
            Some(why) => writeln!(
                xml,
                "  <testcase classname=\"{suite}\" name=\"{name}\"><failure message=\"{}\"/></testcase>",
                escape(why)
            ),
        };
    }
    xml.push_str("</testsuite>\n");
    xml
}

/// Escapes a text for an attribute. XML cannot hold control characters at all.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A summary in Markdown, such as for a job's summary or a comment.
pub fn markdown(report: &Report) -> String {
    let figures = &report.figures;
    let mut text = format!("### Load test {}\n\n", cell(&report.scenario.name));
    for check in checks(report) {
        let _ = match check.failure {
            None => writeln!(text, "- ✅ {}", cell(&check.name)),
            Some(why) => writeln!(text, "- ❌ {}: {}", cell(&check.name), cell(&why)),
        };
    }
    text.push_str(
        "\n| | requests | p50 | p90 | p99 | p99.9 | highest |\n|---|--:|--:|--:|--:|--:|--:|\n",
    );
    let mut row = |name: &str, times: &Percentiles| {
        let at = |us| measured(times, us);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            cell(name),
            count(times.count as f64),
            at(times.p50_us),
            at(times.p90_us),
            at(times.p99_us),
            at(times.p99_9_us),
            at(times.max_us)
        );
    };
    row("latency", &figures.latency);
    for endpoint in figures.endpoints.iter().filter(|_| figures.endpoints.len() > 1) {
        row(&endpoint.name, &endpoint.latency);
    }
    row("schedule lag", &figures.lag);
    let _ = writeln!(
        text,
        "\n{}/s of {}/s sent, {} errors ({:.3} %)",
        count(figures.achieved_rate),
        count(figures.scheduled_rate),
        count(figures.errors as f64),
        figures.error_share * 100.0
    );
    if let Some(truth) = &figures.truth {
        let _ = writeln!(text, "\nEvents: {}", events(truth));
    }
    text
}

/// Escapes what would end a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace(['\n', '\r'], " ")
}

/// The slices of the run as CSV, one line each. What was not measured is empty.
pub fn csv(report: &Report) -> String {
    let mut text = String::from(
        "at_seconds,scheduled_rate,sent_rate,errors,in_flight,p50_us,p90_us,p95_us,p99_us,p99_9_us,max_us,lag_p99_us,row_p50_ms,row_p99_ms,tracker_cpu,rss_anon_bytes,journal_bytes\n",
    );
    let optional = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for row in &report.slices {
        let latency = |us: f64| if us > 0.0 { us.to_string() } else { String::new() };
        let fields = [
            row.at_seconds.to_string(),
            row.scheduled_rate.to_string(),
            row.sent_rate.to_string(),
            row.errors.values().sum::<u64>().to_string(),
            row.in_flight.to_string(),
            latency(row.p50_us),
            latency(row.p90_us),
            latency(row.p95_us),
            latency(row.p99_us),
            latency(row.p99_9_us),
            latency(row.max_us),
            latency(row.lag_p99_us),
            optional(row.row_p50_ms),
            optional(row.row_p99_ms),
            optional(row.tracker_cpu),
            optional(row.rss_anon_bytes.map(|bytes| bytes as f64)),
            optional(row.journal_bytes.map(|bytes| bytes as f64)),
        ];
        text.push_str(&fields.join(","));
        text.push('\n');
    }
    text
}
