//! The report: one model, written as JSON and shown as HTML.
//!
//! Members' names carry their unit. [`VERSION`] grows when a member changes its meaning or goes; a
//! new one does not change it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

mod build;
mod chart;
mod html;
mod tables;
mod text;

pub use build::{Material, build};
pub use html::render;
pub use text::summary;
pub(crate) use text::{bytes, time};

/// The version of the JSON's schema.
pub const VERSION: u32 = 1;
/// The build of a program whose figures are not those of what is deployed.
pub const DEVELOPMENT: &str = "development";

/// All there is to say of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The schema's version.
    pub version: u32,
    /// Which run it was.
    pub run: Run,
    /// The machine that sent.
    pub machine: Machine,
    /// What was sent.
    pub scenario: ScenarioInfo,
    /// The figures of the whole run.
    pub figures: Figures,
    /// What was asked, and the answers.
    pub requests: Vec<RequestRow>,
    /// Latency from the intended time, by percentile.
    pub latency_percentiles: Vec<PercentileRow>,
    /// The harness' lag behind its schedule, by percentile.
    pub lag_percentiles: Vec<PercentileRow>,
    /// The run in slices.
    pub slices: Vec<SliceRow>,
    /// Whether the figures can be trusted.
    pub verdict: Verdict,
    /// What was asked of them.
    pub thresholds: Vec<ThresholdRow>,
}

/// Which run it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its id; the user agents of its requests end in it.
    pub id: String,
    /// RFC 3339.
    pub started_at: String,
    /// Length of the schedule.
    pub scheduled_seconds: f64,
    /// From the first intended time to the last answer.
    pub seconds: f64,
    /// Whether it was broken off.
    pub interrupted: bool,
    /// Where the requests went.
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
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Logical processors.
    pub cores: usize,
    /// The processors' name.
    pub processor: String,
    /// Bytes.
    pub memory_bytes: u64,
    /// Name and release.
    pub kernel: String,
}

/// What was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScenarioInfo {
    /// The built-in's name, or the file's.
    pub name: String,
    /// In a line.
    pub description: String,
    /// The file.
    pub toml: String,
    /// Flags that changed it.
    pub overrides: Vec<String>,
}

/// The figures of a whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Requests whose time came.
    pub due: u64,
    /// Requests that the schedule had.
    pub scheduled: u64,
    /// Answers with an expected status.
    pub answered: u64,
    /// Failures of all kinds.
    pub errors: u64,
    /// Of the requests that were due.
    pub error_share: f64,
    /// By kind; those that did not occur are left out.
    pub errors_by_kind: BTreeMap<String, u64>,
    /// Requests per second that the schedule had, on average.
    pub scheduled_rate: f64,
    /// Requests per second that were sent within the schedule's length, on average.
    pub achieved_rate: f64,
    /// One by the other.
    pub achieved_share: f64,
    /// From the intended time to the whole answer.
    pub latency: Percentiles,
    /// From the intended time to sending: the harness' own delay.
    pub lag: Percentiles,
    /// What became of the accepted events; none where nobody looked.
    pub truth: Option<Truth>,
    /// Changes of core data; none where there were none.
    pub core_data: Option<CoreDataFigures>,
    /// The tracker's process; none where it cannot be seen.
    pub tracker: Option<TrackerFigures>,
    /// CPU time of this program per request, microseconds.
    pub harness_cpu_per_request_us: f64,
}

/// Percentiles of a time, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many values there are.
    pub count: u64,
    /// Their mean.
    pub mean_us: f64,
    /// The median.
    pub p50_us: f64,
    /// 90 % are no higher.
    pub p90_us: f64,
    /// 99 % are no higher.
    pub p99_us: f64,
    /// 99.9 % are no higher.
    pub p99_9_us: f64,
    /// 99.99 % are no higher.
    pub p99_99_us: f64,
    /// The highest.
    pub max_us: f64,
}

/// What became of the accepted events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Events that 2xx and 3xx answers stand for.
    pub accepted: u64,
    /// Of these, ids that were rows at the end.
    pub stored: u64,
    /// Of these, not rows when patience ended.
    pub lost: u64,
    /// Rows of the run that no request accounts for.
    pub doubled: u64,
    /// Rows whose id was in no answer: of requests that got none.
    pub stored_without_answer: u64,
    /// Events of requests that were sent and got no answer.
    pub open: u64,
    /// Accepted events whose answers had no id: they can be counted, not followed.
    pub unidentified: u64,
    /// From answer to row. Whole milliseconds: of the answer's and the row's clocks.
    pub answer_to_row: Percentiles,
    /// How long it took after the last answer until all rows were there, or patience ended.
    pub settled_seconds: f64,
    /// Whether counted rows were deleted.
    pub counted_rows_dropped: bool,
}

