//! Sends requests at their times, whatever the answers take.
//!
//! Each worker is a thread with its share of the schedule, its own connections and one wait for
//! whatever comes first: the next intended time, an answer, a time-out. Nothing is shared on the
//! way of a request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use crate::recorder::{Slice, Totals};

mod connection;
mod job;
pub mod response;
mod timer;
mod worker;

pub use connection::Tls;
use job::Outbox;
pub use job::{Accepted, Job, Start, unix_ms};

/// The end of the preparations: by then every worker waits for its first request.
const HEAD_START: Duration = Duration::from_millis(100);

/// What comes of a run while it goes on.
#[derive(Debug)]
pub struct Streams {
    /// The slices of all workers, as they end; closed when all have ended. At most one a slice and
    /// worker waits here.
    pub slices: mpsc::UnboundedReceiver<Slice>,
    /// What was accepted, at least once a slice, where it is to be followed.
    pub accepted: mpsc::UnboundedReceiver<Vec<Accepted>>,
}

/// A run under way.
#[derive(Debug)]
pub struct Running {
    /// When it began.
    pub start: Start,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<std::io::Result<Totals>>>,
    kinds: usize,
}

/// Starts the workers.
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

impl Running {
    /// Something that ends the sending; what is in flight is still waited for.
    pub fn stopper(&self) -> impl Fn() + Send + 'static {
        let stop = Arc::clone(&self.stop);
        move || stop.store(true, Ordering::Relaxed)
    }

    /// What all workers saw. Call it when the slices are closed: until then it blocks.
    pub fn finish(self) -> Result<Totals, String> {
        let mut totals = Totals::new(self.kinds);
        for worker in self.workers {
            match worker.join() {
                Ok(Ok(one)) => totals.add(&one),
                Ok(Err(error)) => return Err(format!("a sender failed: {error}")),
                Err(_) => return Err("a sender ended by a bug; its message is above".to_owned()),
            }
        }
        Ok(totals)
    }
}

/// Puts the slices of several workers together.
#[derive(Debug)]
pub struct Merger {
    workers: usize,
    open: BTreeMap<u64, (usize, Slice)>,
}

impl Merger {
    /// Of so many workers.
    pub fn new(workers: usize) -> Self {
        Self { workers, open: BTreeMap::new() }
    }

    /// Takes a worker's slice; returns it with those of all others once they are there.
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

    /// What is left when some workers ended before others, in order.
    pub fn rest(self) -> impl Iterator<Item = Slice> {
        self.open.into_values().map(|(_, slice)| slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_whole_when_every_worker_has_given_its_own() {
        let mut merger = Merger::new(2);
        let slice = |index, sent| Slice { sent, ..Slice::new(index) };
        assert!(merger.add(slice(0, 1)).is_none());
        assert!(merger.add(slice(1, 10)).is_none());
        assert_eq!(merger.add(slice(0, 2)).map(|whole| whole.sent), Some(3));
        assert_eq!(merger.rest().map(|whole| whole.sent).collect::<Vec<_>>(), [10]);
    }
}
