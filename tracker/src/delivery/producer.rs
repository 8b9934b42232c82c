//! Drains the journal into the stream: reads events, makes calls, frees what the stream took. [`Schedule`]
//! decides when to call and what to send again.

use std::sync::Arc;
use std::time::Duration;

use adtrack_runtime::kinesis::{PutError, PutOutcome};
use adtrack_runtime::log_sampling::LogSampling;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use super::EventStream;
use super::batch::{AGGREGATE_BYTES, Batch, SplitBatch, StreamRecord};
use super::journal::{Journal, JournalReader};
use super::notices::Notices;
use super::schedule::{CallOutcome, FAILURES_UNTIL_REFUSING, PendingBatch, Schedule};
use crate::flag::Flag;
use crate::metrics::Metrics;
use crate::watchdog::{Progress, WakeUps};

/// Maximum bytes of events that are read and not acknowledged. Bounds the memory used while the stream is failing.
const MAX_UNACKNOWLEDGED_BYTES: usize = 6 * 1024 * 1024;
/// Maximum number of events whose space in the journal is not free yet. If one event keeps being rejected,
/// the space of at most this many later events, which are delivered, stays occupied.
const MAX_OUTSTANDING: usize = 200_000;
/// Time between two checks of the journal at shutdown.
const DRAIN_POLL: Duration = Duration::from_millis(5);
/// Time between two heartbeats of the journal.
pub const HEARTBEAT: Duration = Duration::from_secs(60);
/// How long the shutdown waits for the stream to take that the journal is closed. Otherwise the next start says it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// What the task may take beyond the deadline of the final drain.
const DRAIN_SLACK: Duration = Duration::from_secs(1);
/// Which failed calls of an outage are logged.
const FAILED_CALLS_LOG: LogSampling = LogSampling { first: FAILURES_UNTIL_REFUSING, every: 20 };

/// The task that delivers.
#[derive(Debug)]
pub struct Producer {
    journal: Journal,
    reader: JournalReader,
    stream: Arc<EventStream>,
    linger: Duration,
    metrics: Arc<Metrics>,
    /// Set while the stream keeps failing, for the health checks.
    stream_refusing: Flag,
    schedule: Schedule,
    /// Whether the log says that the journal is nearly full.
    reported_nearly_full: bool,
    notices: Notices,
}

/// A call that has ended.
#[derive(Debug)]
struct CompletedCall {
    pending: PendingBatch,
    started_at: Instant,
    result: Result<PutOutcome, PutError>,
}

type Calls = JoinSet<CompletedCall>;

/// A running producer.
#[derive(Debug)]
pub struct Delivery {
    /// None once it ended on its own.
    task: Option<JoinHandle<()>>,
    stop: oneshot::Sender<Instant>,
}

impl Delivery {
    /// Waits until delivery ends on its own, which it never should.
    pub async fn wait_for_end(&mut self) {
        if let Some(task) = &mut self.task {
            report_panic(task.await);
            self.task = None;
        }
    }

    /// Delivers what is left until `deadline`; nothing if delivery ended on its own. Gives up a task that is
    /// blocked and does not end then.
    pub async fn drain(self, deadline: Instant) {
        // Fails only if the producer has ended, which its task reports.
        let _ = self.stop.send(deadline);
        let Some(task) = self.task else { return };
        let end = tokio::time::timeout_at(deadline + DRAIN_SLACK, task).await;
        match end {
            Ok(result) => report_panic(result),
            Err(_) => tracing::error!("delivery is blocked; this is a bug in adtrack"),
        }
    }
}

fn report_panic(result: Result<(), JoinError>) {
    if let Err(error) = result {
        tracing::error!(%error, "delivery panicked; this is a bug in adtrack");
    }
}

impl Producer {
    /// Sends what `journal` accepts to `stream`, about `linger` after it was accepted if the stream keeps up.
    pub fn new(
        journal: Journal,
        stream: EventStream,
        linger: Duration,
        metrics: Arc<Metrics>,
        stream_refusing: Flag,
        announced: Flag,
    ) -> Self {
        Self {
            reader: journal.reader(),
            notices: Notices::new(journal.clone(), HEARTBEAT, announced),
            journal,
            stream: Arc::new(stream),
            linger,
            metrics,
            stream_refusing,
            schedule: Schedule::default(),
            reported_nearly_full: false,
        }
    }

