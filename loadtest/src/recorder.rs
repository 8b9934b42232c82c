//! What a worker counts. Its memory is bounded: histograms have a fixed size, and a worker passes on
//! each slice of the run as soon as it is over.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The highest time of a histogram; longer times count as this one.
pub const HIGHEST: Duration = Duration::from_secs(120);
/// Significant digits of a run's histograms: values are exact to 0.1 %.
const RUN_DIGITS: u8 = 3;
/// Significant digits of a slice's histograms: values are exact to 1 %.
const SLICE_DIGITS: u8 = 2;

/// Why a request failed. A response with an expected status is not a failure, whatever the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// The request was not sent: too many were in flight.
    Overflow,
    /// The request was not sent: the machine of the harness had no file handle, port or memory left.
    Harness,
    /// The server refused the connection.
    Refused,
    /// No connection, for another reason.
    Connect,
    /// The connection ended before the response was complete.
    Reset,
    /// No complete response in time.
    Timeout,
    /// A response with an unexpected status.
    Status,
    /// The bytes received are not an HTTP response, or one whose end is unknown.
    Malformed,
}

impl Failure {
    /// All failures, in the order of [`Failure::index`].
    pub const ALL: [Self; 8] = [
        Self::Overflow,
        Self::Harness,
        Self::Refused,
        Self::Connect,
        Self::Reset,
        Self::Timeout,
        Self::Status,
        Self::Malformed,
    ];

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Harness => "harness",
            Self::Refused => "refused",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::Malformed => "malformed",
        }
    }

    /// Whether the request was not sent for a reason that is not the server's.
    pub fn is_of_the_harness(self) -> bool {
        matches!(self, Self::Overflow | Self::Harness)
    }

    /// Position in [`Failure::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// A histogram of nanoseconds.
pub type Times = Histogram<u64>;

fn histogram(digits: u8) -> Times {
    let highest = u64::try_from(HIGHEST.as_nanos()).unwrap_or(u64::MAX);
    #[expect(clippy::expect_used, reason = "constant bounds that the crate accepts")]
    Histogram::new_with_bounds(1_000, highest, digits).expect("constant bounds are valid")
}

/// An empty histogram for a whole run.
pub fn run_histogram() -> Times {
    histogram(RUN_DIGITS)
}

/// An empty histogram for a slice of a run.
pub fn slice_histogram() -> Times {
    histogram(SLICE_DIGITS)
}

/// A percentile in nanoseconds; 0 if nothing was recorded.
pub fn percentile(times: &Times, percent: f64) -> u64 {
    if times.is_empty() { 0 } else { times.value_at_percentile(percent) }
}

/// What happened in a slice of the run, for one worker or for all.
#[derive(Debug, Clone)]
pub struct Slice {
    /// Number of the slice, from 0.
    pub index: u64,
    /// Requests of the schedule whose time came in the slice.
    pub due: u64,
    /// Requests of the schedule that were sent in the slice.
    pub sent: u64,
    /// Requests that were sent in the slice because they follow others.
    pub follow_ups: u64,
    /// Responses with an expected status that arrived in the slice.
    pub expected_responses: u64,
    /// Failures noticed in the slice, by [`Failure::index`].
    pub failures: [u64; Failure::ALL.len()],
    /// Latencies, from the intended time, of the responses that arrived in the slice; also of time-outs,
    /// and of requests that were not sent.
    pub latency: Times,
    /// How far behind its schedule the harness was.
    pub lag: Times,
    /// Requests in flight at the end of the slice.
    pub in_flight: u64,
}

impl Slice {
    /// A slice in which nothing has happened yet.
    pub fn new(index: u64) -> Self {
        Self {
            index,
            due: 0,
            sent: 0,
            follow_ups: 0,
            expected_responses: 0,
            failures: [0; Failure::ALL.len()],
            latency: slice_histogram(),
            lag: slice_histogram(),
            in_flight: 0,
        }
    }

    /// Counts a request that was sent.
    pub fn count_sent(&mut self, is_follow_up: bool) {
        *(if is_follow_up { &mut self.follow_ups } else { &mut self.sent }) += 1;
    }