/// Changes of core data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CoreDataFigures {
    /// Records put on the stream.
    pub updates: u64,
    /// Of these, looked after until they were answered.
    pub followed: u64,
    /// From putting the record to the first answer with the new value.
    pub update_to_answer: Percentiles,
    /// Answers with an old value after one with the new value.
    pub stale_answers: u64,
    /// Not answered within 10 s.
    pub never_answered: u64,
}

/// The tracker's process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrackerFigures {
    /// CPU time.
    pub cpu_seconds: f64,
    /// CPU time by the requests that were due.
    pub cpu_per_request_us: f64,
    /// Anonymous memory at the beginning, bytes.
    pub rss_anon_first_bytes: u64,
    /// At the end.
    pub rss_anon_last_bytes: u64,
    /// At most.
    pub rss_anon_max_bytes: u64,
    /// File handles at the beginning.
    pub open_files_first: u64,
    /// At the end.
    pub open_files_last: u64,
    /// The journal at its fullest, bytes.
    pub journal_max_bytes: u64,
    /// The oldest event that Kinesis had not acknowledged, seconds, at most.
    pub journal_oldest_max_seconds: f64,
}

/// A kind of request, and its answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRow {
    /// Its name.
    pub kind: String,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Of these, with a status that was not expected.
    pub unexpected: u64,
    /// Without an answer.
    pub unanswered: u64,
}

/// A point of a distribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PercentileRow {
    /// From 0 to 100.
    pub percent: f64,
    /// So many percent are no higher; microseconds.
    pub us: f64,
}

/// A slice of a run. Members that are not known are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SliceRow {
    /// Where it begins, seconds from the start.
    pub at_seconds: f64,
    /// Requests per second that the schedule had.
    pub scheduled_rate: f64,
    /// Requests per second that were sent.
    pub sent_rate: f64,
    /// Failures by kind.
    pub errors: BTreeMap<String, u64>,
    /// Latencies of the answers that came in it.
    pub p50_us: f64,
    /// 99 % are no higher.
    pub p99_us: f64,
    /// The highest.
    pub max_us: f64,
    /// 99 % of the harness' lags are no higher.
    pub lag_p99_us: f64,
    /// At its end.
    pub in_flight: u64,
    /// Whether the schedule was still going on at its end.
    pub whole: bool,
    /// CPU of the tracker, in cores.
    pub tracker_cpu: Option<f64>,
    /// CPU of this program, in cores.
    pub harness_cpu: Option<f64>,
    /// CPU of the whole machine, in cores.
    pub machine_cpu: Option<f64>,
    /// The tracker's anonymous memory.
    pub rss_anon_bytes: Option<u64>,
    /// The tracker's file handles.
    pub open_files: Option<u64>,
    /// What waits for Kinesis.
    pub journal_bytes: Option<u64>,
    /// The age of the oldest of it.
    pub journal_oldest_seconds: Option<f64>,
    /// From the answers in it to their rows.
    pub row_p50_ms: Option<f64>,
    /// 99 % are no higher.
    pub row_p99_ms: Option<f64>,
}

/// Whether the figures can be trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// False where the harness itself was the bottleneck.
    pub valid: bool,
    /// Why not; or what to know.
    pub reasons: Vec<String>,
}

/// A threshold, and whether it was kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThresholdRow {
    /// As it was given.
    pub threshold: String,
    /// What was measured, with its unit; none where it was not.
    pub measured: Option<String>,
    /// Whether the run fails by it.
    pub failed: bool,
}

impl Report {
    /// Reads a report's JSON.
    pub fn read(path: &Path) -> Result<Self, String> {
        let problem = |what: String| format!("{}: {what}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| problem(error.to_string()))?;
        match value["version"].as_u64() {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => {
                return Err(problem(format!(
                    "it has version {version}; this program reads version {VERSION}"
                )));
            }
            None => return Err(problem("it is no report: it has no version".to_owned())),
        }
        serde_json::from_value(value).map_err(|error| problem(error.to_string()))
    }

    /// Writes JSON and HTML beside each other: `base.json`, `base.html`.
    pub fn write(&self, base: &Path) -> Result<(), String> {
        let json = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        for (extension, text) in [("json", json), ("html", render(self))] {
            let path = base.with_extension(extension);
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }
}