    /// Starts the task, whose progress goes to `progress`.
    pub fn start(self, progress: &Progress) -> Delivery {
        let (stop, stopped) = oneshot::channel();
        let run = progress.watch("delivery", WakeUps::Regular, self.run(stopped));
        Delivery { task: Some(tokio::spawn(run)), stop }
    }

    /// Delivers until `stop` gives the deadline of the final drain.
    async fn run(mut self, mut stop: oneshot::Receiver<Instant>) {
        let mut calls = Calls::new();
        let mut tick = tokio::time::interval(self.linger);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let deadline = loop {
            let wake_up_at = self.schedule.wake_up_at(Instant::now());
            let mut fill = Fill::FullAggregates;
            tokio::select! {
                _ = tick.tick() => fill = Fill::Any,
                () = sleep_until(wake_up_at) => {}
                Some(call) = calls.join_next() => self.on_call_completed(call),
                // If the sender is gone, nobody grants time to drain.
                deadline = &mut stop => break deadline.unwrap_or_else(|_| Instant::now()),
            }
            self.notices.on_tick(Instant::now());
            self.dispatch(&mut calls, fill);
            self.observe();
        };
        // Dropping `calls` cancels the calls that are still in flight at the deadline.
        let _ = tokio::time::timeout_at(deadline, self.drain(&mut calls)).await;
    }