    /// Adds what another worker saw in the same slice.
    pub fn add(&mut self, other: &Self) {
        self.due += other.due;
        self.sent += other.sent;
        self.follow_ups += other.follow_ups;
        self.expected_responses += other.expected_responses;
        for (sum, one) in self.failures.iter_mut().zip(other.failures) {
            *sum += one;
        }
        // Cannot fail: the bounds are the same.
        let _ = self.latency.add(&other.latency);
        let _ = self.lag.add(&other.lag);
        self.in_flight += other.in_flight;
    }
}

/// What one worker, or all workers, counted in the whole run.
#[derive(Debug, Clone)]
pub struct Totals {
    /// Requests whose time had come, whether or not they could be sent.
    pub due: u64,
    /// How many of these follow others, and are not requests of the schedule.
    pub follow_ups: u64,
    /// Responses to requests that were sent before.
    pub repeats: u64,
    /// How many of these have another id than the first response.
    pub differing_repeats: u64,
    /// Requests that were sent.
    pub sent: u64,
    /// Latencies from the intended time: of all responses; of time-outs and of requests that were not
    /// sent, which would have taken at least as long.
    pub latency: Times,
    /// Latencies from the time of sending: of all responses and time-outs.
    pub from_sending: Times,
    /// How many values of `latency` are those of requests that were not sent.
    pub unsent_latencies: u64,
    /// Latencies from the intended time by kind of request and status.
    by_response: Vec<Vec<(u16, Times)>>,
    /// How far behind its schedule the harness was: the time of sending minus the intended time.
    pub lag: Times,
    /// Responses by kind of request and status: `[kind][status]`.
    statuses: Vec<Vec<u64>>,
    /// Failures without a response by kind of request: `[kind][failure]`.
    without_response: Vec<[u64; Failure::ALL.len()]>,
    /// Responses with an unexpected status, by kind of request.
    unexpected: Vec<u64>,
    /// Events that the 2xx and 3xx responses accepted.
    pub accepted_events: u64,
    /// Accepted events whose response had no id.
    pub unidentified_events: u64,
    /// Events of requests that were sent and got no response: they may or may not be recorded.
    pub open_events: u64,
    /// The limit of the harness' machine that a connection ran into, if one did.
    pub own_limit: Option<&'static str>,
}

const STATUSES: std::ops::Range<u16> = 100..600;
/// Stands for the status of a response that did not come.
pub const TIMED_OUT: u16 = 0;

/// The latency of a request.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// The request's kind.
    pub kind: usize,
    /// The status of its response, or [`TIMED_OUT`].
    pub status: u16,
    /// Nanoseconds from the intended time.
    pub from_intended: u64,
}

impl Totals {
    /// Totals without a request yet, for this many kinds of request.
    pub fn new(kinds: usize) -> Self {
        Self {
            due: 0,
            follow_ups: 0,
            repeats: 0,
            differing_repeats: 0,
            sent: 0,
            latency: run_histogram(),
            from_sending: run_histogram(),
            unsent_latencies: 0,
            by_response: vec![Vec::new(); kinds],
            lag: run_histogram(),
            statuses: vec![vec![0; STATUSES.len()]; kinds],
            without_response: vec![[0; Failure::ALL.len()]; kinds],
            unexpected: vec![0; kinds],
            accepted_events: 0,
            unidentified_events: 0,
            open_events: 0,
            own_limit: None,
        }
    }

    /// Counts a response. `status` is from 100 to 599.
    pub fn record_response(&mut self, kind: usize, status: u16, is_expected: bool) {
        self.statuses[kind][usize::from(status - STATUSES.start)] += 1;
        self.unexpected[kind] += u64::from(!is_expected);
    }

    /// Records a latency. `from_sending`: nanoseconds from the time of sending.
    pub fn record_latency(&mut self, latency: &Latency, from_sending: u64) {
        self.latency.saturating_record(latency.from_intended);
        self.from_sending.saturating_record(from_sending);
        self.times_of(latency.kind, latency.status).saturating_record(latency.from_intended);
    }

    /// Records the latency that a request would have had at least, had it been sent.
    pub fn record_unsent(&mut self, latency: &Latency, is_counted: bool) {
        if is_counted {
            self.latency.saturating_record(latency.from_intended);
            self.unsent_latencies += 1;
            self.times_of(latency.kind, latency.status).saturating_record(latency.from_intended);
        }
    }

