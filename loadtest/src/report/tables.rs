//! The report's figures as HTML tables. Pure.

use maud::{Markup, html};

use super::text::{bytes, count, time};
use super::{Percentiles, Report};

/// All tables of the report, and the scenario's TOML.
pub(super) fn tables(report: &Report) -> Markup {
    html! {
        div class="columns" {
            (table("Results", &figure_rows(report)))
            div class="stack" {
                (threshold_table(report))
                (request_table(report))
                (table("Run", &run_rows(report)))
            }
        }
        h2 { "Scenario" }
        div class="card" { pre { (report.scenario.toml) } }
    }
}

fn table(title: &str, rows: &[(String, String)]) -> Markup {
    html! {
        div class="card" {
            h3 { (title) }
            table {
                @for (name, value) in rows {
                    tr { th { (name) } td { (value) } }
                }
            }
        }
    }
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
                "{} of {} scheduled; {} with the expected response",
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
                "{} accepted, {} stored, {} lost, {} doubled; {} without a response, of which {} stored; {} responses without an id",
                count(truth.accepted as f64),
                count(truth.stored as f64),
                truth.lost,
                truth.doubled,
                truth.open,
                truth.stored_without_answer,
                truth.unidentified
            ),
        ));
        rows.push(row("Response to row", percentiles(&truth.answer_to_row)));
        rows.push(row(
            "All rows there",
            format!("{:.1} s after the last response", truth.settled_seconds),
        ));
    }
    if let Some(core_data) = &figures.core_data {
        rows.push(row("Update to response", percentiles(&core_data.update_to_answer)));
        rows.push(row(
            "Core-data updates",
            format!(
                "{}; {} followed, {} stale responses, {} never seen",
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
                "{:.1} µs per request, {:.1} s in all",
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
        format!("{:.1} µs per request", figures.harness_cpu_per_request_us),
    ));
    rows
}

fn threshold_table(report: &Report) -> Markup {
    html! {
        @if !report.thresholds.is_empty() {
            div class="card" {
                h3 { "Thresholds" }
                table {
                    @for row in &report.thresholds {
                        tr {
                            th { "fail if " (row.threshold) }
                            td { (row.measured.as_deref().unwrap_or("not measured")) }
                            @if row.failed {
                                td class="failed" { "crossed" }
                            } @else {
                                td { "kept" }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn request_table(report: &Report) -> Markup {
    html! {
        div class="card" {
            h3 { "Requests" }
            table {
                tr {
                    th { "kind" }
                    th { "responses" }
                    th class="n" { "unexpected" }
                    th class="n" { "none" }
                }
                @for row in &report.requests {
                    tr {
                        td { (row.kind) }
                        td {
                            @for (position, (status, number)) in row.statuses.iter().enumerate() {
                                @if position > 0 { br; }
                                (status) ": " (count(*number as f64))
                            }
                        }
                        td class="n" { (count(row.unexpected as f64)) }
                        td class="n" { (count(row.unanswered as f64)) }
                    }
                }
            }
        }
    }
}

fn run_rows(report: &Report) -> Vec<(String, String)> {
    let (run, machine) = (&report.run, &report.machine);
    vec![
        row("Length", format!("{:.1} s of {:.1} s scheduled", run.seconds, run.scheduled_seconds)),
        row("Senders", format!("{} (threads), seed {}", run.threads, run.seed)),
        row("loadtest", format!("{}, {} build", run.loadtest_version, run.build)),
        row("Machine", format!("{} cores, {}", machine.cores, bytes(machine.memory_bytes as f64))),
        row("Processor", machine.processor.clone()),
        row("Kernel", machine.kernel.clone()),
    ]
}
