//! The report's figures as HTML tables. Pure.

use maud::{Markup, html};

use super::text::{bytes, count, events, measured};
use super::{Percentiles, Report};

/// All tables of the report, and the scenario's TOML.
pub(super) fn tables(report: &Report) -> Markup {
    html! {
        div class="columns" {
            div class="stack" {
                (percentile_table("Times", &distributions(report)))
                (table("Results", &figure_rows(report)))
            }
            div class="stack" {
                (endpoint_table(report))
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

/// A row of the percentile table: its name, and the value of a distribution.
type PercentileOf = (&'static str, fn(&Percentiles) -> f64);

const PERCENTILES: [PercentileOf; 8] = [
    ("p50", |times| times.p50_us),
    ("p90", |times| times.p90_us),
    ("p95", |times| times.p95_us),
    ("p99", |times| times.p99_us),
    ("p99.9", |times| times.p99_9_us),
    ("p99.99", |times| times.p99_99_us),
    ("highest", |times| times.max_us),
    ("mean", |times| times.mean_us),
];

/// Percentiles down, distributions across: narrow enough for a phone.
fn percentile_table(title: &str, columns: &[(&str, &Percentiles)]) -> Markup {
    html! {
        div class="card" {
            h3 { (title) }
            table {
                tr {
                    th {}
                    @for (name, _) in columns { th class="n" { (name) } }
                }
                @for (name, value) in PERCENTILES {
                    tr {
                        th { (name) }
                        @for (_, times) in columns { td class="n" { (measured(times, value(times))) } }
                    }
                }
            }
        }
    }
}

fn distributions(report: &Report) -> Vec<(&'static str, &Percentiles)> {
    let figures = &report.figures;
    let mut columns = vec![
        ("latency", &figures.latency),
        ("from sending", &figures.latency_from_sending),
        ("lag", &figures.lag),
    ];
    columns.extend(figures.truth.iter().map(|truth| ("to row", &truth.answer_to_row)));
    columns.extend(figures.core_data.iter().map(|data| ("update", &data.update_to_answer)));
    columns
}

fn endpoint_table(report: &Report) -> Markup {
    html! {
        div class="card" {
            h3 { "Latency by endpoint and status" }
            table {
                tr {
                    th { "endpoint" }
                    th class="n" { "requests" }
                    th class="n" { "p50" }
                    th class="n" { "p99" }
                    th class="n" { "highest" }
                }
                @for endpoint in &report.figures.endpoints {
                    (endpoint_row(&endpoint.name, &endpoint.latency))
                    @for (status, times) in &endpoint.by_status {
                        (endpoint_row(&format!("– {status}"), times))
                    }
                }
            }
        }
    }
}

fn endpoint_row(name: &str, times: &Percentiles) -> Markup {
    html! {
        tr {
            td { (name) }
            td class="n" { (count(times.count as f64)) }
            td class="n" { (measured(times, times.p50_us)) }
            td class="n" { (measured(times, times.p99_us)) }
            td class="n" { (measured(times, times.max_us)) }
        }
    }
}

fn figure_rows(report: &Report) -> Vec<(String, String)> {
    let figures = &report.figures;
    let mut rows = vec![
        row(
            "Requests",
            format!(
                "{} sent of {} scheduled; {} with the expected response",
                count(figures.sent as f64),
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
        row(
            "Errors",
            format!("{} ({:.3} %)", count(figures.errors as f64), figures.error_share * 100.0),
        ),
    ];
    if figures.follow_ups > 0 {
        rows.push(row(
            "Follow-ups",
            format!(
                "{}; {} responses to repeats, {} with another id",
                count(figures.follow_ups as f64),
                count(figures.repeats as f64),
                count(figures.differing_repeats as f64)
            ),
        ));
    }
    for (kind, number) in &figures.errors_by_kind {
        rows.push(row(&format!("– {kind}"), count(*number as f64)));
    }
    if let Some(truth) = &figures.truth {
        rows.push(row(
            "Events",
            format!(
                "{}; {} without a response; {} rows whose id was in no response",
                events(truth),
                count(truth.open as f64),
                count(truth.stored_without_answer as f64)
            ),
        ));
        rows.push(row(
            if truth.lost == 0 { "All rows there" } else { "Gave up" },
            format!("{:.1} s after the last response", truth.settled_seconds),
        ));
    }
    if let Some(core_data) = &figures.core_data {
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
        row("In flight", format!("up to {}", count(run.max_in_flight as f64))),
        row("loadtest", format!("{}, {} build", run.loadtest_version, run.build)),
        row("Machine", format!("{} cores, {}", machine.cores, bytes(machine.memory_bytes as f64))),
        row("Processor", machine.processor.clone()),
        row("Kernel", machine.kernel.clone()),
    ]
}
