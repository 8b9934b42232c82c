//! `--fail-if 'p99>5ms'`: conditions under which a run fails. Pure.

use std::fmt;
use std::str::FromStr;

use crate::report::{Figures, Percentiles, ThresholdRow, Truth};

/// What a value is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// `us`, `ms`, `s`; held in microseconds.
    Time,
    /// `%`, or a share of 1.
    Share,
    /// A plain number.
    Count,
    /// `kb`, `mb`, `gb`, powers of 1,024; held in bytes.
    Bytes,
}

type Measure = fn(&Figures) -> Option<f64>;

/// What a condition can compare: name, unit, meaning, and how to read it from the figures.
const METRICS: [(&str, Unit, &str, Measure); 27] = [
    ("p50", Unit::Time, "latency, median", |f| latency(f, |p| p.p50_us)),
    ("p90", Unit::Time, "latency, 90 %", |f| latency(f, |p| p.p90_us)),
    ("p95", Unit::Time, "latency, 95 %", |f| latency(f, |p| p.p95_us)),
    ("p99", Unit::Time, "latency, 99 %", |f| latency(f, |p| p.p99_us)),
    ("p99.9", Unit::Time, "latency, 99.9 %", |f| latency(f, |p| p.p99_9_us)),
    ("p99.99", Unit::Time, "latency, 99.99 %", |f| latency(f, |p| p.p99_99_us)),
    ("max", Unit::Time, "latency, the highest", |f| latency(f, |p| p.max_us)),
    ("mean", Unit::Time, "latency, mean", |f| latency(f, |p| p.mean_us)),
    ("lag.p99", Unit::Time, "the harness' lag, 99 %", |f| Some(f.lag.p99_us)),
    ("errors", Unit::Share, "failed requests, of all requests", |f| Some(f.error_share)),
    ("altered", Unit::Count, "rows that hold something else than was sent", |f| {
        followed(f).map(|truth| truth.altered as f64)
    }),
    ("mislinked", Unit::Count, "rows not linked to the event that led to them", |f| {
        followed(f).map(|truth| truth.mislinked as f64)
    }),
    ("repeats.differing", Unit::Count, "repeats that got another id than the first time", |f| {
        Some(f.differing_repeats as f64)
    }),
    ("unfollowed", Unit::Count, "accepted events whose response has no id", |f| {
        Some(f.truth.as_ref()?.unidentified as f64)
    }),
    ("overflow", Unit::Count, "requests not sent: too many were in flight", |f| {
        Some(f.errors_by_kind.get("overflow").copied().unwrap_or(0) as f64)
    }),
    ("rate", Unit::Count, "requests per second sent", |f| Some(f.achieved_rate)),
    ("lost", Unit::Count, "accepted events without a row", |f| {
        followed(f).map(|truth| truth.lost as f64)
    }),
    ("doubled", Unit::Count, "rows that no request accounts for", |f| {
        followed(f).map(|truth| truth.doubled as f64)
    }),
    ("row.p50", Unit::Time, "from response to row, median", |f| row(f, |p| p.p50_us)),
    ("row.p99", Unit::Time, "from response to row, 99 %", |f| row(f, |p| p.p99_us)),
    ("update.p99", Unit::Time, "from core-data update to response, 99 %", |f| {
        Some(f.core_data.as_ref()?.update_to_answer.p99_us)
    }),
    ("stale", Unit::Count, "responses with the old value after one with the new", |f| {
        Some(f.core_data.as_ref()?.stale_answers as f64)
    }),
    ("cpu", Unit::Time, "CPU time of the tracker per request", |f| {
        Some(f.tracker.as_ref()?.cpu_per_request_us)
    }),
    ("rss", Unit::Bytes, "the tracker's anonymous memory, at most", |f| {
        Some(f.tracker.as_ref()?.rss_anon_max_bytes as f64)
    }),
    ("rss.growth", Unit::Bytes, "growth of that memory: last minus first", |f| {
        let tracker = f.tracker.as_ref()?;
        Some(tracker.rss_anon_last_bytes as f64 - tracker.rss_anon_first_bytes as f64)
    }),
    ("files.growth", Unit::Count, "growth of the tracker's open files: last minus first", |f| {
        let tracker = f.tracker.as_ref()?;
        Some(tracker.open_files_last as f64 - tracker.open_files_first as f64)
    }),
    ("journal.age", Unit::Time, "age of the oldest undelivered event, at most", |f| {
        Some(f.tracker.as_ref()?.journal_oldest_max_seconds * 1e6)
    }),
];

