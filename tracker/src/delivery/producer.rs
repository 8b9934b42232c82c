//! Drains the journal into the stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adtrack_proto::aggregate::Aggregate;
use adtrack_runtime::backoff::Backoff;
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

use super::batch::{AGGREGATE_BYTES, Batch, Record};
use super::journal::{Journal, JournalReader};
use super::kinesis::{KinesisStream, Put, PutError};
use crate::metrics::Metrics;

/// `PutRecords` under way at a time: 1 MiB each, about 5,000 events; at 20 ms a call about a million
/// events a second.
const MAX_IN_FLIGHT: usize = 4;
/// Bytes of events that were read and not acknowledged: what is held in memory while the stream is
/// ill.
const MAX_UNACKNOWLEDGED_BYTES: usize = 6 * 1024 * 1024;
/// Events whose place is not free yet: one that one shard does not take holds back the places, not
/// the delivery, of so many behind it.
const MAX_OUTSTANDING: usize = 200_000;
/// Failed calls or batches in a row until the stream counts as refusing: one throttle is no alarm.
const FAILURES_UNTIL_REFUSING: u32 = 3;
/// For records that failed alone: their shard is throttled.
const RECORD_BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(50), ceiling: Duration::from_secs(5) };
/// After a call that failed as a whole. Low enough that, with [`PROBE_INTERVAL`], a full journal
/// takes events again within 3 s of the stream's return.
const CALL_BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(50), ceiling: Duration::from_secs(1) };
/// While the stream is ill, a call that is not answered for so long is no longer waited for with the
/// next one: the stream may be well again, and the silent call lost.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at the journal, at shutdown.
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// The task that delivers.
#[derive(Debug)]
pub struct Producer {
    journal: Journal,
    reader: JournalReader,
    stream: Arc<KinesisStream>,
    linger: Duration,
    metrics: Arc<Metrics>,
    refusing: Arc<AtomicBool>,
    /// What failed, in the order in which it is due.
    retries: VecDeque<Retry>,
    /// Calls or batches that failed in a row.
    failures: u32,
    /// Until when nothing is sent, because a whole call failed.
    paused_until: Option<Instant>,
    /// When the last call began, and when one last failed as a whole.
    last_call: Option<Instant>,
    last_failure: Option<Instant>,
    /// Whether a person was told that the journal is nearly full.
    nearly_full: bool,
}

#[derive(Debug)]
struct Retry {
    due: Instant,
    attempt: Attempt,
}

/// A batch and how often it, or what is left of it, failed.
#[derive(Debug)]
struct Attempt {
    batch: Batch,
    failures: u32,
}

/// A call that ended.
#[derive(Debug)]
struct Ended {
    attempt: Attempt,
    begun: Instant,
    answer: Result<Put, PutError>,
}

/// Delivery under way.
#[derive(Debug)]
pub struct Delivery {
    /// None: it ended by itself.
    task: Option<JoinHandle<()>>,
    stop: oneshot::Sender<Instant>,
}

impl Delivery {
    /// Waits until delivery ends by itself, which it never should.
    pub async fn ended(&mut self) {
        if let Some(task) = &mut self.task {
            report_panic(task.await);
            self.task = None;
        }
    }

    /// Delivers what is left, until `deadline` at the latest; nothing where delivery ended by
    /// itself.
    pub async fn drain(self, deadline: Instant) {
        // A producer that has ended shows in its task.
        let _ = self.stop.send(deadline);
        if let Some(task) = self.task {
            report_panic(task.await);
        }
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "delivery panicked; this is a bug in adtrack");
    }
}

type Calls = JoinSet<Ended>;

impl Producer {
    /// Delivers what `journal` takes to `stream`, `linger` after it came or earlier. `refusing`
    /// tells the health checks whether the stream keeps failing.
    pub fn new(
        journal: Journal,
        stream: KinesisStream,
        linger: Duration,
        metrics: Arc<Metrics>,
        refusing: Arc<AtomicBool>,
    ) -> Self {
        Self {
            reader: journal.reader(),
            journal,
            stream: Arc::new(stream),
            linger,
            metrics,
            refusing,
            retries: VecDeque::new(),
            failures: 0,
            paused_until: None,
            last_call: None,
            last_failure: None,
            nearly_full: false,
        }
    }

    /// Starts to deliver.
    pub fn start(self) -> Delivery {
        let (stop, stopped) = oneshot::channel();
        Delivery { task: Some(tokio::spawn(self.run(stopped))), stop }
    }

