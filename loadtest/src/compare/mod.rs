//! Compares two runs side by side, and says which differences are more than noise. Pure.

use std::fmt::Write;

use crate::recorder::Times;
use crate::report::{Figures, Report, SliceRow, bytes, time};

mod condition;
mod noise;

pub use condition::{Condition, InvalidCondition};
use noise::{Blocks, Judgement, judge_percentiles, judge_values, mean, median};

type OfRun = fn(&Figures) -> Option<f64>;
type OfSlice = fn(&SliceRow) -> Option<f64>;

/// How the noise of a figure is known.
#[derive(Clone, Copy)]
enum Noise {
    /// It is this percentile of the latencies, of which each slice has a histogram.
    Percentile(f64),
    /// Each slice has a value; the run's figure is their median.
    Median(OfSlice),
    /// Each slice has a value; the run's figure is their mean.
    Mean(OfSlice),
    /// A run has one value.
    Unknown,
}

/// A figure that is compared: its names in the table and in conditions, how it is written, its value.
struct Figure {
    name: &'static str,
    key: &'static str,
    format: fn(f64) -> String,
    whole: OfRun,
    noise: Noise,
}

const fn figure(
    name: &'static str,
    key: &'static str,
    format: fn(f64) -> String,
    whole: OfRun,
    noise: Noise,
) -> Figure {
    Figure { name, key, format, whole, noise }
}

const FIGURES: [Figure; 15] = [
    figure("latency p50", "p50", time, |f| latency(f, f.latency.p50_us), Noise::Percentile(50.0)),
    figure("latency p90", "p90", time, |f| latency(f, f.latency.p90_us), Noise::Percentile(90.0)),
    figure("latency p95", "p95", time, |f| latency(f, f.latency.p95_us), Noise::Percentile(95.0)),
    figure("latency p99", "p99", time, |f| latency(f, f.latency.p99_us), Noise::Percentile(99.0)),
    figure(
        "latency p99.9",
        "p99.9",
        time,
        |f| latency(f, f.latency.p99_9_us),
        Noise::Percentile(99.9),
    ),
    figure(
        "latency p99.99",
        "p99.99",
        time,
        |f| latency(f, f.latency.p99_99_us),
        Noise::Percentile(99.99),
    ),
    figure("latency max", "max", time, |f| latency(f, f.latency.max_us), Noise::Unknown),
    figure(
        "schedule lag p99",
        "lag.p99",
        time,
        |f| Some(f.lag.p99_us),
        Noise::Median(|s| positive(s.lag_p99_us)),
    ),
    figure(
        "requests/s sent",
        "rate",
        plain,
        |f| Some(f.achieved_rate),
        Noise::Mean(|s| Some(s.sent_rate)),
    ),
    figure(
        "errors",
        "errors",
        share,
        |f| Some(f.error_share),
        Noise::Mean(|s| Some(s.errors.values().sum::<u64>() as f64)),
    ),
    figure(
        "CPU per request",
        "cpu",
        time,
        |f| Some(f.tracker.as_ref()?.cpu_per_request_us),
        Noise::Median(cpu_per_request),
    ),
    figure(
        "RssAnon",
        "rss",
        bytes,
        |f| Some(f.tracker.as_ref()?.rss_anon_max_bytes as f64),
        Noise::Median(|s| s.rss_anon_bytes.map(|value| value as f64)),
    ),
    figure(
        "response to row p99",
        "row.p99",
        time,
        |f| Some(f.truth.as_ref()?.answer_to_row.p99_us),
        Noise::Median(|s| s.row_p99_ms.map(|ms| ms * 1e3)),
    ),
    figure(
        "update to response p50",
        "update.p50",
        time,
        |f| Some(f.core_data.as_ref()?.update_to_answer.p50_us),
        Noise::Unknown,
    ),
    figure("events lost", "lost", plain, |f| Some(f.truth.as_ref()?.lost as f64), Noise::Unknown),
];

fn latency(figures: &Figures, us: f64) -> Option<f64> {
    (figures.latency.count > 0).then_some(us)
}

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

/// The comparison of two runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// A table in plain text, one figure per line.
    pub text: String,
    /// The conditions that were crossed, or whose figure one of the runs did not measure.
    pub crossed: Vec<String>,
    /// Whether both runs are valid: else their figures are not those of the targets.
    pub both_valid: bool,
}

/// A figure of both runs.
struct Line {
    from: f64,
    to: f64,
    judgement: Judgement,
    spread: String,
}

