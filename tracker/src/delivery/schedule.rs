//! Decides when to call the stream, and what to send again. Pure: every method is given the time.
//!
//! ```text
//!             a call delivers nothing                   the pause is over
//!   healthy ───────────────────────────▶ failing: paused ──────────────────▶ failing: probing
//!      ▲                                       ▲      a probe fails, pause doubles  │
//!      │                                       └────────────────────────────────────┤
//!      └───────────────────── a probe delivers ────────────────────────────────────┘
//! ```
//!
//! - *Healthy*: up to [`MAX_IN_FLIGHT`] calls, each as full as possible. Records that the stream
//!   rejected are due again after their own backoff; the others do not wait for them.
//! - *Failing*: nothing is sent until the pause is over, then one record at a time. An outage costs no
//!   more calls than normal operation, and the first record that is delivered ends it.
//! - A probe that has not completed after [`PROBE_INTERVAL`] no longer holds back the next one: the
//!   stream may have recovered, and the response may be lost.

use std::collections::VecDeque;
use std::time::Duration;

use adtrack_runtime::backoff::Backoff;
use tokio::time::Instant;

use super::batch::Batch;

/// Maximum number of `PutRecords` calls in flight: 1 MiB each, about 5,000 events; at 20 ms per call, about a
/// million events per second.
const MAX_IN_FLIGHT: usize = 4;
/// Consecutive failed calls after which the stream counts as refusing: a single throttled call is no reason
/// for an alarm.
pub const FAILURES_UNTIL_REFUSING: u32 = 3;
/// For records that were rejected while others were delivered: their shard is throttled.
const RECORD_BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(50), ceiling: Duration::from_secs(5) };
/// After a call that delivered nothing. Short, so that, with [`PROBE_INTERVAL`], a full journal accepts
/// events again within 3 s after the stream recovers.
const CALL_BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(50), ceiling: Duration::from_secs(1) };
/// How long a probe holds back the next one.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// When to call the stream, and what waits to be sent again.
#[derive(Debug, Default)]
pub struct Schedule {
    /// Rejected batches, in the order in which they are due.
    retries: VecDeque<Retry>,
    in_flight: usize,
    /// Calls in a row that delivered nothing.
    failures: u32,
    /// Nothing is sent before this.
    paused_until: Option<Instant>,
    last_call_at: Option<Instant>,
    last_failure_at: Option<Instant>,
}

#[derive(Debug)]
struct Retry {
    due_at: Instant,
    pending: PendingBatch,
}

/// A batch, and how often sending its records has failed.
#[derive(Debug, PartialEq)]
pub struct PendingBatch {
    /// What to send.
    pub batch: Batch,
    /// How often at least one of its records was rejected before.
    pub failures: u32,
}

/// The outcome of a call, as far as it decides when to call again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOutcome {
    /// The stream took at least one record.
    Delivered,
    /// The stream took none.
    Failed,
}

impl Schedule {
    /// Whether the last call delivered nothing. Until one delivers, single records probe whether the
    /// stream has recovered.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether the stream has failed often enough to alert an operator.
    pub fn is_refusing(&self) -> bool {
        self.failures >= FAILURES_UNTIL_REFUSING
    }

