//! Drains the buffer into the stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adtrack_runtime::backoff::Backoff;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use super::batch::Batch;
use super::buffer::EventBuffer;
use super::kinesis::KinesisStream;
use crate::metrics::Metrics;
use crate::track::AcceptedEvent;

/// `PutRecords` under way at a time: 500 records each, at 20 ms a call about 100,000 records/s.
const MAX_IN_FLIGHT: usize = 4;
/// Failed tries of one batch until the stream counts as refusing: a throttle alone is no alarm.
const FAILURES_UNTIL_REFUSING: u32 = 3;
const BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(50), ceiling: Duration::from_secs(5) };

/// The task that delivers.
#[derive(Debug)]
pub struct Producer {
    buffer: EventBuffer,
    /// The event that did not fit the last batch: the first of the next.
    held: Option<AcceptedEvent>,
    sender: Arc<Sender>,
    linger: Duration,
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
    /// Delivers what is left, until `deadline` at the latest.
    pub async fn drain(self, deadline: Instant) -> Drained {
        // A producer that has ended (it panicked) shows in its task.
        let _ = self.stop.send(deadline);
        self.task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "delivery ended before its time");
            Drained { left: u64::MAX }
        })
    }
}

#[derive(Debug)]
struct Sender {
    stream: KinesisStream,
    buffer: EventBuffer,
    metrics: Arc<Metrics>,
    refusing: Arc<AtomicBool>,
}

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
        let sender = Arc::new(Sender { stream, buffer: buffer.clone(), metrics, refusing });
        Self { buffer, held: None, sender, linger }
    }

    /// Starts to deliver.
    pub fn start(self) -> Delivery {
        let (stop, stopped) = oneshot::channel();
        Delivery { task: tokio::spawn(self.run(stopped)), stop }
    }

    /// Delivers until `stop` comes, which says until when what is left may be drained.
    async fn run(mut self, mut stop: oneshot::Receiver<Instant>) -> Drained {
        let mut calls = JoinSet::new();
        let mut tick = tokio::time::interval(self.linger);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let deadline = loop {
            tokio::select! {
                _ = tick.tick() => {}
                Some(_) = calls.join_next() => {}
                // Where nobody is left to say when, there is no time.
                deadline = &mut stop => break deadline.unwrap_or_else(|_| Instant::now()),
            }
            self.dispatch(&mut calls);
        };
        let drain = async {
            self.dispatch(&mut calls);
            while calls.join_next().await.is_some() {
                self.dispatch(&mut calls);
            }
        };
        // What is under way when time is up ends with `calls`.
        let _ = tokio::time::timeout_at(deadline, drain).await;
        Drained { left: self.buffer.events() }
    }

    /// Sends what waits, in batches, as far as lanes are free; the rest stays in the buffer.
    fn dispatch(&mut self, calls: &mut JoinSet<()>) {
        while calls.len() < MAX_IN_FLIGHT {
            let batch = self.next_batch();
            if batch.is_empty() {
                return;
            }
            let sender = Arc::clone(&self.sender);
            calls.spawn(async move { sender.deliver(batch).await });
        }
    }

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
}

impl Sender {
    /// Puts the batch, and again what failed of it, until the stream has all of it.
    async fn deliver(&self, mut batch: Batch) {
        let mut failures = 0;
        loop {
            batch = self.put(batch).await;
            if batch.is_empty() {
                self.refusing.store(false, Ordering::Relaxed);
                return;
            }
            failures += 1;
            if failures >= FAILURES_UNTIL_REFUSING {
                self.refusing.store(true, Ordering::Relaxed);
            }
            self.metrics.retried_records.inc_by(batch.events.len() as u64);
            tokio::time::sleep(BACKOFF.delay(failures)).await;
        }
    }

    /// One call. Returns what the stream does not have.
    async fn put(&self, batch: Batch) -> Batch {
        let metrics = &self.metrics;
        metrics.put_records_calls.inc();
        let timer = metrics.put_records_seconds.start_timer();
        let answer = self.stream.put(&batch).await;
        timer.observe_duration();
        match answer {
            Ok(put) => {
                for code in &put.error_codes {
                    metrics.failed_records.with_label_values(&[code]).inc();
                }
                if let Some(code) = put.error_codes.first() {
                    let failed = put.error_codes.len();
                    tracing::warn!(code, failed, "the stream did not take some records");
                }
                let (acknowledged, failed) = batch.split(&put.acknowledged);
                metrics.delivered_records.inc_by(acknowledged.len() as u64);
                self.buffer.acknowledged(&acknowledged);
                failed
            }
            Err(error) => {
                metrics.failed_calls.with_label_values(&[&error.cause]).inc();
                tracing::warn!(
                    cause = error.cause,
                    error = error.text,
                    records = batch.events.len(),
                    "PutRecords failed; the events are kept and sent again"
                );
                batch
            }
        }
    }
}
