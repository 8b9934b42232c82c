//! The report as one HTML file that loads nothing. Pure.

use std::collections::BTreeSet;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::{Chart, Scale, Series, nice_step};
use super::tables::tables;
use super::text::{bytes, count, measured, time};
use super::{Report, SliceRow};
use crate::verdict::ACHIEVED_SHARE;

/// Renders the report as a page.
pub fn render(report: &Report) -> String {
    let title = format!("loadtest {} · {}", report.scenario.name, report.run.started_at);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                main {
                    (header(report))
                    (tiles(report))
                    h2 { "Over time" }
                    div class="charts" { (PreEscaped(charts(report))) }
                    h2 { "In figures" }
                    (tables(report))
                }
            }
        }
    };
    page.into_string()
}

fn header(report: &Report) -> Markup {
    let (run, scenario) = (&report.run, &report.scenario);
    let verdict = &report.verdict;
    let harness = match verdict.valid {
        false => ("bad", "The harness was not faithful: these figures are not the target's."),
        true => ("good", "The harness was faithful: it sent what the scenario says, when it says."),
    };
    let target = match verdict.as_expected {
        false => ("bad", "The target did not do what the scenario expects."),
        true => ("good", "The target did what the scenario expects."),
    };
    let crossed = report.thresholds.iter().filter(|row| row.failed);
    let crossed: Vec<&str> = crossed.map(|row| row.threshold.as_str()).collect();
    html! {
        h1 { "Load test: " (scenario.name) }
        p class="sub" {
            (scenario.description)
            @if !scenario.overrides.is_empty() {
                br; "changed by " (scenario.overrides.join(" "))
            }
            br; (run.target) " · " (run.started_at) " · run " (run.id)
        }
        @for ((class, words), details) in [(harness, &verdict.reasons), (target, &verdict.findings)] {
            div class={"verdict " (class)} {
                b { (words) }
                @for detail in details {
                    p { (detail) }
                }
            }
        }
        @if !crossed.is_empty() {
            div class="verdict bad" {
                b { "Crossed: " (crossed.join(", ")) }
            }
        }
    }
}

/// A figure at the top of the page.
struct Tile {
    name: &'static str,
    value: String,
    is_bad: bool,
}

fn tiles(report: &Report) -> Markup {
    let figures = &report.figures;
    let latency = &figures.latency;
    let tile = |name, value, is_bad| Tile { name, value, is_bad };
    let mut tiles = vec![
        tile("p50 latency", measured(latency, latency.p50_us), false),
        tile("p99 latency", measured(latency, latency.p99_us), false),
        tile("p99.9 latency", measured(latency, latency.p99_9_us), false),
        tile("highest latency", measured(latency, latency.max_us), false),
        tile("requests sent", count(figures.sent as f64), figures.sent < figures.due),
        tile(
            "of schedule sent in time",
            format!("{:.2} %", figures.achieved_share * 100.0),
            figures.achieved_share < ACHIEVED_SHARE,
        ),
        tile("schedule lag, p99", measured(&figures.lag, figures.lag.p99_us), false),
        tile("errors", count(figures.errors as f64), figures.errors > 0),
    ];
    if let Some(truth) = &figures.truth {
        let row = &truth.answer_to_row;
        let is_known = truth.unidentified == 0;
        let lost = if is_known { count(truth.lost as f64) } else { "not measured".to_owned() };
        tiles.push(tile("events lost", lost, truth.lost > 0 || !is_known));
        tiles.push(tile("rows doubled", count(truth.doubled as f64), truth.doubled > 0));
        tiles.push(tile("response to row, p99", measured(row, row.p99_us), false));
    }
    if let Some(tracker) = &figures.tracker {
        let cpu = format!("{:.1} µs", tracker.cpu_per_request_us);
        tiles.push(tile("tracker CPU per request", cpu, false));
        let memory = bytes(tracker.rss_anon_max_bytes as f64);
        tiles.push(tile("tracker RssAnon", memory, false));
    }
    html! {
        div class="tiles" {
            @for Tile { name, value, is_bad } in tiles {
                div class={"tile" @if is_bad { " bad" }} {
                    b { (value) }
                    span { (name) }
                }
            }
        }
    }
}

