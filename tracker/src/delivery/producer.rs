//! Drains the buffer into the stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adtrack_runtime::backoff::Backoff;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use super::batch::Batch;
use super::buffer::EventBuffer;
use super::kinesis::{KinesisStream, Put, PutError};
use crate::metrics::Metrics;
use crate::track::AcceptedEvent;

/// `PutRecords` under way at a time: 500 records each, at 20 ms a call about 100,000 records/s.
const MAX_IN_FLIGHT: usize = 4;
/// Failed calls or batches in a row until the stream counts as refusing: one throttle is no alarm.
const FAILURES_UNTIL_REFUSING: u32 = 3;
const BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(50), ceiling: Duration::from_secs(5) };
/// Between two looks for events that are just being accepted, at shutdown.
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// The task that delivers.
#[derive(Debug)]
pub struct Producer {
    buffer: EventBuffer,
    stream: Arc<KinesisStream>,
    linger: Duration,
    metrics: Arc<Metrics>,
    refusing: Arc<AtomicBool>,
    /// The event that did not fit the last batch: the first of the next.
    held: Option<AcceptedEvent>,
    /// What failed, in the order in which it is due.
    retries: VecDeque<Retry>,
    /// Calls or batches that failed in a row.
    failures: u32,
    /// Until when nothing is sent, because a whole call failed.
    paused_until: Option<Instant>,
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

/// How the drain at shutdown ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Events that the stream did not take in time.
    pub left: u64,
}

/// Delivery under way.
#[derive(Debug)]
pub struct Delivery {
    task: JoinHandle<Drained>,
    stop: oneshot::Sender<Instant>,
}

impl Delivery {
    /// Waits until delivery ends by itself, which it never should.
    pub async fn ended(&mut self) {
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "delivery panicked; this is a bug in adtrack");
        }
    }

    /// Delivers what is left, until `deadline` at the latest.
    pub async fn drain(self, deadline: Instant) -> Drained {
        // A producer that has ended shows in its task.
        let _ = self.stop.send(deadline);
        self.task.await.unwrap_or(Drained { left: u64::MAX })
    }
}

type Calls = JoinSet<(Attempt, Result<Put, PutError>)>;

impl Producer {
    /// Delivers what `buffer` takes to `stream`, `linger` after it came or earlier. `refusing`
    /// tells the health checks whether the stream keeps failing.
    pub fn new(
        buffer: EventBuffer,
        stream: KinesisStream,
        linger: Duration,
        metrics: Arc<Metrics>,
        refusing: Arc<AtomicBool>,
    ) -> Self {
        Self {
            buffer,
            stream: Arc::new(stream),
            linger,
            metrics,
            refusing,
            held: None,
            retries: VecDeque::new(),
            failures: 0,
            paused_until: None,
        }
    }

    /// Starts to deliver.
    pub fn start(self) -> Delivery {
        let (stop, stopped) = oneshot::channel();
        Delivery { task: tokio::spawn(self.run(stopped)), stop }
    }

    /// Delivers until `stop` comes, which says until when what is left may be drained.
    async fn run(mut self, mut stop: oneshot::Receiver<Instant>) -> Drained {
        let mut calls = Calls::new();
        let mut tick = tokio::time::interval(self.linger);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let deadline = loop {
            let wake_up = self.wake_up(&calls);
            tokio::select! {
                _ = tick.tick() => {}
                () = until(wake_up) => {}
                Some(ended) = calls.join_next() => self.ended(ended),
                // Where nobody is left to say when, there is no time.
                deadline = &mut stop => break deadline.unwrap_or_else(|_| Instant::now()),
            }
            self.dispatch(&mut calls);
        };
        // What is under way when time is up ends with `calls`.
        let _ = tokio::time::timeout_at(deadline, self.drain(&mut calls)).await;
        Drained { left: self.buffer.events() }
    }