    /// Calls in a row that delivered nothing.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether a call may start at `now`.
    pub fn may_call(&self, now: Instant) -> bool {
        !self.is_paused(now) && self.has_free_slot(now)
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// Whether another call fits in. While the stream is failing, one call at a time; another if that one has
    /// not completed after [`PROBE_INTERVAL`].
    fn has_free_slot(&self, now: Instant) -> bool {
        let is_overdue = || self.last_call_at.is_none_or(|at| now >= at + PROBE_INTERVAL);
        self.in_flight == 0
            || (self.in_flight < MAX_IN_FLIGHT && (!self.is_failing() || is_overdue()))
    }

    /// When to check again: the end of the pause, or the next retry. None if there is nothing to wait
    /// for, or no further call is allowed.
    pub fn wake_up_at(&self, now: Instant) -> Option<Instant> {
        let next_retry = || self.retries.front().map(|retry| retry.due_at);
        let pause_end = self.paused_until.filter(|_| self.is_paused(now));
        self.has_free_slot(now).then(|| pause_end.or_else(next_retry)).flatten()
    }

    /// Takes what is due at `now`, as much as fits into one call; one record while the stream is
    /// failing.
    pub fn take_due_retry(&mut self, now: Instant) -> Option<PendingBatch> {
        let Retry { due_at, mut pending } =
            self.retries.pop_front_if(|retry| retry.due_at <= now)?;
        if self.is_failing() {
            let rest = pending.batch.split_off_first();
            if !rest.is_empty() {
                let pending = PendingBatch { batch: rest, failures: pending.failures };
                self.retries.push_front(Retry { due_at, pending });
            }
            return Some(pending);
        }
        while let Some(next) = self.retries.pop_front_if(|retry| {
            retry.due_at <= now && pending.batch.has_room_for_all(&retry.pending.batch)
        }) {
            pending.batch.append(next.pending.batch);
            pending.failures = pending.failures.max(next.pending.failures);
        }
        Some(pending)
    }

    /// A call started at `now`.
    pub fn on_call_started(&mut self, now: Instant) {
        self.in_flight += 1;
        self.last_call_at = Some(now);
    }

    /// A call that started at `started_at` ended at `now`.
    pub fn on_call_completed(&mut self, started_at: Instant, outcome: CallOutcome, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match outcome {
            CallOutcome::Delivered => self.failures = 0,
            // A call from before the last failure says nothing new about the stream.
            CallOutcome::Failed if self.last_failure_at.is_some_and(|at| started_at < at) => {}
            CallOutcome::Failed => {
                self.failures += 1;
                self.last_failure_at = Some(now);
                // From the call's start: the time that it waited for a response counts.
                self.paused_until = Some(started_at + CALL_BACKOFF.delay(self.failures));
            }
        }
    }

    /// Puts rejected records back: due after the pause if the stream is failing, else when their
    /// shards have had time.
    pub fn retry(&mut self, pending: PendingBatch, now: Instant) {
        let wait =
            if self.is_failing() { Duration::ZERO } else { RECORD_BACKOFF.delay(pending.failures) };
        let due_at = now + wait;
        let position = self.retries.partition_point(|retry| retry.due_at <= due_at);
        self.retries.insert(position, Retry { due_at, pending });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::batch::StreamRecord;
    use super::*;

    fn batch(records: usize) -> Batch {
        let mut batch = Batch::default();
        for number in 0..records {
            let mut record = StreamRecord::default();
            record.aggregate.push(number.to_string().into());
            batch.push(record);
        }
        batch
    }

    fn pending(records: usize, failures: u32) -> PendingBatch {
        PendingBatch { batch: batch(records), failures }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// A schedule whose last call failed at `start`, and when its pause is over at the latest.
    fn failing(start: Instant) -> (Schedule, Instant) {
        let mut schedule = Schedule::default();
        schedule.on_call_started(start);
        schedule.on_call_completed(start, CallOutcome::Failed, start);
        (schedule, start + CALL_BACKOFF.bound(1))
    }

    #[test]
    fn makes_four_calls_at_a_time_while_the_stream_is_healthy() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let mut calls = 0;
        while schedule.may_call(now) {
            schedule.on_call_started(now);
            calls += 1;
        }
        assert_eq!(calls, MAX_IN_FLIGHT);
        schedule.on_call_completed(now, CallOutcome::Delivered, now);
        assert!(schedule.may_call(now));
    }

    #[test]
    fn pauses_after_a_failed_call_and_then_probes_one_at_a_time() {
        let start = Instant::now();
        let (mut schedule, resumed) = failing(start);
        assert!(schedule.wake_up_at(start).is_none_or(|at| at <= resumed));
        assert!(schedule.may_call(resumed));

        schedule.on_call_started(resumed);
        assert!(!schedule.may_call(resumed), "one probe at a time");
        assert!(schedule.may_call(resumed + PROBE_INTERVAL), "a silent probe holds nothing back");
    }

    #[test]
    fn never_has_more_than_four_silent_probes() {
        let (mut schedule, mut now) = failing(Instant::now());
        for _ in 0..MAX_IN_FLIGHT {
            assert!(schedule.may_call(now));
            schedule.on_call_started(now);
            now += PROBE_INTERVAL;
        }
        assert!(!schedule.may_call(now));
    }

    #[test]
    fn is_refusing_after_three_failures_and_recovers_with_one_delivery() {
        let mut now = Instant::now();
        let mut schedule = Schedule::default();
        for failures in 1..=FAILURES_UNTIL_REFUSING {
            schedule.on_call_started(now);
            schedule.on_call_completed(now, CallOutcome::Failed, now);
            assert_eq!(schedule.is_refusing(), failures == FAILURES_UNTIL_REFUSING);
            now += SECOND;
        }
        schedule.on_call_started(now);
        schedule.on_call_completed(now, CallOutcome::Delivered, now);
        assert!(!schedule.is_refusing() && !schedule.is_failing() && schedule.may_call(now));
    }

    #[test]
    fn counts_calls_that_were_under_way_together_as_one_failure() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        (0..MAX_IN_FLIGHT).for_each(|_| schedule.on_call_started(now));
        for _ in 0..MAX_IN_FLIGHT {
            schedule.on_call_completed(now, CallOutcome::Failed, now + SECOND);
        }
        assert_eq!(schedule.failures(), 1);
    }

    #[test]
    fn waits_from_the_start_of_a_call_that_timed_out() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.on_call_started(now);
        let timed_out = now + 2 * SECOND;
        schedule.on_call_completed(now, CallOutcome::Failed, timed_out);
        assert!(schedule.may_call(timed_out), "the pause ended while the call was waited for");
    }

