//! The report of a run: one model, written as JSON and rendered as HTML.
//!
//! The names of members end in their unit. [`VERSION`] grows when a member changes its meaning or is
//! removed; a new member does not change it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod build;
mod chart;
mod ci;
pub(crate) mod histogram;
mod html;
mod tables;
mod text;

pub use build::{Material, build};
pub use ci::{csv, junit, markdown};
pub use html::render;
pub use text::summary;
pub(crate) use text::{bytes, time};

use crate::recorder::{Times, run_histogram, slice_histogram};

/// The version of the JSON's schema.
pub const VERSION: u32 = 2;
/// The build of a program whose figures are not those of what is deployed.
pub const DEVELOPMENT: &str = "development";

/// The report of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The schema's version.
    pub version: u32,
    /// The run's id, times and settings.
    pub run: Run,
    /// The machine that the harness ran on.
    pub machine: Machine,
    /// The scenario that was sent.
    pub scenario: ScenarioInfo,
    /// The figures of the whole run.
    pub figures: Figures,
    /// Responses by kind of request.
    pub requests: Vec<RequestRow>,
    /// Latency from the intended time as a histogram: pairs of nanoseconds and count.
    pub latency_histogram: String,
    /// The harness' lag as a histogram.
    pub lag_histogram: String,
    /// Latency from the intended time, by percentile.
    pub latency_percentiles: Vec<PercentileRow>,
    /// The harness' lag behind its schedule, by percentile.
    pub lag_percentiles: Vec<PercentileRow>,
    /// The run in slices.
    pub slices: Vec<SliceRow>,
    /// Whether the figures can be trusted.
    pub verdict: Verdict,
    /// The thresholds that the figures were compared with.
    pub thresholds: Vec<ThresholdRow>,
}

/// A run's id, times and settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Id of the run; the user agents of its requests end in it.
    pub id: String,
    /// Start of the run, RFC 3339.
    pub started_at: String,
    /// Length of the schedule.
    pub scheduled_seconds: f64,
    /// From the first intended time to the last response.
    pub seconds: f64,
    /// Whether the run was interrupted.
    pub interrupted: bool,
    /// URL of the server under load.
    pub target: String,
    /// The version of this program.
    pub loadtest_version: String,
    /// How it was compiled, and the local stack with it: `release` or `development`; empty in
    /// reports of before.
    #[serde(default)]
    pub build: String,
    /// Makes the requests of a run the same as those of another.
    pub seed: u64,
    /// Sender threads.
    pub threads: usize,
    /// Most requests in flight.
    pub max_in_flight: usize,
    /// Requests that were due before this time are left out of the latencies and lags of the whole run.
    pub warm_up_seconds: f64,
    /// Ends of the schedule's phases, seconds since the start of the run; without the last.
    pub phase_ends_seconds: Vec<f64>,
}

/// The machine that the harness ran on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Logical processors.
    pub cores: usize,
    /// Model name of the processor.
    pub processor: String,
    /// Total memory.
    pub memory_bytes: u64,
    /// Name and release of the kernel.
    pub kernel: String,
}

/// The scenario that was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScenarioInfo {
    /// Name of the built-in scenario, or of the file without extension.
    pub name: String,
    /// One line of text.
    pub description: String,
    /// The scenario's TOML, before flags changed it.
    pub toml: String,
    /// Flags that changed the scenario.
    pub overrides: Vec<String>,
}

/// The figures of a whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Requests whose intended time came.
    pub due: u64,
    /// Requests that were sent.
    pub sent: u64,
    /// How many of the requests that were due follow others, and are not in the schedule.
    pub follow_ups: u64,
    /// Responses to requests that were sent before, on purpose.
    pub repeats: u64,
    /// How many of these have another id than the first response.
    pub differing_repeats: u64,
    /// Requests in the schedule; if the run was interrupted, those that were due.
    pub scheduled: u64,
    /// Responses with an expected status.
    pub answered: u64,
    /// Failures of all kinds.
    pub errors: u64,
    /// Failures as a share of the requests that were due.
    pub error_share: f64,
    /// Failures by kind; kinds that did not occur are left out.
    pub errors_by_kind: BTreeMap<String, u64>,
    /// Scheduled requests per second, on average.
    pub scheduled_rate: f64,
    /// Requests of the schedule per second that were sent within the schedule's length, on average.
    pub achieved_rate: f64,
    /// Share of the scheduled requests that were sent within the schedule's length.
    pub achieved_share: f64,
    /// From the intended time to the end of the response. A request without a response in time counts with the
    /// time until then; one that could not be sent with the time that it would have taken at least.
    pub latency: Percentiles,
    /// From sending to the end of the response or the time-out: without the harness' lag, and without the requests
    /// that could not be sent.
    pub latency_from_sending: Percentiles,
    /// How many values of `latency` belong to requests that could not be sent.
    pub unsent_latencies: u64,
    /// Latencies by endpoint.
    pub endpoints: Vec<EndpointRow>,
    /// From the intended time to sending: the harness' own delay.
    pub lag: Percentiles,
    /// What became of the accepted events; `None` if the table was not read.
    pub truth: Option<Truth>,
    /// Changes of core data; `None` if there were none.
    pub core_data: Option<CoreDataFigures>,
    /// The tracker's process; `None` if its CPU time cannot be read.
    pub tracker: Option<TrackerFigures>,
    /// CPU time of this program per request, microseconds.
    pub harness_cpu_per_request_us: f64,
}

