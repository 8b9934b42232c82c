//! What a worker counts. Everything is bounded: histograms have a fixed size, and a slice of time
//! leaves as soon as it is over.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The highest time that is told from higher ones.
pub const HIGHEST: Duration = Duration::from_secs(120);
/// Of the histograms of a whole run: a value is off by at most 0.1 %.
const RUN_DIGITS: u8 = 3;
/// Of the histograms of a slice: by at most 1 %.
const SLICE_DIGITS: u8 = 2;

/// Why a request failed. A status that was expected is no failure, whichever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// Too many requests were in flight: it was not sent.
    Overflow,
    /// Nobody listens there.
    Refused,
    /// No connection came about for another reason.
    Connect,
    /// The connection ended before the answer was whole.
    Reset,
    /// No whole answer in time.
    Timeout,
    /// An answer with a status that was not expected.
    Status,
    /// What came is not an HTTP answer, or none that can be delimited.
    Malformed,
}

impl Failure {
    /// All of them, in the order of [`Failure::index`].
    pub const ALL: [Self; 7] = [
        Self::Overflow,
        Self::Refused,
        Self::Connect,
        Self::Reset,
        Self::Timeout,
        Self::Status,
        Self::Malformed,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Refused => "refused",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::Malformed => "malformed",
        }
    }

    /// Its place in [`Failure::ALL`].
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

/// A percentile in nanoseconds; 0 where nothing was recorded.
pub fn percentile(times: &Times, percent: f64) -> u64 {
    if times.is_empty() { 0 } else { times.value_at_percentile(percent) }
}

/// What happened in a slice of the run, of one worker or of all.
#[derive(Debug, Clone)]
pub struct Slice {
    /// Its number, from 0.
    pub index: u64,
    /// Requests handed to the network in it, or failed to be.
    pub sent: u64,
    /// Answers with an expected status that came in it.
    pub answered: u64,
    /// Failures noticed in it, by [`Failure::index`].
    pub failures: [u64; Failure::ALL.len()],
    /// Latencies, from the intended time, of the answers that came in it.
    pub latency: Times,
    /// How far behind its schedule the harness was.
    pub lag: Times,
    /// In flight at its end.
    pub in_flight: u64,
}

impl Slice {
    /// An empty one.
    pub fn new(index: u64) -> Self {
        Self {
            index,
            sent: 0,
            answered: 0,
            failures: [0; Failure::ALL.len()],
            latency: slice_histogram(),
            lag: slice_histogram(),
            in_flight: 0,
        }
    }

    /// Adds what another worker saw in the same slice.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        for (sum, one) in self.failures.iter_mut().zip(other.failures) {
            *sum += one;
        }
        // Same bounds: it cannot fail.
        let _ = self.latency.add(&other.latency);
        let _ = self.lag.add(&other.lag);
        self.in_flight += other.in_flight;
    }
}

/// What a worker, or all workers, saw in the whole run.
#[derive(Debug, Clone)]
pub struct Totals {
    /// Requests whose time had come: sent, or overflowed.
    pub due: u64,
    /// Latencies from the intended time: of all answers, and of time-outs, which took at least as
    /// long.
    pub latency: Times,
    /// How far behind its schedule the harness was: the time of sending less the intended time.
    pub lag: Times,
    /// Answers by kind of request and status: `[kind][status]`.
    statuses: Vec<Vec<u64>>,
    /// Failures without an answer by kind of request: `[kind][failure]`.
    unanswered: Vec<[u64; Failure::ALL.len()]>,
    /// Answers whose status was not expected, by kind of request.
    unexpected: Vec<u64>,
    /// Events that accepted answers stand for.
    pub accepted_events: u64,
    /// Those of them whose answer did not name an id.
    pub unidentified_events: u64,
    /// Events of requests that were sent and got no answer: nobody knows whether they are recorded.
    pub open_events: u64,
}

const STATUSES: std::ops::Range<u16> = 100..600;

impl Totals {
    /// Nothing yet, of so many kinds of request.
    pub fn new(kinds: usize) -> Self {
        Self {
            due: 0,
            latency: run_histogram(),
            lag: run_histogram(),
            statuses: vec![vec![0; STATUSES.len()]; kinds],
            unanswered: vec![[0; Failure::ALL.len()]; kinds],
            unexpected: vec![0; kinds],
            accepted_events: 0,
            unidentified_events: 0,
            open_events: 0,
        }
    }

    /// Counts an answer.
    pub fn answer(&mut self, kind: usize, status: u16, expected: bool) {
        self.statuses[kind][usize::from(status - STATUSES.start)] += 1;
        self.unexpected[kind] += u64::from(!expected);
    }

    /// Counts a request without an answer.
    pub fn failure(&mut self, kind: usize, failure: Failure) {
        self.unanswered[kind][failure.index()] += 1;
    }

    /// Answers by kind of request and status, where there are any.
    pub fn statuses(&self) -> impl Iterator<Item = (usize, u16, u64)> {
        self.statuses.iter().enumerate().flat_map(|(kind, counts)| {
            STATUSES
                .zip(counts)
                .filter(|(_, count)| **count > 0)
                .map(move |(status, count)| (kind, status, *count))
        })
    }

    /// Failures of a kind, over all kinds of request.
    pub fn failures(&self, failure: Failure) -> u64 {
        match failure {
            Failure::Status => self.unexpected.iter().sum(),
            other => self.unanswered.iter().map(|counts| counts[other.index()]).sum(),
        }
    }

    /// Failures without an answer of a kind of request.
    pub fn unanswered(&self, kind: usize) -> u64 {
        self.unanswered[kind].iter().sum()
    }

    /// Answers with unexpected status of a kind of request.
    pub fn unexpected(&self, kind: usize) -> u64 {
        self.unexpected[kind]
    }

    /// All failures.
    pub fn all_failures(&self) -> u64 {
        Failure::ALL.into_iter().map(|failure| self.failures(failure)).sum()
    }

    /// Adds what another worker saw.
    pub fn add(&mut self, other: &Self) {
        self.due += other.due;
        let _ = self.latency.add(&other.latency);
        let _ = self.lag.add(&other.lag);
        for (sums, ones) in self.statuses.iter_mut().zip(&other.statuses) {
            for (sum, one) in sums.iter_mut().zip(ones) {
                *sum += one;
            }
        }
        for (sums, ones) in self.unanswered.iter_mut().zip(&other.unanswered) {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failures_index_is_its_place() {
        for (index, failure) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(failure.index(), index);
        }
    }

    #[test]
    fn workers_add_up() {
        let mut sum = Totals::new(2);
        let mut one = Totals::new(2);
        one.due = 5;
        one.answer(1, 404, true);
        one.answer(1, 500, false);
        one.failure(0, Failure::Timeout);
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
    fn what_takes_longer_than_the_highest_counts_as_the_highest() {
        let mut times = run_histogram();
        times.saturating_record(u64::MAX);
        assert!(times.max() >= 120_000_000_000);
        assert_eq!(percentile(&run_histogram(), 99.0), 0);
    }
}