/// A figure of a distribution.
type Figure = fn(&Percentiles) -> f64;

/// The names of METRICS that an endpoint has, too: `click.p99`, `click.302.p99`.
const OF_ENDPOINTS: [(&str, Figure); 8] = [
    ("p50", |p| p.p50_us),
    ("p90", |p| p.p90_us),
    ("p95", |p| p.p95_us),
    ("p99", |p| p.p99_us),
    ("p99.9", |p| p.p99_9_us),
    ("p99.99", |p| p.p99_99_us),
    ("max", |p| p.max_us),
    ("mean", |p| p.mean_us),
];

/// What became of the events, if all accepted ones could be followed: what became of the others is not measured.
fn followed(figures: &Figures) -> Option<&Truth> {
    figures.truth.as_ref().filter(|truth| truth.unidentified == 0)
}

fn latency(figures: &Figures, percentile: fn(&Percentiles) -> f64) -> Option<f64> {
    (figures.latency.count > 0).then(|| percentile(&figures.latency))
}

fn row(figures: &Figures, percentile: fn(&Percentiles) -> f64) -> Option<f64> {
    let delays = &figures.truth.as_ref()?.answer_to_row;
    (delays.count > 0).then(|| percentile(delays))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// What a condition is about.
#[derive(Debug, Clone, PartialEq)]
enum Metric {
    /// Index in METRICS.
    OfRun(usize),
    /// Endpoint, perhaps a status, and index in OF_ENDPOINTS.
    OfEndpoint { endpoint: String, status: Option<String>, percentile: usize },
}

impl Metric {
    fn parse(name: &str) -> Option<Self> {
        if let Some(index) = METRICS.iter().position(|(metric, ..)| *metric == name) {
            return Some(Self::OfRun(index));
        }
        // No name ends in a dot and another name, so that at most one fits.
        let (percentile, rest) =
            OF_ENDPOINTS.iter().enumerate().find_map(|(index, (metric, _))| {
                Some((index, name.strip_suffix(metric)?.strip_suffix('.')?))
            })?;
        let is_status =
            |text: &str| text == "none" || (text.len() == 3 && text.parse::<u16>().is_ok());
        let (endpoint, status) = match rest.rsplit_once('.') {
            Some((endpoint, status)) if is_status(status) => (endpoint, Some(status.to_owned())),
            _ => (rest, None),
        };
        (!endpoint.is_empty()).then(|| Self::OfEndpoint {
            endpoint: endpoint.to_owned(),
            status,
            percentile,
        })
    }

    fn unit(&self) -> Unit {
        match self {
            Self::OfRun(index) => METRICS[*index].1,
            Self::OfEndpoint { .. } => Unit::Time,
        }
    }

    fn measure(&self, figures: &Figures) -> Option<f64> {
        match self {
            Self::OfRun(index) => METRICS[*index].3(figures),
            Self::OfEndpoint { endpoint, status, percentile } => {
                let row =
                    figures.endpoints.iter().find(|row| without_spaces(&row.name) == *endpoint)?;
                let times = match status {
                    Some(status) => row.by_status.get(status)?,
                    None => &row.latency,
                };
                (times.count > 0).then(|| OF_ENDPOINTS[*percentile].1(times))
            }
        }
    }
}

fn without_spaces(text: &str) -> String {
    text.split_whitespace().collect()
}

/// A condition under which a run fails.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    text: String,
    metric: Metric,
    comparison: Comparison,
    value: f64,
}

/// Why a text is not a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidThreshold {
    /// No comparison of a known figure.
    #[error(
        "expected a condition such as p99>5ms, errors>0.1% or lost>0, with one of {}",
        METRICS.map(|(name, ..)| name).join(", ")
    )]
    Condition,
    /// A value that the figure cannot be compared with.
    #[error("{figure} is compared with {expected}, not {found:?}")]
    Value {
        /// The figure's name.
        figure: String,
        /// What it is compared with, with an example.
        expected: &'static str,
        /// The value as given.
        found: String,
    },
}

