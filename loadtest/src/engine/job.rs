//! What the workers of a run are given.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use super::connection::Tls;
use crate::recorder::Slice;
use crate::request::Traffic;
use crate::schedule::Schedule;

/// What to send where.
#[derive(Debug)]
pub struct Job {
    /// The requests.
    pub traffic: Traffic,
    /// Their times.
    pub schedule: Schedule,
    /// Makes the requests of a run the same as those of another.
    pub seed: u64,
    /// Connections go to these in turn; at least one.
    pub addresses: Vec<SocketAddr>,
    /// For https.
    pub tls: Option<Tls>,
    /// Whether connections are used again.
    pub keep_alive: bool,
    /// How long to wait for an answer.
    pub timeout: Duration,
    /// Requests in flight at once, of all workers.
    pub max_in_flight: usize,
    /// Threads.
    pub workers: usize,
    /// How long a slice of the run is.
    pub slice: Duration,
    /// Whether message ids are handed on.
    pub follow: bool,
}

/// An event that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its message id.
    pub id: u128,
    /// When the answer was there, milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// When a run began, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// For durations.
    pub instant: Instant,
    /// For comparison with what others wrote down.
    pub unix_ms: u64,
}

/// What a worker hands on while it works.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    pub(super) slices: mpsc::UnboundedSender<Slice>,
    pub(super) accepted: mpsc::UnboundedSender<Vec<Accepted>>,
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