    /// Delivers until `stop` comes, which says until when what is left may be drained.
    async fn run(mut self, mut stop: oneshot::Receiver<Instant>) {
        let mut calls = Calls::new();
        let mut tick = tokio::time::interval(self.linger);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let deadline = loop {
            let wake_up = self.wake_up(&calls);
            let mut ripe = Ripe::Whole;
            tokio::select! {
                _ = tick.tick() => ripe = Ripe::Any,
                () = until(wake_up) => {}
                Some(ended) = calls.join_next() => self.ended(ended),
                // Where nobody is left to say when, there is no time.
                deadline = &mut stop => break deadline.unwrap_or_else(|_| Instant::now()),
            }
            self.dispatch(&mut calls, ripe);
            self.observe();
        };
        // What is under way when time is up ends with `calls`.
        let _ = tokio::time::timeout_at(deadline, self.drain(&mut calls)).await;
    }

    /// Delivers until the journal, closed by now, has nothing left.
    async fn drain(&mut self, calls: &mut Calls) {
        while self.journal.used_bytes() > 0 {
            self.dispatch(calls, Ripe::Any);
            let wake_up = self.wake_up(calls);
            tokio::select! {
                Some(ended) = calls.join_next() => self.ended(ended),
                () = until(wake_up) => {}
                () = tokio::time::sleep(DRAIN_POLL) => {}
            }
        }
    }

    /// Whether the last call failed as a whole: until one does not, single records see whether the
    /// stream is well again, so that an outage costs no more than good times.
    fn is_ill(&self) -> bool {
        self.failures > 0
    }

    /// Whether a call may begin. While the stream is ill one at a time; where that one is not
    /// answered, another after a while.
    fn may_call(&self, calls: &Calls, now: Instant) -> bool {
        let waited = || self.last_call.is_none_or(|last_call| now >= last_call + PROBE_INTERVAL);
        calls.is_empty() || calls.len() < MAX_IN_FLIGHT && (!self.is_ill() || waited())
    }

    /// When the pause ends, or the next retry is due; none: nothing waits for a time, or no call is
    /// free.
    fn wake_up(&self, calls: &Calls) -> Option<Instant> {
        let due = || self.retries.front().map(|retry| retry.due);
        self.may_call(calls, Instant::now()).then(|| self.paused_until.or_else(due)).flatten()
    }

