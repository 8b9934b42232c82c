//! Compares two runs side by side, and says which differences are more than noise. Pure.
//!
//! The noise of a run shows in its slices: the lowest, the median and the highest of their values. A
//! block bootstrap separates a difference from that noise: it resamples the slices of both runs many
//! times, in blocks of neighbours because neighbours resemble each other, and takes the difference of
//! the medians each time. If 95 % of these differences lie on one side of zero, the runs differ. This
//! covers the noise within a run; two runs of the same build differ by more, so repeat what matters.

use std::fmt::Write;

use crate::report::{Figures, Report, SliceRow, bytes, time};

const RESAMPLES: usize = 2_000;
/// Neighbouring slices that are resampled together.
const BLOCK: usize = 5;
/// With fewer slices than this, the noise is unknown.
const MIN_SLICES: usize = 5;

type OfRun = fn(&Figures) -> Option<f64>;
type OfSlice = fn(&SliceRow) -> Option<f64>;

/// A figure that is compared: its name, how it is written, its value for the run and for a slice.
struct Figure {
    name: &'static str,
    format: fn(f64) -> String,
    whole: OfRun,
    slice: Option<OfSlice>,
}

const FIGURES: [Figure; 13] = [
    Figure {
        name: "latency p50",
        format: time,
        whole: |f| Some(f.latency.p50_us),
        slice: Some(|s| positive(s.p50_us)),
    },
    Figure { name: "latency p90", format: time, whole: |f| Some(f.latency.p90_us), slice: None },
    Figure {
        name: "latency p99",
        format: time,
        whole: |f| Some(f.latency.p99_us),
        slice: Some(|s| positive(s.p99_us)),
    },
    Figure {
        name: "latency p99.9",
        format: time,
        whole: |f| Some(f.latency.p99_9_us),
        slice: None,
    },
    Figure {
        name: "latency max",
        format: time,
        whole: |f| Some(f.latency.max_us),
        slice: Some(|s| positive(s.max_us)),
    },
    Figure {
        name: "schedule lag p99",
        format: time,
        whole: |f| Some(f.lag.p99_us),
        slice: Some(|s| positive(s.lag_p99_us)),
    },
    Figure {
        name: "requests/s",
        format: plain,
        whole: |f| Some(f.achieved_rate),
        slice: Some(|s| Some(s.sent_rate)),
    },
    Figure { name: "errors", format: share, whole: |f| Some(f.error_share), slice: None },
    Figure {
        name: "CPU per request",
        format: time,
        whole: |f| Some(f.tracker.as_ref()?.cpu_per_request_us),
        slice: Some(cpu_per_request),
    },
    Figure {
        name: "RssAnon",
        format: bytes,
        whole: |f| Some(f.tracker.as_ref()?.rss_anon_max_bytes as f64),
        slice: Some(|s| s.rss_anon_bytes.map(|value| value as f64)),
    },
    Figure {
        name: "response to row p99",
        format: time,
        whole: |f| Some(f.truth.as_ref()?.answer_to_row.p99_us),
        slice: Some(|s| s.row_p99_ms.map(|ms| ms * 1e3)),
    },
    Figure {
        name: "update to response p50",
        format: time,
        whole: |f| Some(f.core_data.as_ref()?.update_to_answer.p50_us),
        slice: None,
    },
    Figure {
        name: "events lost",
        format: plain,
        whole: |f| Some(f.truth.as_ref()?.lost as f64),
        slice: None,
    },
];

fn positive(value: f64) -> Option<f64> {
    (value > 0.0).then_some(value)
}

fn cpu_per_request(slice: &SliceRow) -> Option<f64> {
    let cores = slice.tracker_cpu?;
    (slice.sent_rate > 0.0).then(|| cores * 1e6 / slice.sent_rate)
}

fn plain(value: f64) -> String {
    format!("{value:.0}")
}

fn share(value: f64) -> String {
    format!("{:.3} %", value * 100.0)
}

/// A figure's values in the slices of a run.
#[derive(Debug, Clone, PartialEq)]
struct Noise {
    values: Vec<f64>,
}

impl Noise {
    fn of(report: &Report, value: OfSlice) -> Self {
        let whole = report.slices.iter().filter(|slice| slice.whole);
        Self { values: whole.filter_map(value).collect() }
    }

    fn spread(&self, format: fn(f64) -> String) -> String {
        if self.values.len() < MIN_SLICES {
            return "too short".to_owned();
        }
        let lowest = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = self.values.iter().copied().fold(0.0, f64::max);
        let median = median(&mut self.values.clone());
        format!("{} – {} – {}", format(lowest), format(median), format(highest))
    }