    /// Delivers until the buffer, closed by now, has nothing left: neither waiting, nor under way,
    /// nor about to be appended by a request that came before it was closed.
    async fn drain(&mut self, calls: &mut Calls) {
        while self.buffer.bytes() > 0 {
            self.dispatch(calls);
            let wake_up = self.wake_up(calls);
            tokio::select! {
                Some(ended) = calls.join_next() => self.ended(ended),
                () = until(wake_up) => {}
                () = tokio::time::sleep(DRAIN_POLL) => {}
            }
        }
    }

    /// When the pause ends, or the next retry is due; none: nothing waits for a time, or no call is
    /// free.
    fn wake_up(&self, calls: &Calls) -> Option<Instant> {
        let due = || self.retries.front().map(|retry| retry.due);
        (calls.len() < MAX_IN_FLIGHT).then(|| self.paused_until.or_else(due)).flatten()
    }

    /// Sends what is due, retries first, as far as calls are free; the rest waits in the buffer.
    fn dispatch(&mut self, calls: &mut Calls) {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| now < until) {
            return;
        }
        self.paused_until = None;
        while calls.len() < MAX_IN_FLIGHT {
            let due = self.retries.pop_front_if(|retry| retry.due <= now);
            let attempt = match due {
                Some(retry) => retry.attempt,
                None => Attempt { batch: self.next_batch(), failures: 0 },
            };
            if attempt.batch.is_empty() {
                return;
            }
            self.metrics.put_records_calls.inc();
            let (stream, metrics) = (Arc::clone(&self.stream), Arc::clone(&self.metrics));
            calls.spawn(async move {
                let timer = metrics.put_records_seconds.start_timer();
                let answer = stream.put(&attempt.batch).await;
                timer.observe_duration();
                (attempt, answer)
            });
        }
    }

    /// The events that wait, as many as go into one call.
    fn next_batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        while let Some(event) = self.held.take().or_else(|| self.buffer.pop()) {
            if let Err(event) = batch.try_push(event) {
                self.held = Some(event);
                break;
            }
        }
        batch
    }

    /// Takes a call's answer: what the stream has is freed, what it has not is sent again, alone.
    fn ended(&mut self, ended: Result<(Attempt, Result<Put, PutError>), tokio::task::JoinError>) {
        let (attempt, answer) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(%error, "a PutRecords call panicked; its events are lost");
                return;
            }
        };
        let failures = attempt.failures + 1;
        let failed = match answer {
            Ok(put) => self.answered(attempt.batch, &put),
            Err(error) => {
                self.failures += 1;
                self.paused_until = Some(Instant::now() + BACKOFF.delay(self.failures));
                self.metrics.failed_calls.with_label_values(&[&error.cause]).inc();
                tracing::warn!(
                    cause = error.cause,
                    error = error.text,
                    records = attempt.batch.events.len(),
                    "PutRecords failed; the events are kept and sent again"
                );
                attempt.batch
            }
        };
        self.refusing.store(self.failures >= FAILURES_UNTIL_REFUSING, Ordering::Relaxed);
        if !failed.is_empty() {
            self.metrics.retried_records.inc_by(failed.events.len() as u64);
            let due = Instant::now() + BACKOFF.delay(failures);
            let later = self.retries.partition_point(|retry| retry.due <= due);
            let attempt = Attempt { batch: failed, failures };
            self.retries.insert(later, Retry { due, attempt });
        }
    }

    fn answered(&mut self, batch: Batch, put: &Put) -> Batch {
        for code in &put.error_codes {
            self.metrics.failed_records.with_label_values(&[code]).inc();
        }
        if let Some(code) = put.error_codes.first() {
            let failed = put.error_codes.len();
            tracing::warn!(code, failed, "the stream did not take some records");
        }
        let (acknowledged, failed) = batch.split(&put.acknowledged);
        self.failures = if acknowledged.is_empty() { self.failures + 1 } else { 0 };
        self.metrics.delivered_records.inc_by(acknowledged.len() as u64);
        self.buffer.acknowledged(&acknowledged);
        failed
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
