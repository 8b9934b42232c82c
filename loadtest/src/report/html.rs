//! The report as one HTML file that loads nothing. Pure.

use std::collections::BTreeSet;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::{Chart, Scale, Series, nice_step};
use super::tables::tables;
use super::text::{bytes, count, time};
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
    let crossed = report.thresholds.iter().any(|row| row.failed);
    let (class, word) = match (report.verdict.valid, crossed) {
        (false, _) => ("bad", "Invalid: these figures are not the server's."),
        (true, true) => ("bad", "Valid, and a threshold was crossed."),
        (true, false) => ("good", "Valid: the harness kept to its schedule."),
    };
    html! {
        h1 { "Load test: " (scenario.name) }
        p class="sub" {
            (scenario.description)
            @if !scenario.overrides.is_empty() {
                br; "changed by " (scenario.overrides.join(" "))
            }
            br; (run.target) " · " (run.started_at) " · run " (run.id)
        }
        div class={"verdict " (class)} {
            b { (word) }
            @for reason in &report.verdict.reasons {
                p { (reason) }
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

impl Tile {
    fn new(name: &'static str, value: String) -> Self {
        Self { name, value, is_bad: false }
    }

    /// The tile, marked as bad if `is_bad`.
    fn bad_if(self, is_bad: bool) -> Self {
        Self { is_bad, ..self }
    }
}

fn tiles(report: &Report) -> Markup {
    let figures = &report.figures;
    let latency = &figures.latency;
    let mut tiles = vec![
        Tile::new("p50 latency", time(latency.p50_us)),
        Tile::new("p99 latency", time(latency.p99_us)),
        Tile::new("p99.9 latency", time(latency.p99_9_us)),
        Tile::new("highest latency", time(latency.max_us)),
        Tile::new("requests", count(figures.due as f64)),
        Tile::new("of schedule in time", format!("{:.2} %", figures.achieved_share * 100.0))
            .bad_if(figures.achieved_share < ACHIEVED_SHARE),
        Tile::new("schedule lag, p99", time(figures.lag.p99_us)).bad_if(!report.verdict.valid),
        Tile::new("errors", count(figures.errors as f64)).bad_if(figures.errors > 0),
    ];
    if let Some(events) = &figures.truth {
        let (lost, doubled) = (events.lost, events.doubled);
        tiles.push(Tile::new("events lost", count(lost as f64)).bad_if(lost > 0));
        tiles.push(Tile::new("rows doubled", count(doubled as f64)).bad_if(doubled > 0));
        tiles.push(Tile::new("response to row, p99", time(events.answer_to_row.p99_us)));
    }
    if let Some(tracker) = &figures.tracker {
        let cpu = format!("{:.1} µs", tracker.cpu_per_request_us);
        tiles.push(Tile::new("tracker CPU per request", cpu));
        tiles.push(Tile::new("tracker RssAnon", bytes(tracker.rss_anon_max_bytes as f64)));
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

/// A chart over the time of the run.
struct ChartSpec {
    title: &'static str,
    note: &'static str,
    scale: Scale,
    format: fn(f64) -> String,
    series: Vec<(&'static str, Vec<Option<f64>>)>,
}

/// The horizontal axis that the charts over time share: a point for each slice.
struct TimeAxis {
    x: Vec<f64>,
    ticks: Vec<(f64, String)>,
}

impl TimeAxis {
    fn new(rows: &[SliceRow]) -> Self {
        let x: Vec<f64> = rows.iter().map(|row| row.at_seconds).collect();
        let last = x.last().copied().unwrap_or(0.0);
        let step = nice_step(last);
        let ticks = (0..=(last / step) as u32)
            .map(|tick| (f64::from(tick) * step, seconds(f64::from(tick) * step)))
            .collect();
        Self { x, ticks }
    }

    fn chart(&self, spec: ChartSpec) -> String {
        let series = spec.series.into_iter().map(|(name, values)| Series { name, values });
        Chart {
            title: spec.title,
            scale: spec.scale,
            x: self.x.clone(),
            x_ticks: self.ticks.clone(),
            x_name: seconds,
            series: series.collect(),
            format: spec.format,
            note: spec.note,
        }
        .to_html()
    }
}

fn charts(report: &Report) -> String {
    let axis = TimeAxis::new(&report.slices);
    [
        request_charts(report, &axis),
        process_charts(&report.slices, &axis),
        pipeline_charts(&report.slices, &axis),
    ]
    .concat()
}

fn values(rows: &[SliceRow], value: fn(&SliceRow) -> Option<f64>) -> Vec<Option<f64>> {
    rows.iter().map(value).collect()
}

/// A logarithmic axis has no place for zero, the value of a slice without responses.
fn positive(value: f64) -> Option<f64> {
    (value > 0.0).then_some(value)
}

fn request_charts(report: &Report, axis: &TimeAxis) -> String {
    let rows = &report.slices;
    [
        axis.chart(ChartSpec {
            title: "Latency",
            note: "from the intended time of sending",
            scale: Scale::Logarithmic,
            format: time,
            series: vec![
                ("p50", values(rows, |row| positive(row.p50_us))),
                ("p99", values(rows, |row| positive(row.p99_us))),
                ("max", values(rows, |row| positive(row.max_us))),
            ],
        }),
        percentile_chart(report),
        axis.chart(ChartSpec {
            title: "Requests per second",
            note: "",
            scale: Scale::Whole,
            format: count,
            series: vec![
                ("scheduled", values(rows, |row| row.whole.then_some(row.scheduled_rate))),
                ("sent", values(rows, |row| row.whole.then_some(row.sent_rate))),
            ],
        }),
        axis.chart(errors(rows)),
        axis.chart(ChartSpec {
            title: "In flight",
            note: "requests without a response at the end of each slice",
            scale: Scale::Whole,
            format: count,
            series: vec![("in flight", values(rows, |row| Some(row.in_flight as f64)))],
        }),
    ]
    .concat()
}

/// A line for each kind of error that occurred.
fn errors(rows: &[SliceRow]) -> ChartSpec {
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
    let (note, series) = if series.is_empty() {
        ("there were none", vec![("all", values(rows, |_| Some(0.0)))])
    } else {
        ("in each slice", series)
    };
    ChartSpec { title: "Errors by kind", note, scale: Scale::Whole, format: count, series }
}

fn process_charts(rows: &[SliceRow], axis: &TimeAxis) -> String {
    [
        axis.chart(ChartSpec {
            title: "CPU, in cores",
            note: "the machine: everything on it, the stand-ins for AWS too",
            scale: Scale::Linear,
            format: cores,
            series: vec![
                ("tracker", values(rows, |row| row.tracker_cpu)),
                ("harness", values(rows, |row| row.harness_cpu)),
                ("machine", values(rows, |row| row.machine_cpu)),
            ],
        }),
        axis.chart(ChartSpec {
            title: "The tracker's memory",
            note: "anonymous memory (RssAnon)",
            scale: Scale::Bytes,
            format: bytes,
            series: vec![(
                "RssAnon",
                values(rows, |row| row.rss_anon_bytes.map(|value| value as f64)),
            )],
        }),
        axis.chart(ChartSpec {
            title: "The tracker's file handles",
            note: "",
            scale: Scale::Whole,
            format: count,
            series: vec![("open", values(rows, |row| row.open_files.map(|value| value as f64)))],
        }),
    ]
    .concat()
}

fn pipeline_charts(rows: &[SliceRow], axis: &TimeAxis) -> String {
    [
        axis.chart(ChartSpec {
            title: "Journal",
            note: "accepted events that Kinesis has not acknowledged",
            scale: Scale::Bytes,
            format: bytes,
            series: vec![(
                "bytes",
                values(rows, |row| row.journal_bytes.map(|value| value as f64)),
            )],
        }),
        axis.chart(ChartSpec {
            title: "Kinesis lag",
            note: "age of the oldest event that Kinesis has not acknowledged",
            scale: Scale::Linear,
            format: |value| time(value * 1e6),
            series: vec![("oldest", values(rows, |row| row.journal_oldest_seconds))],
        }),
        axis.chart(ChartSpec {
            title: "DynamoDB lag",
            note: "from a response to its row, by the time of the response",
            scale: Scale::Logarithmic,
            format: milliseconds,
            series: vec![
                ("p50", values(rows, |row| row.row_p50_ms.and_then(positive))),
                ("p99", values(rows, |row| row.row_p99_ms.and_then(positive))),
            ],
        }),
        axis.chart(ChartSpec {
            title: "The harness' schedule lag",
            note: "how much later than intended requests were sent, p99 of each slice",
            scale: Scale::Logarithmic,
            format: time,
            series: vec![("p99", values(rows, |row| positive(row.lag_p99_us)))],
        }),
    ]
    .concat()
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
    }
    .to_html()
}