/// The latencies of an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointRow {
    /// Its name.
    pub name: String,
    /// All latencies.
    pub latency: Percentiles,
    /// Latencies by status; those of requests without a response have the status `none`.
    pub by_status: BTreeMap<String, Percentiles>,
}

/// Percentiles of a time, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Number of values.
    pub count: u64,
    /// Mean of the values.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90 % are no higher.
    pub p90_us: f64,
    /// 95 % are no higher.
    pub p95_us: f64,
    /// 99 % are no higher.
    pub p99_us: f64,
    /// 99.9 % are no higher.
    pub p99_9_us: f64,
    /// 99.99 % are no higher.
    pub p99_99_us: f64,
    /// Highest value.
    pub max_us: f64,
}

/// What became of the accepted events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Events that 2xx and 3xx responses accepted.
    pub accepted: u64,
    /// Accepted ids that had a row in the end.
    pub stored: u64,
    /// Accepted ids that had no row when the time to settle was over.
    pub lost: u64,
    /// Rows that are not linked to the click or impression that led to them.
    pub mislinked: u64,
    /// Rows that hold something else than their events' requests say: type, program, user agent, transaction, amount or
    /// currency.
    #[serde(default)]
    pub altered: u64,
    /// Rows of the run that no request accounts for.
    pub doubled: u64,
    /// Rows whose id was in no response: their requests got none.
    pub stored_without_answer: u64,
    /// Events of requests that were sent and got no response.
    pub open: u64,
    /// Accepted events whose response had no id: they can be counted, but not followed.
    pub unidentified: u64,
    /// From response to row, to the millisecond; the two times are from the clocks of two machines.
    pub answer_to_row: Percentiles,
    /// From the last response until all rows were there, or until the time to settle was over.
    pub settled_seconds: f64,
    /// Whether counted rows were deleted.
    pub counted_rows_dropped: bool,
}

/// Changes of core data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CoreDataFigures {
    /// Records put on the stream.
    pub updates: u64,
    /// Updates that were followed until a response showed them.
    pub followed: u64,
    /// From putting the record to the first response with the new value.
    pub update_to_answer: Percentiles,
    /// Responses with the old value after one with the new value.
    pub stale_answers: u64,
    /// Followed updates that no response showed within 10 s.
    pub never_answered: u64,
}

/// The tracker's process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrackerFigures {
    /// CPU time during the run.
    pub cpu_seconds: f64,
    /// CPU time per request that was due.
    pub cpu_per_request_us: f64,
    /// Anonymous memory at the start.
    pub rss_anon_first_bytes: u64,
    /// Anonymous memory at the end.
    pub rss_anon_last_bytes: u64,
    /// Highest anonymous memory.
    pub rss_anon_max_bytes: u64,
    /// Open files at the start.
    pub open_files_first: u64,
    /// Open files at the end.
    pub open_files_last: u64,
    /// Largest size of the journal.
    pub journal_max_bytes: u64,
    /// Highest age of an event that Kinesis had not acknowledged.
    pub journal_oldest_max_seconds: f64,
}

/// A kind of request, and its responses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRow {
    /// Name of the kind.
    pub kind: String,
    /// Responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Responses with an unexpected status.
    pub unexpected: u64,
    /// Requests without a response.
    pub unanswered: u64,
}

/// A point of a distribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PercentileRow {
    /// From 0 to 100.
    pub percent: f64,
    /// The value that this percentage of all values does not exceed, microseconds.
    pub us: f64,
}

