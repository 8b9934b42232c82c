//! An open-loop load generator: sends each request at its intended time, however slow the responses
//! are.
//!
//! Each worker is a thread with a share of the schedule and connections of its own. It waits for
//! whatever comes first: the next intended time, a response, a time-out. Workers share nothing while
//! they send.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use crate::recorder::{Slice, Totals};

mod addresses;
mod agenda;
mod connection;
mod job;
mod pool;
pub mod response;
mod timer;
mod worker;

pub use addresses::Addresses;
pub use connection::Tls;
use job::Outbox;
pub use job::{Accepted, Job, Start, unix_ms};

/// Time until the run starts: by then, every worker waits for its first request.
const HEAD_START: Duration = Duration::from_millis(100);

/// What the workers report during a run.
#[derive(Debug)]
pub struct Streams {
    /// The slices of all workers, as they end; closed when all workers have ended. One entry per slice
    /// and worker.
    pub slices: mpsc::UnboundedReceiver<Slice>,
    /// The accepted events, at least once per slice; empty unless the job follows them.
    pub accepted: mpsc::UnboundedReceiver<Vec<Accepted>>,
}

/// A run in progress.
#[derive(Debug)]
pub struct Running {
    /// Start of the run; up to 100 ms in the future.
    pub start: Start,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<std::io::Result<Totals>>>,
    kinds: usize,
}

/// Starts the workers.
///
/// # Errors
///
/// If a thread, a poll or a timer cannot be created.
pub fn start(job: Job) -> std::io::Result<(Running, Streams)> {
    let start = Start {
        instant: Instant::now() + HEAD_START,
        unix_ms: unix_ms(SystemTime::now() + HEAD_START),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (slice_sender, slices) = mpsc::unbounded_channel();
    let (accepted_sender, accepted) = mpsc::unbounded_channel();
    let outbox = Outbox { slices: slice_sender, accepted: accepted_sender };
    let kinds = job.traffic.kinds.len();
    let job = Arc::new(job);
    let mut workers = Vec::new();
    for number in 0..job.workers {
        let worker = worker::Worker::new(
            Arc::clone(&job),
            number,
            start,
            Arc::clone(&stop),
            outbox.clone(),
        )?;
        let thread = std::thread::Builder::new().name(format!("sender-{number}"));
        workers.push(thread.spawn(move || worker.run())?);
    }
    Ok((Running { start, stop, workers, kinds }, Streams { slices, accepted }))
}

/// Why a run's senders did not send to the end.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// A call to the system failed.
    #[error("a sender failed: {0}")]
    Failed(#[from] std::io::Error),
    /// A bug in the harness.
    #[error("a sender panicked; its message is above")]
    Panicked,
}

impl Running {
    /// A function that stops the sending. Workers still wait for the requests in flight.
    pub fn stopper(&self) -> impl Fn() + Send + 'static {
        let stop = Arc::clone(&self.stop);
        move || stop.store(true, Ordering::Relaxed)
    }

    /// Waits for all workers and adds up what they counted. Blocks until the slices are closed.
    ///
    /// # Errors
    ///
    /// If a worker failed or panicked.
    pub fn finish(self) -> Result<Totals, SenderError> {
        let mut totals = Totals::new(self.kinds);
        for worker in self.workers {
            totals.add(&worker.join().map_err(|_| SenderError::Panicked)??);
        }
        Ok(totals)
    }
}

/// Merges the slices of several workers.
#[derive(Debug)]
pub struct Merger {
    workers: usize,
    open: BTreeMap<u64, (usize, Slice)>,
}

impl Merger {
    /// A merger for this many workers.
    pub fn new(workers: usize) -> Self {
        Self { workers, open: BTreeMap::new() }
    }

    /// Adds a worker's slice. Returns the merged slice once every worker has contributed.
    pub fn add(&mut self, slice: Slice) -> Option<Slice> {
        let index = slice.index;
        match self.open.get_mut(&index) {
            Some((count, sum)) => {
                sum.add(&slice);
                *count += 1;
            }
            None => {
                self.open.insert(index, (1, slice));
            }
        }
        let complete = self.open.get(&index).is_some_and(|(count, _)| *count == self.workers);
        if complete { self.open.remove(&index).map(|(_, slice)| slice) } else { None }
    }

    /// The incomplete slices, in order: those that some workers did not reach.
    pub fn rest(self) -> impl Iterator<Item = Slice> {
        self.open.into_values().map(|(_, slice)| slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_a_slice_once_every_worker_contributed() {
        let mut merger = Merger::new(2);
        let slice = |index, sent| Slice { sent, ..Slice::new(index) };
        assert!(merger.add(slice(0, 1)).is_none());
        assert!(merger.add(slice(1, 10)).is_none());
        assert_eq!(merger.add(slice(0, 2)).map(|whole| whole.sent), Some(3));
        assert_eq!(merger.rest().map(|whole| whole.sent).collect::<Vec<_>>(), [10]);
    }
}
