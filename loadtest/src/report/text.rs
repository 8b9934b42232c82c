//! The report as a few lines for the terminal, and the formats of its figures.

use std::fmt::Write;

use super::{DEVELOPMENT, Percentiles, Report, Truth};

/// Stands for a figure that was not measured.
const NOT_MEASURED: &str = "–";

/// Formats a time in microseconds with a unit that suits it.
pub(crate) fn time(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 9_995.0 => format!("{:.2} ms", us / 1e3),
        us if us < 1e6 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// Formats a number of bytes as KB, MB or GB (powers of 1,024).
pub(crate) fn bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes.abs() < 1_048_576.0 => format!("{:.0} KB", bytes / 1024.0),
        bytes if bytes.abs() < 1_073_741_824.0 => format!("{:.1} MB", bytes / 1_048_576.0),
        bytes => format!("{:.2} GB", bytes / 1_073_741_824.0),
    }
}

/// Formats a whole number with commas between thousands.
pub(crate) fn count(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0.0 { format!("-{text}") } else { text }
}

/// Formats a percentile; a dash if nothing was measured.
pub(super) fn measured(times: &Percentiles, us: f64) -> String {
    if times.count == 0 { NOT_MEASURED.to_owned() } else { time(us) }
}

fn percentiles(times: &Percentiles) -> String {
    if times.count == 0 {
        return NOT_MEASURED.to_owned();
    }
    format!(
        "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
        time(times.p50_us),
        time(times.p90_us),
        time(times.p99_us),
        time(times.p99_9_us),
        time(times.max_us)
    )
}

/// What became of the accepted events. If some have no id, how many were lost is not known.
pub(super) fn events(truth: &Truth) -> String {
    let lost = match (truth.unidentified, truth.lost) {
        (0, lost) => format!("{} lost", count(lost as f64)),
        (unknown, 0) => format!("lost not measured: {} have no id", count(unknown as f64)),
        (unknown, lost) => {
            format!(
                "at least {} lost, and {} have no id",
                count(lost as f64),
                count(unknown as f64)
            )
        }
    };
    let unless_none = |number: u64, what: &str| match number {
        0 => String::new(),
        number => format!(", {} {what}", count(number as f64)),
    };
    let mislinked = unless_none(truth.mislinked, "wrongly linked");
    let altered = unless_none(truth.altered, "altered");
    format!(
        "{} accepted, {} stored, {lost}, {} doubled{mislinked}{altered}",
        count(truth.accepted as f64),
        count(truth.stored as f64),
        count(truth.doubled as f64)
    )
}

/// Summarizes the report in a few lines.
pub fn summary(report: &Report) -> String {
    let figures = &report.figures;
    let mut text = String::new();
    // Writing into a String cannot fail.
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<18} {value}");
    };
    line(
        "requests",
        format!(
            "{} sent in {:.1} s; {}/s of {}/s scheduled ({:.2} %)",
            count(figures.sent as f64),
            report.run.seconds,
            count(figures.achieved_rate),
            count(figures.scheduled_rate),
            figures.achieved_share * 100.0
        ),
    );
    if figures.follow_ups > 0 {
        line(
            "follow-ups",
            format!(
                "{} of them; {} responses to repeats, {} with another id",
                count(figures.follow_ups as f64),
                count(figures.repeats as f64),
                count(figures.differing_repeats as f64)
            ),
        );
    }
    line("latency", percentiles(&figures.latency));
    if figures.endpoints.len() > 1 {
        for endpoint in &figures.endpoints {
            line(&format!("– {}", endpoint.name), percentiles(&endpoint.latency));
        }
    }
    line("from sending", percentiles(&figures.latency_from_sending));
    line("schedule lag", percentiles(&figures.lag));
    let kinds: Vec<String> =
        figures.errors_by_kind.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let kinds = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) };
    line("errors", format!("{} ({:.3} %){kinds}", figures.errors, figures.error_share * 100.0));
    if let Some(truth) = &figures.truth {
        line("events", events(truth));
        let row = &truth.answer_to_row;
        line(
            "response to row",
            format!(
                "p50 {}  p99 {}  max {}; {} {:.1} s after the last response",
                measured(row, row.p50_us),
                measured(row, row.p99_us),
                measured(row, row.max_us),
                if truth.lost == 0 { "all there" } else { "not all there" },
                truth.settled_seconds
            ),
        );
    }
    if let Some(core_data) = &figures.core_data {
        let times = &core_data.update_to_answer;
        line(
            "update to response",
            format!(
                "p50 {}  p99 {}; {} updates, {} followed, {} stale responses, {} never seen",
                measured(times, times.p50_us),
                measured(times, times.p99_us),
                core_data.updates,
                core_data.followed,
                core_data.stale_answers,
                core_data.never_answered
            ),
        );
    }
    if let Some(tracker) = &figures.tracker {
        line(
            "tracker",
            format!(
                "{:.1} µs CPU per request; RssAnon {} → {}; {} → {} file handles; journal up to {}",
                tracker.cpu_per_request_us,
                bytes(tracker.rss_anon_first_bytes as f64),
                bytes(tracker.rss_anon_last_bytes as f64),
                tracker.open_files_first,
                tracker.open_files_last,
                bytes(tracker.journal_max_bytes as f64)
            ),
        );
    }
    line("harness CPU", format!("{:.1} µs per request", figures.harness_cpu_per_request_us));
    if report.run.build == DEVELOPMENT {
        line("build", "development: figures to compare come from `make loadtest`".to_owned());
    }
    for row in &report.thresholds {
        let measured = row.measured.as_deref().unwrap_or("not measured");
        let outcome = if row.failed { "FAILED" } else { "ok" };
        line(outcome, format!("--fail-if '{}': {measured}", row.threshold));
    }
    let verdict = &report.verdict;
    line(
        "harness",
        if verdict.valid {
            "faithful: the figures are valid"
        } else {
            "INVALID: these figures are not the target's"
        }
        .to_owned(),
    );
    for reason in &verdict.reasons {
        line("", reason.clone());
    }
    line(
        "target",
        if verdict.as_expected {
            "did what the scenario expects"
        } else {
            "did NOT do what the scenario expects"
        }
        .to_owned(),
    );
    for finding in &verdict.findings {
        line("", finding.clone());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_figures_with_units() {
        assert_eq!(time(32.4), "32 µs");
        assert_eq!(time(4_250.0), "4.25 ms");
        assert_eq!(time(99_950.0), "100.0 ms");
        assert_eq!(time(1_500_000.0), "1.50 s");
        assert_eq!(bytes(2_048.0), "2 KB");
        assert_eq!(bytes(12_582_912.0), "12.0 MB");
        assert_eq!(count(1_234_567.0), "1,234,567");
        assert_eq!(count(-999.0), "-999");
    }
}
