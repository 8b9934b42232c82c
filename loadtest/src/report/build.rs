//! Builds the report from a run's measurements.

use std::collections::BTreeMap;
use std::time::Duration;

use super::histogram;
use super::{
    CoreDataFigures, DEVELOPMENT, EndpointRow, Figures, Machine, PercentileRow, Percentiles,
    Report, RequestRow, Run, ScenarioInfo, SliceRow, TrackerFigures, Truth, VERSION,
};
use crate::core_data::Changes;
use crate::recorder::{Failure, Slice, TIMED_OUT, Times, Totals, percentile, slice_histogram};
use crate::request::Kind;
use crate::sample::Sample;
use crate::schedule::Schedule;
use crate::threshold::Threshold;
use crate::verdict::{self, Evidence};
use crate::verify::{Delays, Findings};

/// Points of a distribution per factor of ten in 1 / (1 - share).
const POINTS_PER_DECADE: i32 = 10;
const DECADES: i32 = 6;
/// Stands for the status of a response that did not come.
pub(super) const NO_RESPONSE: &str = "none";

/// The settings and measurements of a run.
#[derive(Debug)]
pub struct Material {
    /// The run's id, times and settings.
    pub run: Run,
    /// The machine that the harness ran on.
    pub machine: Machine,
    /// The scenario that was sent.
    pub scenario: ScenarioInfo,
    /// The intended times of the requests.
    pub schedule: Schedule,
    /// Length of a slice.
    pub slice: Duration,
    /// The kinds of request.
    pub kinds: Vec<Kind>,
    /// What the workers counted in the whole run.
    pub totals: Totals,
    /// What the workers counted in each slice.
    pub slices: Vec<Slice>,
    /// What became of the events; `None` if the table was not read.
    pub findings: Option<Findings>,
    /// Whether counted rows were deleted.
    pub counted_rows_dropped: bool,
    /// Changes of core data.
    pub changes: Changes,
    /// Samples of the tracker and the machine.
    pub samples: Vec<Sample>,
    /// The lag (99th percentile) that is always accepted.
    pub accepted_lag: Duration,
    /// Thresholds to compare the figures with.
    pub thresholds: Vec<Threshold>,
}

/// Computes the figures, the verdict and the outcome of the thresholds.
pub fn build(material: Material) -> Report {
    let figures = figures(&material);
    let verdict = verdict::judge(&Evidence {
        figures: &figures,
        has_good_response: good_responses(&material) > 0,
        due_in_time: share(due_in_time(&material), figures.scheduled),
        max_in_flight: material.run.max_in_flight,
        own_limit: material.totals.own_limit,
        accepted_lag: material.accepted_lag,
        interrupted: material.run.interrupted,
        is_development: material.run.build == DEVELOPMENT,
    });
    let thresholds =
        material.thresholds.iter().map(|threshold| threshold.judge(&figures)).collect();
    Report {
        version: VERSION,
        requests: requests(&material),
        latency_histogram: histogram::encode(&material.totals.latency),
        lag_histogram: histogram::encode(&material.totals.lag),
        latency_percentiles: distribution(&material.totals.latency),
        lag_percentiles: distribution(&material.totals.lag),
        slices: slices(&material),
        run: material.run,
        machine: material.machine,
        scenario: material.scenario,
        figures,
        verdict,
        thresholds,
    }
}

fn figures(material: &Material) -> Figures {
    let totals = &material.totals;
    let errors = totals.all_failures();
    let (scheduled, seconds) = (scheduled(material), seconds(material));
    let sent_in_time = in_time(material, |slice| slice.sent);
    Figures {
        due: totals.due,
        sent: totals.sent,
        follow_ups: totals.follow_ups,
        repeats: totals.repeats,
        differing_repeats: totals.differing_repeats,
        scheduled,
        answered: totals.statuses().map(|(.., count)| count).sum::<u64>()
            - totals.failures(Failure::Status),
        errors,
        error_share: share(errors, totals.due),
        errors_by_kind: by_kind(|failure| totals.failures(failure)),
        scheduled_rate: scheduled as f64 / seconds,
        achieved_rate: sent_in_time as f64 / seconds,
        achieved_share: share(sent_in_time, scheduled),
        latency: percentiles(&totals.latency, 1e-3),
        latency_from_sending: percentiles(&totals.from_sending, 1e-3),
        unsent_latencies: totals.unsent_latencies,
        endpoints: endpoints(material),
        lag: percentiles(&totals.lag, 1e-3),
        truth: material.findings.as_ref().map(|findings| truth(material, findings)),
        core_data: core_data(&material.changes),
        tracker: tracker(&material.samples, totals.due),
        harness_cpu_per_request_us: cpu_used(&material.samples, |sample| sample.harness_cpu)
            .map_or(0.0, |cpu| cpu * 1e6 / totals.due.max(1) as f64),
    }
}