    /// Allocates only for the first response of a kind and status.
    fn times_of(&mut self, kind: usize, status: u16) -> &mut Times {
        let of_kind = &mut self.by_response[kind];
        let position = of_kind.iter().position(|(other, _)| *other == status);
        let position = position.unwrap_or_else(|| {
            of_kind.push((status, slice_histogram()));
            of_kind.len() - 1
        });
        &mut of_kind[position].1
    }

    /// Kind of request, status and latencies.
    pub fn latencies(&self) -> impl Iterator<Item = (usize, u16, &Times)> {
        let kinds = self.by_response.iter().enumerate();
        kinds.flat_map(|(kind, of_kind)| {
            of_kind.iter().map(move |(status, times)| (kind, *status, times))
        })
    }

    /// Counts a request without a response.
    pub fn record_failure(&mut self, kind: usize, failure: Failure) {
        self.without_response[kind][failure.index()] += 1;
    }

    /// Kind of request, status and number of responses, without zeros.
    pub fn statuses(&self) -> impl Iterator<Item = (usize, u16, u64)> {
        self.statuses.iter().enumerate().flat_map(|(kind, counts)| {
            STATUSES
                .zip(counts)
                .filter(|(_, count)| **count > 0)
                .map(move |(status, count)| (kind, status, *count))
        })
    }

    /// Number of failures of this kind, over all kinds of request.
    pub fn failures(&self, failure: Failure) -> u64 {
        match failure {
            Failure::Status => self.unexpected.iter().sum(),
            other => self.without_response.iter().map(|counts| counts[other.index()]).sum(),
        }
    }

    /// Number of requests of this kind without a response.
    pub fn without_response(&self, kind: usize) -> u64 {
        self.without_response[kind].iter().sum()
    }

    /// Number of responses with an unexpected status to this kind of request.
    pub fn unexpected(&self, kind: usize) -> u64 {
        self.unexpected[kind]
    }

    /// Number of failures of all kinds.
    pub fn all_failures(&self) -> u64 {
        Failure::ALL.into_iter().map(|failure| self.failures(failure)).sum()
    }

    /// Adds what another worker counted.
    pub fn add(&mut self, other: &Self) {
        self.due += other.due;
        self.follow_ups += other.follow_ups;
        self.repeats += other.repeats;
        self.differing_repeats += other.differing_repeats;
        self.sent += other.sent;
        let _ = self.latency.add(&other.latency);
        let _ = self.from_sending.add(&other.from_sending);
        self.unsent_latencies += other.unsent_latencies;
        for (kind, status, times) in other.latencies() {
            let _ = self.times_of(kind, status).add(times);
        }
        let _ = self.lag.add(&other.lag);
        for (sums, ones) in self.statuses.iter_mut().zip(&other.statuses) {
            for (sum, one) in sums.iter_mut().zip(ones) {
                *sum += one;
            }
        }
        for (sums, ones) in self.without_response.iter_mut().zip(&other.without_response) {
            for (sum, one) in sums.iter_mut().zip(ones) {
                *sum += one;
            }
        }
        for (sum, one) in self.unexpected.iter_mut().zip(&other.unexpected) {
            *sum += one;
        }
        self.accepted_events += other.accepted_events;
        self.unidentified_events += other.unidentified_events;
        self.open_events += other.open_events;
        self.own_limit = self.own_limit.or(other.own_limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_the_position_in_all() {
        for (index, failure) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(failure.index(), index);
        }
    }

    #[test]
    fn adds_the_totals_of_workers() {
        let mut sum = Totals::new(2);
        let mut one = Totals::new(2);
        one.due = 5;
        one.record_response(1, 404, true);
        one.record_response(1, 500, false);
        one.record_failure(0, Failure::Timeout);
        one.latency.saturating_record(2_000_000);
        sum.add(&one);
        sum.add(&one);
        assert_eq!(sum.due, 10);
        assert_eq!(sum.statuses().collect::<Vec<_>>(), [(1, 404, 2), (1, 500, 2)]);
        assert_eq!(sum.failures(Failure::Timeout), 2);
        assert_eq!(sum.failures(Failure::Status), 2);
        assert_eq!(sum.all_failures(), 4);
        assert_eq!(sum.latency.len(), 2);
    }

    #[test]
    fn counts_longer_times_as_the_highest() {
        let mut times = run_histogram();
        times.saturating_record(u64::MAX);
        assert!(times.max() >= 120_000_000_000);
        assert_eq!(percentile(&run_histogram(), 99.0), 0);
    }
}
