//! The input of a run's workers, and what they send back.

use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use super::addresses::Addresses;
use super::connection::Tls;
use crate::recorder::Slice;
use crate::request::Traffic;
use crate::schedule::Schedule;

/// Which requests to send, when and where.
#[derive(Debug)]
pub struct Job {
    /// Source of the requests.
    pub traffic: Traffic,
    /// Intended times of the requests.
    pub schedule: Schedule,
    /// Seed of the random numbers: runs with the same seed send the same requests.
    pub seed: u64,
    /// Addresses that connections go to.
    pub addresses: Addresses,
    /// TLS, if the target is https.
    pub tls: Option<Tls>,
    /// Whether connections are reused.
    pub keep_alive: bool,
    /// How long to wait for a response.
    pub timeout: Duration,
    /// Most requests in flight at a time, over all workers; at least one for each.
    pub max_in_flight: usize,
    /// Requests that are due before this time are sent, but left out of the run's latencies and lags.
    pub warm_up: Duration,
    /// Number of worker threads.
    pub workers: usize,
    /// Length of a slice of the run.
    pub slice: Duration,
    /// Whether workers report the message ids of accepted events.
    pub follow: bool,
}

/// An accepted event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Message id.
    pub id: u128,
    /// When the response was complete, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Id of the event that its row has to be linked to; 0 if none.
    pub link: u128,
    /// Digest of what its row has to hold ([`crate::attributes`]); 0 if that is not known.
    pub digest: u64,
}

impl Job {
    /// Most requests in flight of the worker `number`.
    pub(super) fn room_of(&self, number: usize) -> usize {
        self.max_in_flight / self.workers + usize::from(number < self.max_in_flight % self.workers)
    }
}

/// The start of a run on two clocks.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// On the monotonic clock, for durations.
    pub instant: Instant,
    /// On the system clock, to compare with the times of other processes.
    pub unix_ms: u64,
}

/// The channels on which a worker reports while it works.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    pub(super) slices: mpsc::UnboundedSender<Slice>,
    pub(super) accepted: mpsc::UnboundedSender<Vec<Accepted>>,
}

/// Converts a time to milliseconds since the Unix epoch; 0 for earlier times.
pub fn unix_ms(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
