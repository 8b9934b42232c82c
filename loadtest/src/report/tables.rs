//! The report's figures as HTML tables. Pure.

use std::fmt::Write;

use super::html::escape;
use super::text::{bytes, count, time};
use super::{Percentiles, Report};

/// All of them, and the scenario.
pub(super) fn tables(report: &Report) -> String {
    let mut html = String::from("<div class=\"columns\">");
    html += &table("Results", &figure_rows(report));
    html += "<div class=\"stack\">";
    html += &threshold_table(report);
    html += &request_table(report);
    html += &table("Run", &run_rows(report));
    html += "</div></div>";
    let _ = write!(
        html,
        "<h2>Scenario</h2><div class=\"card\"><pre>{}</pre></div>",
        escape(&report.scenario.toml)
    );
    html
}

fn table(title: &str, rows: &[(String, String)]) -> String {
    let mut html = format!("<div class=\"card\"><h3>{title}</h3><table>");
    for (name, value) in rows {
        let _ = write!(html, "<tr><th>{name}</th><td>{value}</td></tr>");
    }
    html + "</table></div>"
}

fn row(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

fn percentiles(times: &Percentiles) -> String {
    format!(
        "p50 {}, p90 {}, p99 {}, p99.9 {}, p99.99 {}, highest {}; mean {}",
        time(times.p50_us),
        time(times.p90_us),
        time(times.p99_us),
        time(times.p99_9_us),
        time(times.p99_99_us),
        time(times.max_us),
        time(times.mean_us)
    )
}

fn figure_rows(report: &Report) -> Vec<(String, String)> {
    let figures = &report.figures;
    let mut rows = vec![
        row(
            "Requests",
            format!(
                "{} of {} scheduled; {} answered as expected",
                count(figures.due as f64),
                count(figures.scheduled as f64),
                count(figures.answered as f64)
            ),
        ),
        row(
            "Rate",
            format!(
                "{}/s of {}/s scheduled, on average",
                count(figures.achieved_rate),
                count(figures.scheduled_rate)
            ),
        ),
        row("Latency", percentiles(&figures.latency)),
        row("Schedule lag", percentiles(&figures.lag)),
        row(
            "Errors",
            format!("{} ({:.3} %)", count(figures.errors as f64), figures.error_share * 100.0),
        ),
    ];
    for (kind, number) in &figures.errors_by_kind {
        rows.push(row(&format!("– {kind}"), count(*number as f64)));
    }
    if let Some(truth) = &figures.truth {
        rows.push(row(
            "Events",
            format!(
                "{} accepted, {} stored, {} lost, {} doubled; {} without an answer, of which {} stored; {} answers without an id",
                count(truth.accepted as f64),
                count(truth.stored as f64),
                truth.lost,
                truth.doubled,
                truth.open,
                truth.stored_without_answer,
                truth.unidentified
            ),
        ));
        rows.push(row("Answer to row", percentiles(&truth.answer_to_row)));
        rows.push(row(
            "All rows there",
            format!("{:.1} s after the last answer", truth.settled_seconds),
        ));
    }
    if let Some(core_data) = &figures.core_data {
        rows.push(row("Update to answer", percentiles(&core_data.update_to_answer)));
        rows.push(row(
            "Core-data updates",
            format!(
                "{}; {} followed, {} stale answers, {} never answered",
                core_data.updates,
                core_data.followed,
                core_data.stale_answers,
                core_data.never_answered
            ),
        ));
    }
    if let Some(tracker) = &figures.tracker {
        rows.push(row(
            "Tracker CPU",
            format!(
                "{:.1} µs a request, {:.1} s in all",
                tracker.cpu_per_request_us, tracker.cpu_seconds
            ),
        ));
        rows.push(row(
            "Tracker memory",
            format!(
                "RssAnon {} at first, {} at last, {} at most",
                bytes(tracker.rss_anon_first_bytes as f64),
                bytes(tracker.rss_anon_last_bytes as f64),
                bytes(tracker.rss_anon_max_bytes as f64)
            ),
        ));
        rows.push(row(
            "File handles",
            format!("{} at first, {} at last", tracker.open_files_first, tracker.open_files_last),
        ));
        rows.push(row(
            "Journal",
            format!(
                "up to {}, oldest event {:.1} s",
                bytes(tracker.journal_max_bytes as f64),
                tracker.journal_oldest_max_seconds
            ),
        ));
    }
    rows.push(row(
        "Harness CPU",
        format!("{:.1} µs a request", figures.harness_cpu_per_request_us),
    ));
    rows
}

fn threshold_table(report: &Report) -> String {
    if report.thresholds.is_empty() {
        return String::new();
    }
    let mut html = String::from("<div class=\"card\"><h3>Thresholds</h3><table>");
    for row in &report.thresholds {
        let measured = row.measured.as_deref().unwrap_or("not measured");
        let (class, word) = if row.failed { ("failed", "crossed") } else { ("", "kept") };
        let _ = write!(
            html,
            "<tr><th>fail if {}</th><td>{}</td><td class=\"{class}\">{word}</td></tr>",
            escape(&row.threshold),
            escape(measured)
        );
    }
    html + "</table></div>"
}

fn request_table(report: &Report) -> String {
    let mut html = String::from(
        "<div class=\"card\"><h3>Requests</h3><table><tr><th>kind</th><th>answers</th><th class=\"n\">unexpected</th><th class=\"n\">none</th></tr>",
    );
    for row in &report.requests {
        let statuses: Vec<String> = row
            .statuses
            .iter()
            .map(|(status, number)| format!("{status}: {}", count(*number as f64)))
            .collect();
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&row.kind),
            statuses.join("<br>"),
            count(row.unexpected as f64),
            count(row.unanswered as f64)
        );
    }
    html + "</table></div>"
}

fn run_rows(report: &Report) -> Vec<(String, String)> {
    let (run, machine) = (&report.run, &report.machine);
    vec![
        row("Length", format!("{:.1} s of {:.1} s scheduled", run.seconds, run.scheduled_seconds)),
        row("Senders", format!("{} (threads), seed {}", run.threads, run.seed)),
        row("loadtest", format!("{}, {} build", run.loadtest_version, run.build)),
        row("Machine", format!("{} cores, {}", machine.cores, bytes(machine.memory_bytes as f64))),
        row("Processor", escape(&machine.processor)),
        row("Kernel", escape(&machine.kernel)),
    ]
}