/// The number of scheduled requests. That of an interrupted run covers only the part that ran.
fn scheduled(material: &Material) -> u64 {
    if material.run.interrupted {
        material.totals.due - material.totals.follow_ups
    } else {
        material.schedule.times().count() as u64
    }
}

/// Seconds of the schedule; of an interrupted run, of the part that ran.
fn seconds(material: &Material) -> f64 {
    let seconds = material.run.scheduled_seconds.max(f64::MIN_POSITIVE);
    if material.run.interrupted {
        material.run.seconds.min(seconds).max(f64::MIN_POSITIVE)
    } else {
        seconds
    }
}

/// Sum over the slices that began within the schedule.
fn in_time(material: &Material, count: fn(&Slice) -> u64) -> u64 {
    let seconds = seconds(material);
    let slices = material.slices.iter();
    slices
        .filter(|slice| slice.index as f64 * material.slice.as_secs_f64() < seconds)
        .map(count)
        .sum()
}

fn due_in_time(material: &Material) -> u64 {
    in_time(material, |slice| slice.due)
}

/// Latencies by endpoint, and by status of the endpoint.
fn endpoints(material: &Material) -> Vec<EndpointRow> {
    let mut by_endpoint: Vec<(&str, BTreeMap<u16, Times>)> = Vec::new();
    for kind in &material.kinds {
        if by_endpoint.last().is_none_or(|(name, _)| *name != kind.endpoint) {
            by_endpoint.push((kind.endpoint.as_str(), BTreeMap::new()));
        }
    }
    for (kind, status, times) in material.totals.latencies() {
        let name = material.kinds.get(kind).map(|kind| kind.endpoint.as_str());
        if let Some((_, statuses)) = by_endpoint.iter_mut().find(|(other, _)| Some(*other) == name)
        {
            let _ = statuses.entry(status).or_insert_with(slice_histogram).add(times);
        }
    }
    let rows = by_endpoint.into_iter().map(|(name, statuses)| {
        let mut all = slice_histogram();
        for times in statuses.values() {
            let _ = all.add(times);
        }
        let name_of = |status: u16| match status {
            TIMED_OUT => NO_RESPONSE.to_owned(),
            status => status.to_string(),
        };
        let by_status =
            statuses.iter().map(|(status, times)| (name_of(*status), percentiles(times, 1e-3)));
        EndpointRow {
            name: name.to_owned(),
            latency: percentiles(&all, 1e-3),
            by_status: by_status.collect(),
        }
    });
    rows.filter(|row| row.latency.count > 0).collect()
}