    #[test]
    fn sends_rejected_records_again_within_their_backoff() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.retry(pending(3, 2), now);
        let latest = now + RECORD_BACKOFF.bound(2);
        assert!(schedule.wake_up_at(now).is_some_and(|at| at <= latest));
        assert_eq!(schedule.take_due_retry(latest), Some(pending(3, 2)));
        assert_eq!(schedule.take_due_retry(latest), None);
    }

    #[test]
    fn joins_due_retries_and_keeps_the_highest_count_of_failures() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.retry(pending(2, 1), now);
        schedule.retry(pending(1, 4), now);
        let due = schedule.take_due_retry(now + 10 * SECOND).unwrap();
        assert_eq!((due.batch.records.len(), due.failures), (3, 4));
    }

    #[test]
    fn probes_with_one_record_of_a_retry() {
        let start = Instant::now();
        let (mut schedule, resumed) = failing(start);
        schedule.retry(pending(3, 1), start);
        for _ in 0..3 {
            assert_eq!(schedule.take_due_retry(resumed).unwrap().batch.records.len(), 1);
        }
        assert_eq!(schedule.take_due_retry(resumed), None);
    }

    proptest! {
        /// No record is dropped or doubled, and calls never exceed their bounds, whatever happens.
        #[test]
        fn keeps_every_record_and_its_bounds(
            steps in prop::collection::vec((0_u8..4, 1_usize..4, 0_u64..2_000), 1..200),
        ) {
            let mut schedule = Schedule::default();
            let mut now = Instant::now();
            let (mut held, mut in_flight) = (0_usize, VecDeque::new());
            for (action, records, milliseconds) in steps {
                now += Duration::from_millis(milliseconds);
                match action {
                    0 => {
                        schedule.retry(pending(records, 1), now);
                        held += records;
                    }
                    1 if schedule.may_call(now) => {
                        if let Some(due) = schedule.take_due_retry(now) {
                            let records = due.batch.records.len();
                            prop_assert!(records == 1 || !schedule.is_failing());
                            held -= records;
                            schedule.on_call_started(now);
                            in_flight.push_back((now, records));
                        }
                    }
                    2 | 3 => {
                        if let Some((started_at, records)) = in_flight.pop_front() {
                            let outcome =
                                if action == 2 { CallOutcome::Delivered } else { CallOutcome::Failed };
                            schedule.on_call_completed(started_at, outcome, now);
                            if outcome == CallOutcome::Failed {
                                schedule.retry(pending(records, 2), now);
                                held += records;
                            }
                        }
                    }
                    _ => {}
                }
                prop_assert!(in_flight.len() <= MAX_IN_FLIGHT);
                if let Some(at) = schedule.wake_up_at(now) {
                    prop_assert!(at <= now + RECORD_BACKOFF.ceiling);
                }
            }
            let waiting: usize =
                schedule.retries.iter().map(|retry| retry.pending.batch.records.len()).sum();
            prop_assert_eq!(waiting, held);
        }
    }
}