fn seconds(at: f64) -> String {
    if at < 120.0 { format!("{at:.0} s") } else { format!("{:.1} min", at / 60.0) }
}

fn cores(value: f64) -> String {
    format!("{value:.2}")
}

fn milliseconds(ms: f64) -> String {
    time(ms * 1e3)
}

fn charts(report: &Report) -> String {
    let rows = &report.slices;
    let x: Vec<f64> = rows.iter().map(|row| row.at_seconds).collect();
    let last = x.last().copied().unwrap_or(0.0);
    let step = nice_step(last);
    let ticks: Vec<(f64, String)> = (0..=(last / step) as u32)
        .map(|tick| (f64::from(tick) * step, seconds(f64::from(tick) * step)))
        .collect();
    let of = |value: fn(&SliceRow) -> Option<f64>| rows.iter().map(value).collect::<Vec<_>>();
    let chart = |title, scale, format, note, series: Vec<(&'static str, Vec<Option<f64>>)>| {
        Chart {
            title,
            scale,
            x: x.clone(),
            x_ticks: ticks.clone(),
            x_name: seconds,
            series: series.into_iter().map(|(name, values)| Series { name, values }).collect(),
            format,
            note,
            marks: report.run.phase_ends_seconds.clone(),
        }
        .to_html()
    };
    let latency = |value: f64| (value > 0.0).then_some(value);
    let mut html = chart(
        "Latency",
        Scale::Logarithmic,
        time,
        "from the intended time of sending",
        vec![
            ("p50", rows.iter().map(|row| latency(row.p50_us)).collect()),
            ("p90", rows.iter().map(|row| latency(row.p90_us)).collect()),
            ("p95", rows.iter().map(|row| latency(row.p95_us)).collect()),
            ("p99", rows.iter().map(|row| latency(row.p99_us)).collect()),
            ("p99.9", rows.iter().map(|row| latency(row.p99_9_us)).collect()),
            ("max", rows.iter().map(|row| latency(row.max_us)).collect()),
        ],
    );
    html += &percentile_chart(report);
    html += &chart(
        "Requests per second",
        Scale::Whole,
        count,
        "dotted: the phases of the scenario end",
        vec![
            ("scheduled", of(|row| row.whole.then_some(row.scheduled_rate))),
            ("sent", of(|row| row.whole.then_some(row.sent_rate))),
            ("follow-ups sent", of(|row| (row.follow_up_rate > 0.0).then_some(row.follow_up_rate))),
        ],
    );
    html += &error_chart(&chart, rows);
    html += &chart(
        "In flight",
        Scale::Whole,
        count,
        "requests without a response at the end of each slice",
        vec![("in flight", of(|row| Some(row.in_flight as f64)))],
    );
    html += &chart(
        "CPU, in cores",
        Scale::Linear,
        cores,
        "the machine: everything on it, the stand-ins for AWS too",
        vec![
            ("tracker", of(|row| row.tracker_cpu)),
            ("harness", of(|row| row.harness_cpu)),
            ("machine", of(|row| row.machine_cpu)),
        ],
    );
    html += &chart(
        "The tracker's memory",
        Scale::Bytes,
        bytes,
        "anonymous memory (RssAnon)",
        vec![("RssAnon", of(|row| row.rss_anon_bytes.map(|value| value as f64)))],
    );
    html += &chart(
        "The tracker's file handles",
        Scale::Whole,
        count,
        "",
        vec![("open", of(|row| row.open_files.map(|value| value as f64)))],
    );
    html += &chart(
        "Journal",
        Scale::Bytes,
        bytes,
        "accepted events that Kinesis has not acknowledged",
        vec![("bytes", of(|row| row.journal_bytes.map(|value| value as f64)))],
    );
    html += &chart(
        "Kinesis lag",
        Scale::Linear,
        |value| time(value * 1e6),
        "age of the oldest event that Kinesis has not acknowledged",
        vec![("oldest", of(|row| row.journal_oldest_seconds))],
    );
    html += &chart(
        "DynamoDB lag",
        Scale::Logarithmic,
        milliseconds,
        "from a response to its row, by the time of the response",
        vec![
            ("p50", rows.iter().map(|row| row.row_p50_ms.and_then(latency)).collect()),
            ("p99", rows.iter().map(|row| row.row_p99_ms.and_then(latency)).collect()),
        ],
    );
    html += &chart(
        "The harness' schedule lag",
        Scale::Logarithmic,
        time,
        "how much later than intended requests were sent, p99 of each slice",
        vec![("p99", rows.iter().map(|row| latency(row.lag_p99_us)).collect())],
    );
    html
}