/// Expected responses that are not refusals; all expected ones, if the scenario expects only refusals.
fn good_responses(material: &Material) -> u64 {
    let is_refusal = |status: u16| status >= 400;
    let expects_refusals_only =
        material.kinds.iter().all(|kind| kind.expected_statuses().all(is_refusal));
    let good = material.totals.statuses().filter(|(kind, status, _)| {
        let is_expected = material.kinds.get(*kind).is_some_and(|kind| kind.expects(*status));
        is_expected && (expects_refusals_only || !is_refusal(*status))
    });
    good.map(|(.., count)| count).sum()
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn by_kind(count: impl Fn(Failure) -> u64) -> BTreeMap<String, u64> {
    Failure::ALL
        .into_iter()
        .map(|failure| (failure.name().to_owned(), count(failure)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// Rounds to this many decimals; more would exceed the precision of the clock or the histogram.
fn round(value: f64, decimals: i32) -> f64 {
    let factor = 10_f64.powi(decimals);
    (value * factor).round() / factor
}

/// `scale` converts the histogram's unit to microseconds.
fn percentiles(times: &Times, scale: f64) -> Percentiles {
    let at = |percent| round(percentile(times, percent) as f64 * scale, 3);
    Percentiles {
        count: times.len(),
        mean_us: round(times.mean() * scale, 3),
        p50_us: at(50.0),
        p90_us: at(90.0),
        p95_us: at(95.0),
        p99_us: at(99.0),
        p99_9_us: at(99.9),
        p99_99_us: at(99.99),
        max_us: if times.is_empty() { 0.0 } else { round(times.max() as f64 * scale, 3) },
    }
}

/// Points at equal distances on an axis on which 90 %, 99 % and 99.9 % are equally far apart, up to the
/// percentile that the number of values supports.
fn distribution(times: &Times) -> Vec<PercentileRow> {
    if times.is_empty() {
        return Vec::new();
    }
    let mut rows: Vec<_> = (0..=DECADES * POINTS_PER_DECADE)
        .map(|step| 10_f64.powf(f64::from(step) / f64::from(POINTS_PER_DECADE)))
        .take_while(|one_in| *one_in <= times.len() as f64)
        .map(|one_in| {
            let percent = round(100.0 * (1.0 - 1.0 / one_in), 6);
            PercentileRow { percent, us: percentile(times, percent) as f64 / 1e3 }
        })
        .collect();
    rows.push(PercentileRow { percent: 100.0, us: times.max() as f64 / 1e3 });
    rows
}

fn truth(material: &Material, findings: &Findings) -> Truth {
    let totals = &material.totals;
    // A request without a response may or may not be recorded, so this many unknown rows are explained.
    let accounted_for = totals.open_events + totals.unidentified_events;
    Truth {
        accepted: totals.accepted_events,
        stored: findings.stored,
        lost: findings.lost,
        mislinked: findings.mislinked,
        altered: findings.altered,
        doubled: findings.unknown.saturating_sub(accounted_for),
        stored_without_answer: findings.unknown,
        open: totals.open_events,
        unidentified: totals.unidentified_events,
        answer_to_row: percentiles(&findings.delays, 1e3),
        settled_seconds: findings.settled_after.as_secs_f64(),
        counted_rows_dropped: material.counted_rows_dropped,
    }
}

fn core_data(changes: &Changes) -> Option<CoreDataFigures> {
    (changes.updates > 0).then(|| CoreDataFigures {
        updates: changes.updates,
        followed: changes.followed,
        update_to_answer: percentiles(&changes.freshness, 1e-3),
        stale_answers: changes.stale_responses,
        never_answered: changes.never_seen,
    })
}

/// Seconds of CPU time from the first sample to the last.
fn cpu_used(samples: &[Sample], cpu: fn(&Sample) -> Option<Duration>) -> Option<f64> {
    let first = samples.iter().find_map(cpu)?;
    let last = samples.iter().rev().find_map(cpu)?;
    Some(last.saturating_sub(first).as_secs_f64())
}

fn tracker(samples: &[Sample], due: u64) -> Option<TrackerFigures> {
    let cpu_seconds = cpu_used(samples, |sample| sample.tracker_cpu)?;
    let first = |value: fn(&Sample) -> Option<u64>| samples.iter().find_map(value).unwrap_or(0);
    let last =
        |value: fn(&Sample) -> Option<u64>| samples.iter().rev().find_map(value).unwrap_or(0);
    let most =
        |value: fn(&Sample) -> Option<u64>| samples.iter().filter_map(value).max().unwrap_or(0);
    Some(TrackerFigures {
        cpu_seconds,
        cpu_per_request_us: cpu_seconds * 1e6 / due.max(1) as f64,
        rss_anon_first_bytes: first(|sample| sample.rss_anon_bytes),
        rss_anon_last_bytes: last(|sample| sample.rss_anon_bytes),
        rss_anon_max_bytes: most(|sample| sample.rss_anon_bytes),
        open_files_first: first(|sample| sample.open_files),
        open_files_last: last(|sample| sample.open_files),
        journal_max_bytes: most(|sample| sample.journal_bytes),
        journal_oldest_max_seconds: samples
            .iter()
            .filter_map(|sample| sample.journal_oldest_seconds)
            .fold(0.0, f64::max),
    })
}

fn requests(material: &Material) -> Vec<RequestRow> {
    let totals = &material.totals;
    let mut rows: Vec<RequestRow> = material
        .kinds
        .iter()
        .enumerate()
        .map(|(kind, description)| RequestRow {
            kind: description.name.clone(),
            statuses: BTreeMap::new(),
            unexpected: totals.unexpected(kind),
            unanswered: totals.without_response(kind),
        })
        .collect();
    for (kind, status, count) in totals.statuses() {
        rows[kind].statuses.insert(status, count);
    }
    rows.retain(|row| !row.statuses.is_empty() || row.unanswered > 0);
    rows
}

fn slices(material: &Material) -> Vec<SliceRow> {
    let length = material.slice.as_secs_f64();
    let mut rows: Vec<SliceRow> = material
        .slices
        .iter()
        .map(|slice| {
            let from = material.slice.mul_f64(slice.index as f64);
            let to = from + material.slice;
            let schedule = &material.schedule;
            let scheduled = schedule.expected_within(to) - schedule.expected_within(from);
            let us = |times: &Times, percent| percentile(times, percent) as f64 / 1e3;
            SliceRow {
                at_seconds: from.as_secs_f64(),
                scheduled_rate: scheduled / length,
                sent_rate: slice.sent as f64 / length,
                follow_up_rate: slice.follow_ups as f64 / length,
                errors: by_kind(|failure| slice.failures[failure.index()]),
                p50_us: us(&slice.latency, 50.0),
                p90_us: us(&slice.latency, 90.0),
                p95_us: us(&slice.latency, 95.0),
                p99_9_us: us(&slice.latency, 99.9),
                latency_histogram: histogram::encode(&slice.latency),
                p99_us: us(&slice.latency, 99.0),
                max_us: us(&slice.latency, 100.0),
                lag_p99_us: us(&slice.lag, 99.0),
                in_flight: slice.in_flight,
                whole: to <= schedule.duration(),
                ..SliceRow::default()
            }
        })
        .collect();
    add_samples(&mut rows, &material.samples, length);
    let delays = material.findings.iter().flat_map(|findings| &findings.delays_by_slice);
    for (row, delays) in rows.iter_mut().zip(delays) {
        let at = |times: &Delays, percent| {
            (!times.is_empty()).then(|| times.value_at_percentile(percent) as f64)
        };
        row.row_p50_ms = at(delays, 50.0);
        row.row_p99_ms = at(delays, 99.0);
    }
    rows
}

/// Adds to each slice the sample at its end, and the CPU time between the samples at its start and end.
fn add_samples(rows: &mut [SliceRow], samples: &[Sample], length: f64) {
    for pair in samples.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        let seconds = after.at_seconds - before.at_seconds;
        // Skip the last sample if it came soon after the one before: the run ended in between.
        if before.at_seconds < -length || seconds < length / 2.0 {
            continue;
        }
        let index = (before.at_seconds / length).round().max(0.0) as usize;
        let Some(row) = rows.get_mut(index) else { continue };
        let cores = |cpu: fn(&Sample) -> Option<Duration>| {
            Some(cpu(after)?.saturating_sub(cpu(before)?).as_secs_f64() / seconds)
        };
        row.tracker_cpu = cores(|sample| sample.tracker_cpu);
        row.harness_cpu = cores(|sample| sample.harness_cpu);
        row.machine_cpu = cores(|sample| sample.machine_cpu);
        row.rss_anon_bytes = after.rss_anon_bytes;
        row.open_files = after.open_files;
        row.journal_bytes = after.journal_bytes;
        row.journal_oldest_seconds = after.journal_oldest_seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::run_histogram;

    #[test]
    fn distribution_ends_with_the_number_of_values() {
        let mut times = run_histogram();
        for ms in 1..=1_000 {
            times.saturating_record(ms * 1_000_000);
        }
        let rows = distribution(&times);
        let percents: Vec<f64> = rows.iter().map(|row| row.percent).collect();
        assert!(percents.is_sorted());
        assert_eq!(rows.len(), 32, "3 decades of 10, both ends, and the highest");
        let at_90 = rows.iter().find(|row| (row.percent - 90.0).abs() < 1e-6).unwrap();
        assert!((at_90.us / 900_000.0 - 1.0).abs() < 0.002, "{}", at_90.us);
        assert!(distribution(&run_histogram()).is_empty());
    }

    #[test]
    fn slice_has_the_cpu_time_between_its_samples() {
        let sample = |at_seconds, cpu| Sample {
            at_seconds,
            tracker_cpu: Some(Duration::from_millis(cpu)),
            ..Sample::default()
        };
        let mut rows = vec![SliceRow::default(); 2];
        add_samples(&mut rows, &[sample(0.0, 100), sample(1.0, 600), sample(2.0, 800)], 1.0);
        let cpu: Vec<_> =
            rows.iter().map(|row| (row.tracker_cpu.unwrap() * 10.0).round()).collect();
        assert_eq!(cpu, [5.0, 2.0]);
    }
}