    /// Delivers until the journal, which takes no more events, is empty, and what it has to say of itself is said:
    /// last that it is closed, unless a call takes too long.
    async fn drain(&mut self, calls: &mut Calls) {
        self.drain_while(calls, |producer| producer.journal.used_bytes() > 0).await;
        self.notices.close();
        let say_it = self.drain_while(calls, |producer| producer.notices.are_waiting());
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, say_it).await;
    }

    async fn drain_while(&mut self, calls: &mut Calls, is_left: impl Fn(&Self) -> bool) {
        while is_left(self) {
            self.dispatch(calls, Fill::Any);
            let wake_up_at = self.schedule.wake_up_at(Instant::now());
            tokio::select! {
                Some(call) = calls.join_next() => self.on_call_completed(call),
                () = sleep_until(wake_up_at) => {}
                () = tokio::time::sleep(DRAIN_POLL) => {}
            }
        }
    }

    /// Sends what is due, retries first, while the schedule allows calls; the rest waits in the
    /// journal.
    fn dispatch(&mut self, calls: &mut Calls, fill: Fill) {
        let now = Instant::now();
        while self.schedule.may_call(now) {
            let pending = self
                .schedule
                .take_due_retry(now)
                .unwrap_or_else(|| PendingBatch { batch: self.next_batch(fill), failures: 0 });
            if pending.batch.is_empty() {
                return;
            }
            self.schedule.on_call_started(now);
            self.metrics.delivery.put_records_calls.inc();
            let (stream, metrics) = (Arc::clone(&self.stream), Arc::clone(&self.metrics));
            calls.spawn(async move {
                let timer = metrics.delivery.put_records_seconds.start_timer();
                let result = stream.put(&pending.batch, pending.failures).await;
                timer.observe_duration();
                CompletedCall { pending, started_at: now, result }
            });
        }
    }

    /// The events that wait, as many as fit into one call; one record while the stream is failing.
    fn next_batch(&mut self, fill: Fill) -> Batch {
        let mut batch = Batch::default();
        while batch.has_room_for(AGGREGATE_BYTES) {
            if let Some(notice) = self.notices.next() {
                batch.push(notice);
                if self.schedule.is_failing() {
                    break;
                }
                continue;
            }
            if fill == Fill::FullAggregates && self.reader.unread_bytes() < AGGREGATE_BYTES as u64 {
                break;
            }
            let record = self.next_record();
            self.notices.add_damages(self.reader.take_damages());
            match record {
                Some(record) => batch.push(record),
                None => break,
            }
            if self.schedule.is_failing() {
                break;
            }
        }
        batch
    }

    /// The next events of the journal, as one record.
    fn next_record(&mut self) -> Option<StreamRecord> {
        let may_read = |reader: &JournalReader| {
            reader.unacknowledged_bytes() < MAX_UNACKNOWLEDGED_BYTES
                && reader.outstanding() < MAX_OUTSTANDING
        };
        let record = StreamRecord::next(&mut self.reader, may_read)?;
        self.metrics.delivery.events_per_record.observe(record.aggregate.len() as f64);
        Some(record)
    }

    /// Frees the space of what the stream took, and schedules the rest to be sent again.
    fn on_call_completed(&mut self, call: Result<CompletedCall, JoinError>) {
        let CompletedCall { pending, started_at, result } = match call {
            Ok(call) => call,
            // A bug. The events stay in the journal until the next start.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return,
        };
        let PendingBatch { batch, failures } = pending;
        let (delivered, rejected, error) = match result {
            Ok(outcome) => {
                self.report_rejections(&outcome);
                let SplitBatch { delivered, rejected } = batch.split(&outcome);
                (delivered, rejected, None)
            }
            Err(error) => (Batch::default(), batch, Some(error)),
        };
        let outcome =
            if delivered.is_empty() { CallOutcome::Failed } else { CallOutcome::Delivered };
        let now = Instant::now();
        self.schedule.on_call_completed(started_at, outcome, now);
        self.stream_refusing.set(self.schedule.is_refusing());
        if let Some(error) = error {
            self.report_failed_call(&error, rejected.events());
        }
        self.acknowledge(&delivered);
        if !rejected.is_empty() {
            self.metrics.delivery.retried_records.inc_by(rejected.records.len() as u64);
            self.schedule.retry(PendingBatch { batch: rejected, failures: failures + 1 }, now);
        }
    }

    fn acknowledge(&mut self, delivered: &Batch) {
        self.metrics.delivery.delivered_records.inc_by(delivered.records.len() as u64);
        self.metrics.delivery.delivered_events.inc_by(delivered.events() as u64);
        for record in &delivered.records {
            self.reader.acknowledge(&record.claims);
            self.notices.on_delivered(record);
        }
    }

    fn report_rejections(&self, outcome: &PutOutcome) {
        for code in outcome.error_codes() {
            self.metrics.delivery.failed_records.with_label_values(&[code]).inc();
        }
        if let Some(code) = outcome.error_codes().next() {
            let failed = outcome.error_codes().count();
            tracing::warn!(code, failed, "the stream did not take some records");
        }
    }

    /// Counts the failure. Logs some failures of an outage, not each; one that only an operator can fix is
    /// logged as an error.
    fn report_failed_call(&self, error: &PutError, events: usize) {
        let PutError { cause, text, permanent, .. } = error;
        self.metrics.delivery.failed_calls.with_label_values(&[cause]).inc();
        let failures = self.schedule.failures();
        if !FAILED_CALLS_LOG.includes(failures) {
            return;
        }
        if *permanent {
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

    /// Logs once when the journal is nearly full, and once when it no longer is.
    fn report_fill_level(&mut self) {
        let nearly_full = self.journal.is_nearly_full();
        if nearly_full == self.reported_nearly_full {
            return;
        }
        self.reported_nearly_full = nearly_full;
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

    /// Updates the journal's metrics.
    fn observe(&mut self) {
        self.report_fill_level();
        let metrics = &self.metrics;
        metrics
            .delivery
            .journal_outstanding
            .set(i64::try_from(self.reader.unacknowledged_events()).unwrap_or(i64::MAX));
        metrics
            .delivery
            .journal_damaged
            .inc_by(self.reader.damaged_stretches() - metrics.delivery.journal_damaged.get());
    }
}

/// Which of the journal's events a batch takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    /// All: the oldest have waited for the linger time.
    Any,
    /// Only as many as fill whole aggregates.
    FullAggregates,
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