/// A slice of a run. A value that is not known is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SliceRow {
    /// Start of the slice, seconds since the start of the run.
    pub at_seconds: f64,
    /// Scheduled requests per second.
    pub scheduled_rate: f64,
    /// Requests of the schedule per second that were sent.
    pub sent_rate: f64,
    /// Requests per second that were sent because they follow others.
    pub follow_up_rate: f64,
    /// Failures by kind.
    pub errors: BTreeMap<String, u64>,
    /// Median latency of the responses that arrived in the slice.
    pub p50_us: f64,
    /// 90th percentile of these latencies.
    pub p90_us: f64,
    /// 95th percentile.
    pub p95_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p99_9_us: f64,
    /// Highest of these latencies.
    pub max_us: f64,
    /// These latencies as a histogram: pairs of nanoseconds and count.
    pub latency_histogram: String,
    /// 99th percentile of the harness' lag.
    pub lag_p99_us: f64,
    /// Requests in flight at the end of the slice.
    pub in_flight: u64,
    /// Whether the schedule covers the whole slice.
    pub whole: bool,
    /// CPU of the tracker, in cores.
    pub tracker_cpu: Option<f64>,
    /// CPU of this program, in cores.
    pub harness_cpu: Option<f64>,
    /// CPU of the whole machine, in cores.
    pub machine_cpu: Option<f64>,
    /// The tracker's anonymous memory.
    pub rss_anon_bytes: Option<u64>,
    /// The tracker's open files.
    pub open_files: Option<u64>,
    /// Accepted events that Kinesis has not acknowledged.
    pub journal_bytes: Option<u64>,
    /// Age of the oldest of these events.
    pub journal_oldest_seconds: Option<f64>,
    /// Median time from response to row, of the responses that arrived in the slice.
    pub row_p50_ms: Option<f64>,
    /// 99th percentile of these times.
    pub row_p99_ms: Option<f64>,
}

/// The verdict on a run, in two parts: was the harness faithful, and did the target do what the scenario expects?
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the harness was faithful: it sent what the scenario says, when the scenario says.
    pub valid: bool,
    /// Why it was not and what to do, or what to know about the figures.
    pub reasons: Vec<String>,
    /// Whether the target did what the scenario expects.
    pub as_expected: bool,
    /// What it did instead.
    pub findings: Vec<String>,
    /// Whether there was a good response: an expected one, and below 400 unless the scenario expects only refusals.
    pub has_good_response: bool,
}

/// A threshold, and whether the run crossed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThresholdRow {
    /// The condition as it was given.
    pub threshold: String,
    /// The value with its unit; `None` if it was not measured.
    pub measured: Option<String>,
    /// Whether the run fails because of it.
    pub failed: bool,
}

/// Why a report cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Its file fails.
    #[error("{}: {error}", .path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// Its JSON is invalid, or lacks a member.
    #[error("{}: {error}", .path.display())]
    Json {
        /// Its path.
        path: PathBuf,
        /// What is wrong, and where.
        error: serde_json::Error,
    },
    /// Another program wrote it.
    #[error("{}: not a report: it has no version", .0.display())]
    NoVersion(PathBuf),
    /// Another version of this program wrote it.
    #[error("{}: it has version {version}; this program reads version {VERSION}", .path.display())]
    Version {
        /// Its path.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
}

/// Writes a text that belongs to a report to a file.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_text(path: &Path, text: &str) -> Result<(), ReportError> {
    let failed = |error| ReportError::File { path: path.to_owned(), error };
    std::fs::write(path, text).map_err(failed)
}

/// The path of a report's file: `extension` is appended, so that `v1.2` does not become `v1.html`.
pub fn file(base: &Path, extension: &str) -> PathBuf {
    let mut path = base.as_os_str().to_owned();
    path.push(".");
    path.push(extension);
    PathBuf::from(path)
}

impl SliceRow {
    /// The latencies of the slice.
    pub(crate) fn latencies(&self) -> Times {
        let mut times = slice_histogram();
        histogram::decode_into(&self.latency_histogram, &mut times);
        times
    }
}

impl Report {
    /// The latencies of the run.
    pub fn latencies(&self) -> Times {
        let mut times = run_histogram();
        histogram::decode_into(&self.latency_histogram, &mut times);
        times
    }

    /// Reads a report from its JSON file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not a report, or has another version than [`VERSION`].
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let path = path.to_owned();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => return Err(ReportError::File { path, error }),
        };
        let value: serde_json::Value = match serde_json::from_str(&text) {
            Ok(value) => value,
            Err(error) => return Err(ReportError::Json { path, error }),
        };
        match value["version"].as_u64() {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => return Err(ReportError::Version { path, version }),
            None => return Err(ReportError::NoVersion(path)),
        }
        serde_json::from_value(value).map_err(|error| ReportError::Json { path, error })
    }

    /// Writes the report to `base.json` and `base.html`.
    pub fn write(&self, base: &Path) -> Result<(), ReportError> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| ReportError::Json { path: base.to_owned(), error })?;
        for (extension, text) in [("json", json), ("html", render(self))] {
            let path = file(base, extension);
            std::fs::write(&path, text).map_err(|error| ReportError::File { path, error })?;
        }
        Ok(())
    }
}