impl FromStr for Threshold {
    type Err = InvalidThreshold;

    fn from_str(text: &str) -> Result<Self, InvalidThreshold> {
        let compact = without_spaces(text);
        let at = compact.find(['>', '<']).ok_or(InvalidThreshold::Condition)?;
        let (name, rest) = compact.split_at(at);
        let metric = Metric::parse(name).ok_or(InvalidThreshold::Condition)?;
        let (comparison, value) = match (rest.strip_prefix(">="), rest.strip_prefix("<=")) {
            (Some(value), _) => (Comparison::AtLeast, value),
            (_, Some(value)) => (Comparison::AtMost, value),
            _ if rest.starts_with('>') => (Comparison::Above, &rest[1..]),
            _ => (Comparison::Below, &rest[1..]),
        };
        let unit = metric.unit();
        let value = parse_value(value, unit).ok_or_else(|| {
            let expected = match unit {
                Unit::Time => "a time with its unit, such as 5ms, 800us or 2s",
                Unit::Share => "a share, such as 0.1% or 0.001",
                Unit::Count => "a number",
                Unit::Bytes => "a size with its unit, such as 120mb",
            };
            let (figure, found) = (name.to_owned(), value.to_owned());
            InvalidThreshold::Value { figure, expected, found }
        })?;
        Ok(Self { text: compact, metric, comparison, value })
    }
}

fn parse_value(text: &str, unit: Unit) -> Option<f64> {
    let digits = text.find(|c: char| c.is_ascii_alphabetic() || c == '%').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor = match (unit, suffix.to_ascii_lowercase().as_str()) {
        (Unit::Time, "us") => 1.0,
        (Unit::Time, "ms") => 1e3,
        (Unit::Time, "s") => 1e6,
        (Unit::Share, "%") => 0.01,
        (Unit::Share | Unit::Count, "") => 1.0,
        (Unit::Bytes, "kb") => 1024.0,
        (Unit::Bytes, "mb") => 1_048_576.0,
        (Unit::Bytes, "gb") => 1_073_741_824.0,
        _ => return None,
    };
    number.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number * factor)
}

impl fmt::Display for Threshold {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Threshold {
    /// The name of the endpoint, without spaces, that the condition is about, if it is about one.
    pub fn endpoint(&self) -> Option<&str> {
        match &self.metric {
            Metric::OfRun(_) => None,
            Metric::OfEndpoint { endpoint, .. } => Some(endpoint),
        }
    }

    /// Whether one of `names` is the endpoint that the condition is about.
    pub fn is_about_one_of<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        self.endpoint().is_none_or(|endpoint| names.any(|name| without_spaces(name) == endpoint))
    }

    /// Compares the condition with the figures. A figure that was not measured fails the run: it is not
    /// known to be within the threshold.
    pub fn judge(&self, figures: &Figures) -> ThresholdRow {
        let unit = self.metric.unit();
        let measured = self.metric.measure(figures);
        let failed = measured.is_none_or(|value| match self.comparison {
            Comparison::Above => value > self.value,
            Comparison::AtLeast => value >= self.value,
            Comparison::Below => value < self.value,
            Comparison::AtMost => value <= self.value,
        });
        let measured = measured.map(|value| match unit {
            Unit::Time => format!("{:.3} ms", value / 1e3),
            Unit::Share => format!("{:.4} %", value * 100.0),
            Unit::Count => format!("{value:.0}"),
            Unit::Bytes => format!("{:.1} MB", value / 1_048_576.0),
        });
        ThresholdRow { threshold: self.text.clone(), measured, failed }
    }
}