type Draw<'a> = dyn Fn(
        &'static str,
        Scale,
        fn(f64) -> String,
        &'static str,
        Vec<(&'static str, Vec<Option<f64>>)>,
    ) -> String
    + 'a;

/// A line for each kind of error that occurred.
fn error_chart(chart: &Draw<'_>, rows: &[SliceRow]) -> String {
    let occurred: BTreeSet<&str> =
        rows.iter().flat_map(|row| row.errors.keys().map(String::as_str)).collect();
    let series: Vec<_> = crate::recorder::Failure::ALL
        .into_iter()
        .map(crate::recorder::Failure::name)
        .filter(|name| occurred.contains(name))
        .map(|name| {
            let values =
                rows.iter().map(|row| Some(row.errors.get(name).copied().unwrap_or(0) as f64));
            (name, values.collect())
        })
        .collect();
    if series.is_empty() {
        let none = rows.iter().map(|_| Some(0.0)).collect();
        return chart(
            "Errors by kind",
            Scale::Whole,
            count,
            "there were none",
            vec![("all", none)],
        );
    }
    chart("Errors by kind", Scale::Whole, count, "in each slice", series)
}

/// Latency on HDR axes: every factor of ten in rarity takes the same space.
fn percentile_chart(report: &Report) -> String {
    // Without the last point, the highest value: the axis never reaches 100 %.
    let rarity = |percent: f64| -(1.0 - percent / 100.0).log10();
    let rows: Vec<_> = report
        .latency_percentiles
        .iter()
        .filter(|row| row.percent < 100.0)
        .map(|row| (rarity(row.percent), row.us))
        .collect();
    let lag: Vec<_> = report.lag_percentiles.iter().map(|row| Some(row.us)).collect();
    let reach = rows.last().map_or(0.0, |(rarity, _)| *rarity);
    let ticks =
        [(0.0, "0"), (1.0, "90"), (2.0, "99"), (3.0, "99.9"), (4.0, "99.99"), (5.0, "99.999")];
    Chart {
        title: "Latency by percentile",
        scale: Scale::Logarithmic,
        x: rows.iter().map(|(rarity, _)| *rarity).collect(),
        x_ticks: ticks
            .into_iter()
            .filter(|(at, _)| *at <= reach)
            .map(|(at, label)| (at, label.to_owned()))
            .collect(),
        x_name: |rarity| format!("{:.4} %", 100.0 * (1.0 - 10_f64.powf(-rarity))),
        series: vec![
            Series { name: "latency", values: rows.iter().map(|(_, us)| Some(*us)).collect() },
            Series { name: "the harness' lag", values: lag.into_iter().take(rows.len()).collect() },
        ],
        format: time,
        note: "the whole run; this percentage of requests took no longer",
        marks: Vec::new(),
    }
    .to_html()
}