    fn resampled_median(&self, random: &mut fastrand::Rng) -> f64 {
        let mut drawn = Vec::with_capacity(self.values.len() + BLOCK);
        while drawn.len() < self.values.len() {
            let from = random.usize(..=self.values.len().saturating_sub(BLOCK));
            drawn.extend(self.values.iter().skip(from).take(BLOCK));
        }
        median(&mut drawn)
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The middle 95 % of the differences of the medians, B minus A; `None` if a run is too short.
fn interval(a: &Noise, b: &Noise) -> Option<(f64, f64)> {
    if a.values.len() < MIN_SLICES || b.values.len() < MIN_SLICES {
        return None;
    }
    // A fixed seed: the same reports give the same result.
    let mut random = fastrand::Rng::with_seed(1);
    let mut differences: Vec<f64> = (0..RESAMPLES)
        .map(|_| b.resampled_median(&mut random) - a.resampled_median(&mut random))
        .collect();
    differences.sort_unstable_by(f64::total_cmp);
    Some((differences[RESAMPLES / 40], differences[RESAMPLES - 1 - RESAMPLES / 40]))
}

/// Compares two reports as a table in plain text, one figure per line.
pub fn compare(a: &Report, b: &Report) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    for (name, report) in [("A", a), ("B", b)] {
        let validity = if report.verdict.valid { "valid" } else { "INVALID" };
        let _ = writeln!(
            text,
            "{name}: {} of {}, run {}, {} cores, {validity}",
            report.scenario.name, report.run.started_at, report.run.id, report.machine.cores
        );
    }
    for warning in warnings(a, b) {
        let _ = writeln!(text, "Warning: {warning}");
    }
    let _ = writeln!(
        text,
        "\n{:<22} {:>11} {:>11} {:>9}   {:<12} slices of A: min – median – max; of B",
        "", "A", "B", "change", "verdict"
    );
    for figure in FIGURES {
        let (Some(first), Some(second)) = ((figure.whole)(&a.figures), (figure.whole)(&b.figures))
        else {
            continue;
        };
        let change = if first == 0.0 {
            if second == 0.0 { "=".to_owned() } else { "new".to_owned() }
        } else {
            format!("{:+.1} %", (second / first - 1.0) * 100.0)
        };
        let (verdict, spread) = match figure.slice {
            Some(value) => {
                let (noise_a, noise_b) = (Noise::of(a, value), Noise::of(b, value));
                let spread = format!(
                    "{};  {}",
                    noise_a.spread(figure.format),
                    noise_b.spread(figure.format)
                );
                (judge(interval(&noise_a, &noise_b)), spread)
            }
            None => ("", String::new()),
        };
        let _ = writeln!(
            text,
            "{:<22} {:>11} {:>11} {change:>9}   {verdict:<12} {spread}",
            figure.name,
            (figure.format)(first),
            (figure.format)(second)
        );
    }
    text.push_str(
        "\n\"differs\": 95 % of the resampled differences of the slices' medians lie on one side of zero. This covers the\nnoise within a run; runs of the same build differ by more, so repeat what matters. No verdict: a run has one value.\n",
    );
    text
}

fn judge(interval: Option<(f64, f64)>) -> &'static str {
    match interval {
        None => "too short",
        Some((low, high)) if low > 0.0 || high < 0.0 => "differs",
        Some(_) => "within noise",
    }
}

/// Reasons why two runs are hard to compare.
fn warnings(a: &Report, b: &Report) -> Vec<&'static str> {
    let differ = [
        (
            a.scenario.toml != b.scenario.toml || a.scenario.overrides != b.scenario.overrides,
            "the scenarios differ",
        ),
        (a.machine != b.machine, "the machines differ"),
        (
            !a.verdict.valid || !b.verdict.valid,
            "a run is invalid: its figures describe the harness, not the server",
        ),
        (a.run.interrupted || b.run.interrupted, "a run was interrupted"),
    ];
    differ.into_iter().filter(|(holds, _)| *holds).map(|(_, warning)| warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(middle: f64) -> Noise {
        let mut random = fastrand::Rng::with_seed(middle.to_bits());
        Noise { values: (0..60).map(|_| middle + random.f64() * 10.0).collect() }
    }

    #[test]
    fn reports_a_difference_larger_than_the_noise() {
        assert_eq!(judge(interval(&noise(100.0), &noise(110.0))), "differs");
        assert_eq!(judge(interval(&noise(100.0), &noise(90.0))), "differs");
    }

    #[test]
    fn ignores_a_difference_within_the_noise() {
        assert_eq!(judge(interval(&noise(100.0), &noise(100.1))), "within noise");
        assert_eq!(judge(interval(&noise(5.0), &Noise { values: vec![5.0] })), "too short");
    }

    #[test]
    fn shows_lowest_median_and_highest_value() {
        let noise = Noise { values: vec![5.0, 1.0, 3.0, 4.0, 2.0] };
        assert_eq!(noise.spread(plain), "1 – 3 – 5");
    }
}