/// The text of `--help` that lists what a condition can compare, one per line.
pub fn help() -> String {
    let mut lines = String::from("What --fail-if can compare (>, >=, <, <=):\n");
    for (name, _, meaning, _) in METRICS {
        lines.push_str(&format!("  {name:<18} {meaning}\n"));
    }
    lines.push_str("Latencies of an endpoint: click.p99, and of one status of it: click.302.p99\n");
    lines
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::report::EndpointRow;

    pub(crate) fn figures() -> Figures {
        Figures {
            due: 1_000,
            sent: 1_000,
            follow_ups: 0,
            repeats: 0,
            differing_repeats: 0,
            scheduled: 1_000,
            answered: 998,
            errors: 2,
            error_share: 0.002,
            errors_by_kind: BTreeMap::from([("timeout".to_owned(), 2)]),
            scheduled_rate: 100.0,
            achieved_rate: 99.9,
            achieved_share: 0.999,
            latency: Percentiles { count: 998, p99_us: 4_200.0, ..Percentiles::default() },
            latency_from_sending: Percentiles::default(),
            unsent_latencies: 0,
            endpoints: vec![EndpointRow {
                name: "my click".to_owned(),
                latency: Percentiles { count: 10, p99_9_us: 7_000.0, ..Percentiles::default() },
                by_status: BTreeMap::from([(
                    "302".to_owned(),
                    Percentiles { count: 5, p99_us: 3_000.0, ..Percentiles::default() },
                )]),
            }],
            lag: Percentiles { count: 1_000, p99_us: 60.0, ..Percentiles::default() },
            truth: None,
            core_data: None,
            tracker: None,
            harness_cpu_per_request_us: 6.0,
        }
    }

    fn failed(text: &str) -> bool {
        text.parse::<Threshold>().unwrap().judge(&figures()).failed
    }

    #[test]
    fn compares_values_in_their_units() {
        assert!(failed("p99>4ms") && failed("p99>=4.2ms") && failed("p99 > 4199us"));
        assert!(!failed("p99>4.2ms") && !failed("p99>1s") && failed("p99<1s"));
        assert!(failed("errors>0.1%") && !failed("errors>0.2%") && failed("errors>0.001"));
        assert!(failed("rate<100") && !failed("rate<=99"));
        assert!(!failed("overflow>0"));
    }

    #[test]
    fn fails_if_the_figure_was_not_measured() {
        let row = "lost>0".parse::<Threshold>().unwrap().judge(&figures());
        assert!(row.failed && row.measured.is_none());
    }

    #[test]
    fn compares_the_latencies_of_an_endpoint_and_of_a_status() {
        assert!(failed("my click.p99.9>6ms") && !failed("my click.p99.9>8ms"));
        assert!(failed("my click.302.p99>2ms") && !failed("my click.302.p99>3ms"));
        assert!(failed("my click.404.p99>1s") && failed("view.p99>1s"), "not measured");
        let threshold: Threshold = "my click.302.p99>2ms".parse().unwrap();
        assert!(threshold.is_about_one_of(["a", "my click"].into_iter()));
        assert!(!threshold.is_about_one_of(["a", "click"].into_iter()));
    }

    #[test]
    fn fails_if_an_accepted_event_cannot_be_followed() {
        let truth = Truth {
            accepted: 1_598,
            stored: 0,
            lost: 0,
            mislinked: 0,
            altered: 0,
            doubled: 0,
            stored_without_answer: 0,
            open: 0,
            unidentified: 1_598,
            answer_to_row: Percentiles::default(),
            settled_seconds: 0.0,
            counted_rows_dropped: false,
        };
        let judge = |text: &str, truth: &Truth| {
            let figures = Figures { truth: Some(truth.clone()), ..figures() };
            text.parse::<Threshold>().unwrap().judge(&figures)
        };
        for text in ["lost>0", "doubled>0"] {
            let row = judge(text, &truth);
            assert!(row.failed && row.measured.is_none(), "{text}");
            assert!(!judge(text, &Truth { unidentified: 0, ..truth.clone() }).failed, "{text}");
        }
        assert!(judge("unfollowed>0", &truth).failed);
    }

    #[test]
    fn explains_an_invalid_condition() {
        for text in ["", "p99", "p98>5ms", ">5ms", "p99=5ms"] {
            let error = text.parse::<Threshold>().unwrap_err().to_string();
            assert!(error.contains("such as p99>5ms"), "{error}");
        }
        for (text, expected) in [
            ("p99>5", "p99 is compared with a time with its unit"),
            ("lost>0%", "lost is compared with a number"),
            ("errors>5ms", "errors is compared with a share"),
            ("rss>1", "rss is compared with a size"),
            ("p99>nanms", "p99 is compared with a time"),
        ] {
            let error = text.parse::<Threshold>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