    /// Sends what is due, retries first, as far as calls are free; the rest waits in the journal.
    fn dispatch(&mut self, calls: &mut Calls, ripe: Ripe) {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| now < until) {
            return;
        }
        self.paused_until = None;
        while self.may_call(calls, now) {
            let attempt = self
                .due_retries(now)
                .unwrap_or_else(|| Attempt { batch: self.next_batch(ripe), failures: 0 });
            if attempt.batch.is_empty() {
                return;
            }
            self.last_call = Some(now);
            self.metrics.put_records_calls.inc();
            let (stream, metrics) = (Arc::clone(&self.stream), Arc::clone(&self.metrics));
            calls.spawn(async move {
                let timer = metrics.put_records_seconds.start_timer();
                let answer = stream.put(&attempt.batch).await;
                timer.observe_duration();
                Ended { attempt, begun: now, answer }
            });
        }
    }

    /// What is due again, as much as goes into one call; one record while the stream is ill.
    fn due_retries(&mut self, now: Instant) -> Option<Attempt> {
        let Retry { due, mut attempt } = self.retries.pop_front_if(|retry| retry.due <= now)?;
        if self.is_ill() {
            let rest = attempt.batch.split_off_first();
            if !rest.is_empty() {
                let attempt = Attempt { batch: rest, failures: attempt.failures };
                self.retries.push_front(Retry { due, attempt });
            }
            return Some(attempt);
        }
        while let Some(next) = self.retries.pop_front_if(|retry| {
            retry.due <= now && attempt.batch.has_room_for_all(&retry.attempt.batch)
        }) {
            attempt.batch.append(next.attempt.batch);
            attempt.failures = attempt.failures.max(next.attempt.failures);
        }
        Some(attempt)
    }

    /// The events that wait, as many as go into one call; one record while the stream is ill.
    fn next_batch(&mut self, ripe: Ripe) -> Batch {
        let mut batch = Batch::default();
        while batch.has_room_for(AGGREGATE_BYTES) {
            if ripe == Ripe::Whole && self.reader.unread_bytes() < AGGREGATE_BYTES as u64 {
                break;
            }
            match self.next_record() {
                Some(record) => batch.push(record),
                None => break,
            }
            if self.is_ill() {
                break;
            }
        }
        batch
    }

    fn may_read(&self) -> bool {
        self.reader.unacknowledged_bytes() < MAX_UNACKNOWLEDGED_BYTES
            && self.reader.outstanding() < MAX_OUTSTANDING
    }

    /// The next events of the journal, as one record.
    fn next_record(&mut self) -> Option<Record> {
        let mut aggregate = Aggregate::default();
        let mut claims = Vec::new();
        while aggregate.bytes() < AGGREGATE_BYTES && self.may_read() {
            let Some((event, claim)) = self.reader.next() else { break };
            aggregate.push(event);
            claims.push(claim);
        }
        if aggregate.is_empty() {
            return None;
        }
        self.metrics.events_per_record.observe(claims.len() as f64);
        Some(Record::new(aggregate, claims))
    }

    /// Takes a call's answer: what the stream has is freed, what it has not is sent again, alone.
    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let Ended { attempt, begun, answer } = match ended {
            Ok(ended) => ended,
            // A bug: its events can be sent again by the next start only.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return,
        };
        let failures = attempt.failures + 1;
        let failed = match answer {
            Ok(put) => self.answered(attempt.batch, begun, &put),
            Err(error) => {
                self.pause(begun);
                self.metrics.failed_calls.with_label_values(&[&error.cause]).inc();
                self.log_failed_call(&error, attempt.batch.events());
                attempt.batch
            }
        };
        self.refusing.store(self.failures >= FAILURES_UNTIL_REFUSING, Ordering::Relaxed);
        if !failed.is_empty() {
            self.metrics.retried_records.inc_by(failed.records.len() as u64);
            self.retry(failed, failures);
        }
    }

    /// The stream took nothing of a call that began at `begun`: nothing is sent for a while. A call
    /// from before the last failure tells nothing new.
    fn pause(&mut self, begun: Instant) {
        if self.last_failure.is_some_and(|last_failure| begun < last_failure) {
            return;
        }
        self.failures += 1;
        self.last_failure = Some(Instant::now());
        // From its beginning: what was waited for its answer counts.
        self.paused_until = Some(begun + CALL_BACKOFF.delay(self.failures));
    }

    /// Sends the batch again: after the pause, where there is one, else when its shards had time.
    fn retry(&mut self, mut batch: Batch, failures: u32) {
        for record in &mut batch.records {
            // Another shard, perhaps: one that is ill holds nothing back for long.
            record.partition_key = Uuid::new_v4();
        }
        let wait = if self.is_ill() { Duration::ZERO } else { RECORD_BACKOFF.delay(failures) };
        let due = Instant::now() + wait;
        let later = self.retries.partition_point(|retry| retry.due <= due);
        self.retries.insert(later, Retry { due, attempt: Attempt { batch, failures } });
    }

    fn answered(&mut self, batch: Batch, begun: Instant, put: &Put) -> Batch {
        for code in &put.error_codes {
            self.metrics.failed_records.with_label_values(&[code]).inc();
        }
        if let Some(code) = put.error_codes.first() {
            let failed = put.error_codes.len();
            tracing::warn!(code, failed, "the stream did not take some records");
        }
        let (acknowledged, failed) = batch.split(&put.acknowledged);
        if acknowledged.is_empty() {
            self.pause(begun);
        } else {
            self.failures = 0;
        }
        self.metrics.delivered_records.inc_by(acknowledged.records.len() as u64);
        self.metrics.delivered_events.inc_by(acknowledged.events() as u64);
        for record in acknowledged.records {
            self.reader.acknowledge(&record.claims);
        }
        failed
    }

    /// An outage is a line now and then, not one a call; what only a person can mend is an error.
    fn log_failed_call(&self, error: &PutError, events: usize) {
        let failures = self.failures;
        if failures > FAILURES_UNTIL_REFUSING && !failures.is_multiple_of(20) {
            return;
        }
        let (cause, text) = (&error.cause, &error.text);
        if error.lasting {
            tracing::error!(
                cause,
                error = text,
                events,
                failures,
                "Kinesis refuses every call: check stream, permissions and keys; the events are kept"
            );
        } else {
            tracing::warn!(
                cause,
                error = text,
                events,
                failures,
                "PutRecords failed; the events are kept and sent again"
            );
        }
    }

    /// Tells a person, once, when the journal is nearly full and when it no longer is.
    fn watch_fill(&mut self) {
        let nearly_full = self.journal.is_nearly_full();
        if nearly_full == self.nearly_full {
            return;
        }
        self.nearly_full = nearly_full;
        let (used, capacity) = (self.journal.used_bytes(), self.journal.capacity_bytes());
        if nearly_full {
            tracing::error!(
                used,
                capacity,
                "the journal is nearly full; when it is, requests get 503"
            );
        } else {
            tracing::info!(used, capacity, "the journal has room again");
        }
    }

    /// Publishes what the metrics say of the journal.
    fn observe(&mut self) {
        self.watch_fill();
        let now = Timestamp::now().as_millisecond();
        let oldest = self.reader.oldest().and_then(|oldest| i64::try_from(oldest).ok());
        let age = oldest.map_or(0, |oldest| now.saturating_sub(oldest).max(0));
        let metrics = &self.metrics;
        metrics.journal_oldest_seconds.set(age as f64 / 1_000.0);
        metrics
            .journal_outstanding
            .set(i64::try_from(self.reader.unacknowledged()).unwrap_or(i64::MAX));
        metrics.journal_damaged.inc_by(self.reader.damaged() - metrics.journal_damaged.get());
    }
}

/// Which events are ripe to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ripe {
    /// Any: they have lingered.
    Any,
    /// As many as fill an aggregate.
    Whole,
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