/// Compares two reports, and the changes with `conditions`.
pub fn compare(a: &Report, b: &Report, conditions: &[Condition]) -> Comparison {
    let lines = lines(a, b);
    let crossed = conditions.iter().filter(|condition| match &lines[condition.figure] {
        // A change that the noise explains is none.
        Some(line) => {
            line.judgement != Judgement::WithinNoise && condition.is_crossed(line.from, line.to)
        }
        None => true,
    });
    let crossed: Vec<String> = crossed.map(|condition| condition.text.clone()).collect();
    let both_valid = a.verdict.valid && b.verdict.valid;
    Comparison { text: table(a, b, &lines, conditions, &crossed), crossed, both_valid }
}

fn lines(a: &Report, b: &Report) -> Vec<Option<Line>> {
    let percents: Vec<f64> = FIGURES
        .iter()
        .filter_map(|figure| match figure.noise {
            Noise::Percentile(percent) => Some(percent),
            _ => None,
        })
        .collect();
    let mut judged = judge_percentiles(&blocks(a), &blocks(b), &percents).into_iter();
    let line = |figure: &Figure| {
        let (judgement, spread) = match figure.noise {
            Noise::Percentile(_) => (judged.next().unwrap_or(Judgement::Unknown), String::new()),
            Noise::Median(of_slice) => judge_slices(a, b, of_slice, median, figure.format),
            Noise::Mean(of_slice) => judge_slices(a, b, of_slice, mean, figure.format),
            Noise::Unknown => (Judgement::Unknown, String::new()),
        };
        let (from, to) = ((figure.whole)(&a.figures)?, (figure.whole)(&b.figures)?);
        Some(Line { from, to, judgement, spread })
    };
    FIGURES.iter().map(line).collect()
}

fn blocks(report: &Report) -> Blocks {
    let whole = report.slices.iter().filter(|slice| slice.whole);
    Blocks::new(&whole.map(SliceRow::latencies).collect::<Vec<Times>>())
}

fn judge_slices(
    a: &Report,
    b: &Report,
    of_slice: OfSlice,
    statistic: fn(&mut [f64]) -> f64,
    format: fn(f64) -> String,
) -> (Judgement, String) {
    let values = |report: &Report| -> Vec<f64> {
        report.slices.iter().filter(|slice| slice.whole).filter_map(of_slice).collect()
    };
    let (of_a, of_b) = (values(a), values(b));
    let spread = format!("{};  {}", spread(&of_a, format), spread(&of_b, format));
    (judge_values(&of_a, &of_b, statistic), spread)
}

/// Lowest, median and highest value.
fn spread(values: &[f64], format: fn(f64) -> String) -> String {
    if values.len() < noise::MIN_BLOCKS {
        return "too short".to_owned();
    }
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(0.0, f64::max);
    format!("{} – {} – {}", format(lowest), format(median(&mut values.to_vec())), format(highest))
}

fn table(
    a: &Report,
    b: &Report,
    lines: &[Option<Line>],
    conditions: &[Condition],
    crossed: &[String],
) -> String {
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
    for (figure, line) in FIGURES.iter().zip(lines) {
        let Some(line) = line else { continue };
        let change = if line.from == 0.0 {
            if line.to == 0.0 { "=".to_owned() } else { "new".to_owned() }
        } else {
            format!("{:+.1} %", (line.to / line.from - 1.0) * 100.0)
        };
        let row = format!(
            "{:<22} {:>11} {:>11} {change:>9}   {:<12} {}",
            figure.name,
            (figure.format)(line.from),
            (figure.format)(line.to),
            line.judgement.text(),
            line.spread
        );
        let _ = writeln!(text, "{}", row.trim_end());
    }
    text.push_str(EXPLANATION);
    for condition in conditions {
        let outcome = if crossed.contains(&condition.text) { "FAILED" } else { "ok" };
        let _ = writeln!(text, "{outcome:<6} --fail-if '{}'", condition.text);
    }
    text
}

const EXPLANATION: &str = "
differs       the interval of the resampled differences (95 %) is on one side of zero
unclear       it is not, but one run's figure is outside all that the other's slices show: it rests on a few slices,
              such as one stall; repeat both runs
within noise  the noise within the runs explains the change
too short     less than five slices; too few: less than ten requests above the percentile
(nothing)     a run has one value
Runs of the same build differ by more than the noise within a run, so repeat what matters.
";

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

    #[test]
    fn shows_lowest_median_and_highest_value() {
        assert_eq!(spread(&[5.0, 1.0, 3.0, 4.0, 2.0], plain), "1 – 3 – 5");
        assert_eq!(spread(&[5.0], plain), "too short");
    }
}
